"""A weight stream of a quantized model in kernels compiled for the processor at hand."""

from ridgeway.executors.cpu.executor import CpuExecutor

__all__ = ["CpuExecutor"]
