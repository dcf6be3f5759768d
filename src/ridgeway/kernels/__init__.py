"""The math of a weight stream, without policy: NumPy as the oracle, compiled kernels for speed."""
