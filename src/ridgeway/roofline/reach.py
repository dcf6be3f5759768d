"""What engines reach of a machine's ceilings: the step from the floor to the estimate.

Two laws. On a measured machine a step takes its overhead, and the longer of its traffic and its products at a share
of the typical rates; what was observed corrects it soon. On a machine known by its data sheet nothing is observed, so
a law fitted to published measurements stands in (`roofline.law`): the parts of a step are added up, each with a factor
of its own, as kernels run one after the other and each leaves something of its ceiling unused.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Fitted:
    """Factors of the parts of a step: seconds per layer; on the time to read weights, and K/V; on the time of products
    with few rows, and with many.
    """

    layer: float
    weights: float
    kv: float
    few: float
    many: float


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
