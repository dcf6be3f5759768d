"""What weight streams move and compute, how long that may take, and a step that was faster than it may be."""

from dataclasses import dataclass
from operator import add
from typing import Literal, NamedTuple

Bound = Literal["memory", "compute", "overhead"]


@dataclass(frozen=True)
class Cost:
    """Traffic in bytes and work in FLOPs of `streams` weight streams; costs add up.

    kv_shared_bytes: the part of kv_read_bytes that an earlier query of the same batch reads as well.
    expert_spread_bytes: the part of weight_bytes that would not be read if all rows chose the same experts.
    """

    weight_bytes: int = 0
    kv_read_bytes: int = 0
    kv_write_bytes: int = 0
    kv_shared_bytes: int = 0
    expert_spread_bytes: int = 0
    activation_bytes: int = 0
    matrix_flops: int = 0
    attention_flops: int = 0
    head_flops: int = 0
    rows: int = 0
    streams: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(*map(add, self._numbers(), other._numbers()))

    def times(self, factor: float) -> "Cost":
        """As many of these streams, a fraction of one included; rounded to whole bytes and FLOPs."""
        return Cost(*[round(number * factor) for number in self._numbers()])

    @property
    def kv_bytes(self) -> int:
        return self.kv_read_bytes + self.kv_write_bytes

    @property
    def bytes(self) -> int:
        """All traffic, activations included."""
        return self.weight_bytes + self.kv_bytes + self.activation_bytes

    @property
    def least_bytes(self) -> int:
        """Traffic that nothing spares: weights and K/V, what queries share once, experts as if all rows agreed."""
        return self.weight_bytes - self.expert_spread_bytes + self.kv_bytes - self.kv_shared_bytes

    @property
    def flops(self) -> int:
        return self.matrix_flops + self.attention_flops + self.head_flops

    @property
    def intensity(self) -> float:
        """FLOPs per byte of memory traffic."""
        return self.flops / self.bytes if self.bytes else 0.0

    @property
    def working_set(self) -> int:
        """Bytes that one stream goes through: what must fit into a cache for its rate to hold."""
        return self.least_bytes // max(1, self.streams)

    def _numbers(self) -> tuple[int, ...]:
        return tuple(vars(self).values())


class Estimate(NamedTuple):
    """Seconds that a step will take; nine of ten steps should lie between low and high."""

    seconds: float
    low: float
    high: float


class Exceeded(NamedTuple):
    """A step that took less time than its floor: a ceiling is too low, and this is the rate that was reached.

    by: floor / seconds. The fields are the arguments of `Machine.raised`, but for `by`.
    """

    by: float
    working_set: int
    bytes_per_second: float
    operations_per_second: float
