"""How many distinct experts a weight stream touches: what its bytes depend on in a mixture of experts.

One row reads `active` experts of a layer. Many rows read between `active` (all agree: the floor) and all of them.
If every row chose independently and uniformly, E (1 - (1 - k/E)^T) would be touched. Real routers favour some
experts, and rows of one conversation resemble each other, so real traffic lies below that: on machines where both
were measured the uniform figure would need more bandwidth than there is. It is an estimate, never a bound. Here
the popularity of experts falls as a power of their rank, whose exponent is the skew: 0 is uniform.
"""

from functools import lru_cache

import numpy as np

from ridgeway.models.config import Experts

# The least round exponent under which the traffic of batches measured on a GB10 (gpt-oss 20b and 120b, Qwen3 30B-A3B;
# 8 to 32 rows) fits through its 273 GB/s; at 0.75 some of it would not.
DEFAULT_SKEW = 1.0


@lru_cache(maxsize=4096)
def distinct_experts(experts: Experts, rows: int, skew: float = DEFAULT_SKEW) -> float:
    """Distinct experts of a layer that `rows` rows touch; skew 0: independent and uniform choices."""
    if rows <= 0:
        return 0.0
    missed = (1 - _popularity(experts, skew)) ** rows
    return float(np.clip((1 - missed).sum(), experts.active, experts.count))


def _popularity(experts: Experts, skew: float) -> np.ndarray:
    """(count,) chance of each expert to be among the `active` ones of a row; sums to `active`, none above 1."""
    weight = np.arange(1, experts.count + 1, dtype=np.float64) ** -skew
    chance = np.zeros(experts.count)
    free = np.ones(experts.count, dtype=bool)
    for _ in range(experts.count):
        left = experts.active - (~free).sum()
        chance[free] = left * weight[free] / weight[free].sum()
        above = free & (chance > 1)
        if not above.any():
            break
        chance[above], free[above] = 1.0, False
    return np.minimum(chance, 1.0)
