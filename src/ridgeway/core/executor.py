"""What an executor is: one weight stream on one device."""

from collections.abc import Mapping
from typing import ClassVar, Protocol

from ridgeway.core.arrays import IntArray
from ridgeway.core.query import Batch, Forward
from ridgeway.core.traits import ModelTraits


class Executor(Protocol):
    """Runs batches. It knows no decoding method, and a row's result does not depend on the rest of the batch.

    It may have more: `kv(layer, slots)`, what it stored, for draft heads that look at it; `unroller(head)`, a draft
    head in kernels of its own (see `executors.draft_heads`).

    name: as in `LLM(executor=...)`. arithmetic: the type that is multiplied, a key of the machine's compute ceilings.
    held_bytes: bytes of each weight tensor as this executor reads it in a weight stream, by canonical name.
    kv_itemsize, activation_itemsize: bytes of one element. threads: how many compute.
    """

    name: ClassVar[str]
    kv_itemsize: int
    activation_itemsize: int
    threads: int

    @property
    def arithmetic(self) -> str: ...

    @property
    def traits(self) -> ModelTraits: ...

    @property
    def held_bytes(self) -> Mapping[str, int]: ...

    @property
    def slot_bytes(self) -> int:
        """Bytes of the K/V of one token, all layers."""
        ...

    def allocate(self, slots: int) -> None:
        """Make room for the K/V of `slots` tokens; what was there is lost."""
        ...

    def forward(self, batch: Batch) -> Forward: ...

    def move(self, source: IntArray, target: IntArray) -> None:
        """Copy the K/V of slots `source` to slots `target`, as if all were read before any is written."""
        ...
