"""NumPy kernels that read like the papers. Every other kernel must agree with these."""
