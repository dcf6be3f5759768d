"""A loaded model: its configuration, its tensors as the file has them, its tokenizer and its habits."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ridgeway.models.config import ModelConfig
from ridgeway.quant.tensor import Tensor

if TYPE_CHECKING:
    from ridgeway.models.tokenizer import Tokenizer


@dataclass(frozen=True)
class Model:
    """name: short name for people. precision: the weights' dominant format, such as `Q4_1`.

    tensors: by the canonical names of `ModelConfig.tensor_shapes`. tokenizer: None if the checkpoint has none (then
    prompts are token ids). generation: the checkpoint's own sampling settings (`temperature`, `top_p`, ...), maybe
    none. source: the file or folder it came from.
    """

    name: str
    config: ModelConfig
    tensors: Mapping[str, Tensor]
    tokenizer: "Tokenizer | None" = None
    generation: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""

    @property
    def head(self) -> Tensor:
        """The matrix that turns hidden states into logits; the embedding itself when tied."""
        return self.tensors["embed" if self.config.tied_head else "head"]

    @property
    def precision(self) -> str:
        """The format that holds most of the weights' bytes."""
        held: dict[str, int] = {}
        for tensor in self.tensors.values():
            held[tensor.format.name] = held.get(tensor.format.name, 0) + tensor.elements
        return max(held, key=lambda name: held[name])

    @property
    def parameters(self) -> int:
        return sum(tensor.elements for tensor in self.tensors.values())
