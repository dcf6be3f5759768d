"""A draft head: a small network that goes on from a model's hidden state and guesses its next tokens.

The hidden state from which a model draws one token knows more of the text to come than that token. So a network much
smaller than the model goes on from it: from the state and the token that was drawn it makes the state that the model
would have next, reads the next token out of that with the model's own head, and so on.

    state_0 = norm(hidden) * weight              the model's own final norm: what meets its head
    z       = state_i, row of the model's head for the token that was drawn from it
    seen    = attention of (query z) to the K/V that the model's own layer `layer` has of the text so far
    state   = state_i + down (silu(gate [z, seen]) * (up [z, seen]))
    token   = out of head[tokens] state

It is recurrent as in "Recurrent Drafter" (Zhang et al. 2024, arXiv 2403.09919) and works on features as in "EAGLE"
(Li et al. 2024, arXiv 2401.15077). It has no K/V of its own: it looks at the target's, which are there already, as in
"Glide with a CaPE" (Du et al. 2024, arXiv 2402.02082); a head may also do without. It knows only the most frequent
tokens, as in "FR-Spec" (Zhao et al. 2025, arXiv 2502.14856): of a small model's bytes the head is the largest part.
"""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from ridgeway.core.arrays import FloatArray, IntArray, ints
from ridgeway.core.errors import ModelError
from ridgeway.models.model import Model
from ridgeway.models.safetensors import read_safetensors
from ridgeway.models.shipped import SHIPPED_WEIGHTS
from ridgeway.quant.tensor import Tensor

FILE = "draft-head.safetensors"
HELD = "Q4_0"  # in which it is meant to be held, and `ridgeway train` rounds to: its bytes are what a step costs
_MATRICES = ("gate", "up", "down")


@dataclass(frozen=True)
class DraftHead:
    """tokens: (V,) ids that it knows, ascending. gate, up: (inner, 2 * hidden + width). down: (hidden, inner).

    query: (width, 2 * hidden), the model's query heads one behind the other; None: it does not look back, and the width
    is 0. layer: whose K/V it sees, counted from 0. Queries are rotated to the place of the newest token, the model's
    keys lie at theirs.

    norm: (hidden,) weight of the model's final norm; eps: of that norm. whole_head: (vocabulary, hidden) the model's.
    """

    tokens: IntArray
    gate: Tensor
    up: Tensor
    down: Tensor
    norm: FloatArray
    eps: float
    whole_head: Tensor
    query: Tensor | None = None
    layer: int = 0

    @classmethod
    def of(
        cls,
        model: Model,
        tokens: IntArray,
        gate: Tensor,
        up: Tensor,
        down: Tensor,
        query: Tensor | None = None,
        layer: int = 0,
    ) -> Self:
        """What was trained, with what it takes from the model."""
        return cls(
            tokens=tokens,
            gate=gate,
            up=up,
            down=down,
            norm=model.tensors["final_norm"].dequantize(),
            eps=model.config.rms_eps,
            whole_head=model.head,
            query=query,
            layer=layer,
        )

    @property
    def hidden(self) -> int:
        return self.down.shape[0]

    @property
    def inner(self) -> int:
        return self.down.shape[1]

    @property
    def width(self) -> int:
        """Of what it sees of the text so far."""
        return 0 if self.query is None else self.query.shape[0]

    @property
    def head(self) -> Tensor:
        """(V, hidden) the model's own rows of `tokens`, packed as they are; a copy."""
        whole = self.whole_head
        rows = self.tokens if whole.order is None else whole.order[self.tokens]
        return Tensor("head", whole.format, (len(rows), whole.shape[1]), whole.data[rows])

    @property
    def stored(self) -> tuple[Tensor, ...]:
        """The matrices of its own that a step multiplies with."""
        own = (self.gate, self.up, self.down)
        return own if self.query is None else (self.query, *own)

    @property
    def elements(self) -> int:
        """Weights that a step multiplies with, the model's rows included."""
        return sum(part.elements for part in self.stored) + len(self.tokens) * self.hidden

    def states(self, hidden: FloatArray) -> FloatArray:
        """What meets the model's head, (n, hidden), of hidden states before the final norm."""
        squares = np.einsum("nh,nh->n", hidden, hidden)
        scale = 1 / np.sqrt(squares / np.float32(hidden.shape[1]) + np.float32(self.eps))
        states: FloatArray = hidden * scale[:, None] * self.norm
        return states


def draft_head_of(model: Model) -> DraftHead | None:
    """The draft head that lies with a model, or that Ridgeway has for one of its name; None if there is none.

    With a folder `draft-head.safetensors` in it, with a file `NAME.draft-head.safetensors` beside it. Raises ModelError
    for one that lies there and is broken or made for another model.
    """
    if not model.source or not model.config.traits.autoregressive:
        return None
    if place_beside(model).is_file():
        return load_draft_head(place_beside(model), model)
    shipped = SHIPPED_WEIGHTS / model.name.lower() / FILE
    if shipped.is_file():
        with suppress(ModelError):  # another model of that name
            return load_draft_head(shipped, model)
    return None


def place_beside(model: Model) -> Path:
    """Where the draft head of a model from a file or a folder lies."""
    source = Path(model.source)
    return source / FILE if source.is_dir() else source.with_name(f"{source.stem}.{FILE}")


def load_draft_head(path: Path, model: Model) -> DraftHead:
    """The draft head of `model` in a file that holds `tokens`, `gate`, `up` and `down`; if it looks back at the text,
    also `query` and `layer`. Raises ModelError.
    """
    file = read_safetensors(path)
    looks = ("query", "layer") if "query" in file.shapes else ()
    missing = [name for name in ("tokens", *_MATRICES, *looks) if name not in file.shapes]
    if missing:
        raise ModelError(path, f"is no draft head: it lacks the tensor {missing[0]}")
    tokens = ints(file.read("tokens").dequantize())
    gate, up, down = (file.read(name) for name in _MATRICES)
    query, layer = (file.read("query"), int(file.read("layer").dequantize()[0])) if looks else (None, 0)
    head = DraftHead.of(model, tokens, gate, up, down, query, layer)
    wrong = misfit(head, model)
    if wrong is not None:
        raise ModelError(path, wrong)
    return head


def misfit(head: DraftHead, model: Model) -> str | None:
    """Why a head cannot draft for a model; None if it can."""
    config, tokens = model.config, head.tokens
    if not len(tokens) or tokens.min() < 0 or tokens.max() >= config.vocab_size:
        return f"knows tokens outside the vocabulary of {model.name}, which has {config.vocab_size}"
    width = 0 if head.query is None else config.heads * config.head_dim
    inner = head.gate.shape[0]
    shapes = [(inner, 2 * config.hidden + width), (inner, 2 * config.hidden + width), (config.hidden, inner)]
    if head.query is not None:
        shapes.insert(0, (width, 2 * config.hidden))
    for tensor, shape in zip(head.stored, shapes, strict=True):
        if tensor.shape != shape:
            return f"is made for another model: {tensor.name} is {tensor.shape}, expected {shape}"
    if head.query is not None and not 0 <= head.layer < config.layers:
        return f"looks at layer {head.layer}; {model.name} has {config.layers}, counted from 0"
    return None
