"""From a Python function to an LLVM module that stands alone.

Numba takes half a second to import and to get ready, so only who compiles imports this module.
"""

from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core.compiler import Flags, compile_extra
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target


@global_compiler_lock
def lowered(name: str, function: Callable[..., None], arguments: int) -> Any:
    """The optimized module of a C function `name` of `arguments` 64-bit integers that does what `function` does.

    Nothing else in it can be seen from outside: Numba names functions by a counter of the process, so that modules
    made by different processes could take each other's.
    """
    flags: Any = Flags()
    flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True  # these would need Numba's runtime
    flags.error_model = "numpy"
    typing, target = cpu_target.typing_context, cpu_target.target_context
    typing.refresh()
    target.refresh()
    longs = (types.int64,) * arguments
    compiled = compile_extra(typing, target, function, longs, types.void, flags, {})

    library = target.codegen().create_library(name)
    module = library.create_ir_module(name)
    entry = ir.Function(module, ir.FunctionType(ir.VoidType(), [ir.IntType(64)] * arguments), name)
    builder = ir.IRBuilder(entry.append_basic_block())
    callee = target.declare_function(module, compiled.fndesc)
    target.call_conv.call_function(builder, callee, types.void, longs, entry.args)
    builder.ret_void()
    library.add_ir_module(module)
    library.add_linking_library(compiled.library)
    library.finalize()

    whole = llvm.parse_assembly(library.get_llvm_str())
    for part in (*whole.functions, *whole.global_variables):
        if not part.is_declaration and part.name != name:
            part.linkage = "internal"
    return whole
