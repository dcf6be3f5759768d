"""Which instructions multiply int8: chosen by the processor's features, all with the same integers as result.

The product of a 4-byte piece of an unpacked weight vector with four activation bytes, summed into 32 bits, is one
instruction with VNNI, three with AVX2, and plain integer arithmetic anywhere else.
"""

import os
from dataclasses import dataclass

from ridgeway.core.errors import MachineError, did_you_mean

VARIABLE = "RIDGEWAY_CPU_ISA"


@dataclass(frozen=True)
class InstructionSet:
    """lanes: 32-bit lanes of one register as the kernels use it, of which there are `registers`.

    needs: LLVM's names of the features it takes. row_blocks: how many rows share one unpacking of a tile, largest
    first; more need more registers. Every number below the largest is a sum of different smaller ones.
    """

    name: str
    lanes: int
    registers: int
    needs: tuple[str, ...]
    row_blocks: tuple[int, ...]


_AVX512 = ("avx512f", "avx512bw", "avx512vl", "avx512vnni", "f16c")
INSTRUCTION_SETS = {
    isa.name: isa
    for isa in (
        InstructionSet("avx512vnni", 16, 32, _AVX512, (8, 7, 6, 5, 4, 3, 2, 1)),
        InstructionSet("avxvnni", 8, 16, ("avx2", "fma", "f16c", "avxvnni"), (4, 3, 2, 1)),
        InstructionSet("avx2", 8, 16, ("avx2", "fma", "f16c"), (4, 3, 2, 1)),
        InstructionSet("portable", 16, 32, (), (4, 3, 2, 1)),
    )
}


def processor_features() -> frozenset[str]:
    """LLVM's names of what this processor can do."""
    import llvmlite.binding as llvm

    return frozenset(name for name, present in llvm.get_host_cpu_features().items() if present)


def choose_instruction_set(name: str | None = None) -> InstructionSet:
    """The one called `name`, or that of the environment variable `RIDGEWAY_CPU_ISA`, or the fastest there is.

    Raises MachineError for a name that does not exist or that this processor cannot run.
    """
    features = processor_features()
    name = name or os.environ.get(VARIABLE) or None
    if name is None:
        return next(isa for isa in INSTRUCTION_SETS.values() if features.issuperset(isa.needs))
    if name not in INSTRUCTION_SETS:
        raise MachineError(f"instruction set {name!r}: {did_you_mean(name, INSTRUCTION_SETS)}")
    missing = sorted(set(INSTRUCTION_SETS[name].needs) - features)
    if missing:
        raise MachineError(f"instruction set {name!r}: this processor lacks {', '.join(missing)}")
    return INSTRUCTION_SETS[name]
