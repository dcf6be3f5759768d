"""What fits into memory: weights, K/V, and what allocation wastes of it."""

from dataclasses import dataclass
from typing import Self

from ridgeway.roofline.cost import CostModel
from ridgeway.roofline.workload import Workload

UNKNOWN = 1 << 62


@dataclass(frozen=True)
class Capacity:
    """Bytes in memory when every answer is complete.

    weights: all tensors held. kv: keys and values of all requests' tokens. kv_paged, kv_contiguous: what pages of
    `Workload.page` slots, or one stretch as long as the longest context, set aside for them. kv_share,
    weight_share: of the physical memory. largest_batch, largest_batch_contiguous: requests of this length that fit
    beside the weights; 0 if the weights alone do not. kv_per_token: of one request. A machine whose memory is not
    known has room for anything.
    """

    memory: int
    usable: int
    weights: int
    kv: int
    kv_paged: int
    kv_contiguous: int
    kv_per_token: int
    largest_batch: int
    largest_batch_contiguous: int
    fits: bool

    @classmethod
    def of(cls, cost_model: CostModel, workload: Workload, caches: bool = True) -> Self:
        """caches: whether the method keeps K/V at all."""
        config, machine = cost_model.config, cost_model.machine

        def request(tokens: int) -> int:
            windows = config.windows
            kept = sum(tokens if window is None else min(window, tokens) for window in windows)
            return kept * cost_model.slot_bytes if caches else 0

        page = workload.page
        true = request(workload.length)
        paged = request(-(-workload.length // page) * page)
        stretch = request(workload.reserved or max(config.max_positions, workload.length))
        usable = int(machine.usable_bytes * workload.memory_share)
        free = usable - cost_model.weight_bytes if usable else UNKNOWN
        n = workload.concurrency
        return cls(
            memory=machine.memory_bytes,
            usable=usable,
            weights=cost_model.weight_bytes,
            kv=n * true,
            kv_paged=n * paged,
            kv_contiguous=n * stretch,
            kv_per_token=config.layers * cost_model.slot_bytes if caches else 0,
            largest_batch=_fitting(free, paged),
            largest_batch_contiguous=_fitting(free, stretch),
            fits=n * paged <= free,
        )

    @property
    def kv_share(self) -> float:
        return self.kv / self.memory if self.memory else 0.0

    @property
    def weight_share(self) -> float:
        return self.weights / self.memory if self.memory else 0.0

    @property
    def paged_waste(self) -> float:
        """Share of the paged K/V memory that holds nothing."""
        return 1 - self.kv / self.kv_paged if self.kv_paged else 0.0

    @property
    def contiguous_waste(self) -> float:
        """Share of the contiguous K/V memory that holds nothing."""
        return 1 - self.kv / self.kv_contiguous if self.kv_contiguous else 0.0


_MANY = 1_000_000  # without K/V any number fits


def _fitting(free: int, request: int) -> int:
    if free < 0:
        return 0
    return min(_MANY, free // request) if request else _MANY
