"""The kernels that a team runs. Their sources, and with them Numba, are imported only to be compiled."""

from ridgeway.kernels.cpu.compilation import Compiler, Function, Kernel


def stream_kernel(compiler: Compiler) -> Kernel:
    """The kernel (control, step, member, number) that every member of a team calls for one weight stream."""

    def make() -> Function:
        from ridgeway.kernels.cpu.stream import weight_stream

        return weight_stream

    return compiler.kernel("stream", make, ("control", "step", "member", "number"))


def select_kernel(compiler: Compiler) -> Kernel:
    """The kernel (control, table, member, number, scratch) that every member of a team calls to draw tokens."""

    def make() -> Function:
        from ridgeway.kernels.cpu.sampling import select

        return select

    return compiler.kernel("select", make, ("control", "table", "member", "number", "scratch"))


def unpack_kernel(compiler: Compiler) -> Kernel:
    """The kernel (packed, row_bytes, tokens, count, out, stride) that unpacks rows in Q8_0; see `unpack`."""

    def make() -> Function:
        from ridgeway.kernels.cpu.unpack import unpack_q8_0

        return unpack_q8_0

    return compiler.kernel("unpack", make, ("packed", "row_bytes", "tokens", "count", "out", "stride"))


def unroll_kernel(compiler: Compiler) -> Kernel:
    """The kernel (control, table, member, number) that every member of a team calls to unroll a draft head."""

    def make() -> Function:
        from ridgeway.kernels.cpu.unroll import unroll

        return unroll

    return compiler.kernel("unroll", make, ("control", "table", "member", "number"))
