"""What engines reach of a machine's ceilings: the step from the floor to the estimate."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Reach:
    """memory, compute: shares of the typical rates."""

    memory: float = 0.86
    compute: float = 0.7


TYPICAL = Reach()
