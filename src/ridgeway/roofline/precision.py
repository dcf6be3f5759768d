"""Precisions: how many bits a weight takes, and in which arithmetic it is multiplied.

Packing weights alone leaves the arithmetic as it was: four-bit weights are multiplied in bf16. Only formats that
hold activations in the narrow type too (int8, fp8) run at its rate.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from ridgeway.core.errors import ModelError, did_you_mean
from ridgeway.models.config import ModelConfig
from ridgeway.quant.formats import FORMATS
from ridgeway.roofline.machine import Machine, Peak
from ridgeway.roofline.packing import packed_bytes

_FLOAT = ("bf16", "fp16", "fp32")
_OUTLIERS = 0.001  # LLM.int8() (Dettmers et al. 2022): more than 99.9 % of values are multiplied in int8


@dataclass(frozen=True)
class Precision:
    """matrices: bits per weight of the layers' matrices, scales included; head: of embedding and head; experts: of
    a mixture's experts, None: as matrices. arithmetic: types to multiply in, the first that the machine has.
    outliers: share of the products made in 16 bits beside int8. note: what it stands for.
    embed: of an embedding that is not the head as well, None: as head.
    """

    name: str
    matrices: float
    head: float
    arithmetic: tuple[str, ...] = _FLOAT
    experts: float | None = None
    outliers: float = 0.0
    note: str = ""
    embed: float | None = None

    def held_bytes(self, config: ModelConfig) -> dict[str, int]:
        """Bytes of each tensor of that model; vectors are small and stay in 16 bits, in GGUF formats in 32."""
        if self.name in FORMATS and self.head == self.matrices:
            return {name: packed_bytes(shape, self.name) for name, shape in config.tensor_shapes().items()}
        held = {}
        for name, shape in config.tensor_shapes().items():
            bits = self._bits(name.rsplit(".", 1)[-1], len(shape))
            if name == "embed" and not config.tied_head and self.embed is not None:
                bits = self.embed
            elements = 1
            for size in shape:
                elements *= size
            held[name] = round(elements * bits / 8)
        return held

    def _bits(self, part: str, dimensions: int) -> float:
        if dimensions == 1:
            return 32 if self.matrices == 32 else 16
        if part in ("embed", "head", "router"):
            return self.head
        if dimensions == 3 and self.experts is not None:
            return self.experts
        return self.matrices

    def on(self, machine: Machine) -> tuple[Machine, str]:
        """The machine, and the arithmetic there; mixed arithmetic becomes a rate of its own."""
        found = next((name for name in self.arithmetic if name in machine.peaks), None)
        if found is None:
            machine.peak(self.arithmetic[-1])  # says what the machine has instead
        assert found is not None
        wide = next((name for name in _FLOAT if name in machine.peaks), None)
        if not self.outliers or found != "int8" or wide is None:
            return machine, found
        narrow, full = machine.peak("int8"), machine.peak(wide)
        share = self.outliers
        best = 1 / ((1 - share) / narrow.best + share / full.best)
        median = 1 / ((1 - share) / narrow.median + share / full.median)
        mixed = f"int8 with {100 * share:g} % {wide}"
        return machine.with_peak(mixed, Peak(best, median, narrow.accumulate, narrow.source)), mixed


_INT8 = ("int8", *_FLOAT)
_FP8 = ("fp8", *_FLOAT)
_ALL = (
    Precision("fp32", 32, 32, ("fp32",)),
    Precision("bf16", 16, 16),
    Precision("fp16", 16, 16, ("fp16", "bf16", "fp32")),
    Precision("fp8", 8, 16, _FP8, note="weights and activations in fp8; embedding and head in 16 bits"),
    Precision("int8", 8, 16, _INT8, note="weights and activations in int8; embedding and head in 16 bits"),
    Precision(
        "llm.int8",
        8,
        16,
        _INT8,
        outliers=_OUTLIERS,
        note="int8 but for columns with outliers, 0.1 % of the products, in 16 bits (Dettmers et al. 2022)",
    ),
    Precision("int8-weights", 8, 8, note="weights alone in int8, multiplied in 16 bits"),
    Precision("fp8-weights", 8, 8, note="weights alone in fp8, multiplied in 16 bits"),
    Precision("4-bit", 4.5, 16, note="weights alone in 4 bits with a scale per 32; embedding and head in 16 bits"),
    Precision("int4-g32", 5.0, 5.0, note="weights alone, scale and zero point in 16 bits per 32"),
    Precision("int4-g128", 4.25, 16, note="weights alone, scale and zero point in 16 bits per 128"),
    Precision("mxfp4", 16, 16, experts=4.25, note="experts in 4 bits with a scale per 32, the rest in 16 bits"),
    Precision("mxfp4-q8", 8.5, 8.5, experts=4.25, note="experts in 4 bits, the rest in Q8_0: files of llama.cpp"),
    Precision("gf4", 4.0, 4.0, note="eight weights and a scale in 32 bits"),
    Precision("nvfp4", 4.5, 16, ("fp4", "fp8", *_FLOAT), note="weights and activations in 4 bits, a scale per 16"),
    Precision("Q8_0", 8.5, 8.5),
    # Files in these formats hold the head (a tied embedding, too) in Q6_K.
    Precision("Q4_0", 4.5, 6.5625, embed=4.5),
    Precision("Q4_1", 5.0, 6.5625, embed=5.0),
    # Mixtures of formats: bits that make a whole Llama 3.1 8B as large as llama.cpp states.
    Precision("Q4_K_M", 4.79, 6.5625, embed=4.5),
    Precision("Q4_K_S", 4.57, 6.5625, embed=4.5),
    Precision("Q5_K_M", 5.69, 6.5625, embed=5.5),
    Precision("Q6_K", 6.5625, 6.5625),
    Precision("IQ4_XS", 4.32, 6.5625, embed=4.25),
)
PRECISIONS: Mapping[str, Precision] = {precision.name: precision for precision in _ALL}
COMPARED = ("bf16", "int8", "llm.int8", "4-bit")
_ALIASES = {"llm.int8()": "llm.int8", "f32": "fp32", "f16": "fp16", "float16": "fp16", "bfloat16": "bf16"}
_ALIASES |= {
    "float32": "fp32",
    "int4": "4-bit",
    "4bit": "4-bit",
    "q4": "4-bit",
    "fp4": "nvfp4",
    "int8-wo": "int8-weights",
}


def precision(name: str) -> Precision:
    """The precision of that name; case does not matter. Raises ModelError with the nearest names."""
    known = {key.lower(): key for key in PRECISIONS} | _ALIASES
    key = known.get(name.lower())
    if key is None:
        raise ModelError(name, f"not a precision; {did_you_mean(name, PRECISIONS)}")
    return PRECISIONS[key]
