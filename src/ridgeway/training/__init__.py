"""Diffusion models, trained: the objectives of masked and block diffusion, and what is needed to train with them. And
draft heads, for models that there are already.

The only part of the package that imports torch (the extra `train`).
"""
