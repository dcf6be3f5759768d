"""Compiled kernels for the processor at hand: Numba, LLVM intrinsics, no compiler to install.

`isa` chooses the instructions, `lanes` makes vectors usable in Numba functions, `tiles` reorders weights, `matmul`
multiplies them; `activation`, `attention` and `sampling` are the rest of a weight stream, `stream` runs one whole, and
`team` shares its work among threads. Numba is imported by what is compiled alone: see `kernels` and `compilation`.
"""
