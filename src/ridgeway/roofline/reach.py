"""What engines reach of a machine's ceilings: the step from the floor to the estimate.

Two laws. On a measured machine a step takes its overhead, and the longer of its traffic and its products at a share
of the typical rates; what was observed corrects it soon. On a machine known by its data sheet nothing is observed, so
a law fitted to published measurements stands in (`roofline.law`): the parts of a step are added up, each with a factor
of its own, as kernels run one after the other and each leaves something of its ceiling unused.
"""

from dataclasses import dataclass
from typing import NamedTuple

SHARPNESS = 8  # of the norm that joins two works of one kernel; at infinity the longer one would hide the other


class Parts(NamedTuple):
    """What a step consists of, before any factor.

    layers: run through. weights, kv: seconds to read them at typical rates. few, many: seconds of products at the
    typical rate, in streams with few rows and with many. unpacked: seconds in which the vector units do one operation
    for each packed weight; 0 if nothing is unpacked. answers: rows that are read out. repeated: seconds to read K/V
    once more for each further query head of a group, as attention does that is no kernel of its own.
    """

    layers: float = 0.0
    weights: float = 0.0
    kv: float = 0.0
    few: float = 0.0
    many: float = 0.0
    unpacked: float = 0.0
    answers: float = 0.0
    repeated: float = 0.0

    def plus(self, other: "Parts", times: float = 1.0) -> "Parts":
        return Parts(*(mine + times * theirs for mine, theirs in zip(self, other, strict=True)))


@dataclass(frozen=True)
class Fitted:
    """Factors of the parts of a step: seconds per layer; on the time to read weights, and K/V; on the time of products
    with few rows, and with many; vector operations to unpack a weight; seconds per row that is read out; on the time to
    read K/V again.
    """

    layer: float
    weights: float
    kv: float
    few: float
    many: float
    unpack: float
    answer: float
    repeated: float

    def seconds(self, parts: Parts) -> float:
        """Kernels run one after the other, so their times add up; a weight is unpacked while the next is read, by the
        same kernel, so the longer of the two counts, and a little of the shorter.
        """
        each = (factor * part for factor, part in zip(vars(self).values(), parts, strict=True))
        layers, weights, kv, few, many, unpacked, answers, repeated = each
        streamed = (weights**SHARPNESS + unpacked**SHARPNESS) ** (1 / SHARPNESS)
        return float(layers + streamed + kv + few + many + answers + repeated)


@dataclass(frozen=True)
class Reach:
    """memory, compute: shares of the typical rates. fitted: the other law instead. low, high: nine of ten steps take
    between these times the estimate, as long as none was observed.
    """

    memory: float = 0.86
    compute: float = 0.7
    fitted: Fitted | None = None
    low: float = 0.78
    high: float = 1.65


TYPICAL = Reach()
