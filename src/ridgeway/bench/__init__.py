"""What a method, a batch size or another engine is worth, measured side by side on one machine.

A rate means little by itself on a machine whose speed drifts, so everyone who is compared takes turns in every
repeat, with the same token ids, the same budget and the same model file; ratios are taken inside a repeat.
"""
