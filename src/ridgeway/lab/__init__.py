"""The interactive page: the memory wall for any model and machine, every figure of it out of the cost model."""
