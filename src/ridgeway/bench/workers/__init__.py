"""Scripts that run other engines, each in a process of its own and maybe in another Python environment.

`worker.py` is run by path with the name of an adapter beside it. These files import nothing of Ridgeway and, when
they are read, nothing but the standard library: the other Python need not have Ridgeway, nor this one the engine.
"""
