"""Models that come inside the package: toys, which show how something works and not what models can do."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SHIPPED_WEIGHTS = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class Shipped:
    """about: what it is, for people; shown whenever it is run. prompt: something that it can go on from."""

    name: str
    about: str
    prompt: str

    @property
    def folder(self) -> Path:
        """In Hugging Face layout."""
        return SHIPPED_WEIGHTS / self.name


SHIPPED: Mapping[str, Shipped] = {
    "toy-diffusion": Shipped(
        "toy-diffusion",
        "a toy: a million parameters that write sentences of a small grammar, to watch block diffusion with",
        "the",
    )
}
