"""The network of a draft head, what it is trained on, and how it becomes a file.

`models.draft_head` says what a head computes. Here it learns to go on as the model does: unrolled over the tokens that
the model wrote, from its own states, it is to read out of the i-th what the model reads out of the true one,

    loss = sum over i of  0.8^(i - 1)  KL(softmax(head true_i / 0.7) || softmax(head state_i / 0.7))

over the tokens that it knows. Its weights are rounded to four bits on the way, as are the model's rows that it reads
out with: so kernels hold them (`held`). The temperature draws it towards the tokens that are said, at 0 and at 0.7. The
model's whole distribution teaches more than the one token that was drawn from it: knowledge distillation, as in
"Recurrent Drafter" (Zhang et al. 2024, arXiv 2403.09919). The true states are the model's features, towards which
"EAGLE" (Li et al. 2024, arXiv 2401.15077) is trained as well. Later guesses count less, as they are reached less often.
A head that looks at the model's K/V, as "Glide" does (Du et al. 2024, arXiv 2402.02082), learns the queries that it
asks them with.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from ridgeway.core.arrays import IntArray
from ridgeway.models.draft_head import FILE
from ridgeway.models.model import Model
from ridgeway.training.distill_texts import Text
from ridgeway.training.draft_head_sight import Sight
from ridgeway.training.held import as_held

_TEMPERATURE = 0.7  # at which distributions are compared
_LATER = 0.8  # weight of a guess beside the one before it
_SIGHT = 0.5  # how large, at first, what is seen counts beside states and tokens
_LOOP = 8  # tokens; a text that says as many a second time goes round in a circle


class Network(nn.Module):
    """gate, up: (inner, 2 * hidden + width). down: (hidden, inner); 0 at first, so that the head begins as no change.
    query: (width, 2 * hidden); there is none of a head that does not look back, whose width is 0.
    """

    def __init__(self, hidden: int, inner: int, generator: torch.Generator, width: int = 0) -> None:
        super().__init__()
        deviation = (2 * hidden) ** -0.5

        def matrix(outputs: int, width: int = 0) -> nn.Parameter:
            own = torch.empty(outputs, 2 * hidden).normal_(0.0, deviation, generator=generator)
            if not width:
                return nn.Parameter(own)
            sight = torch.empty(outputs, width).normal_(0.0, _SIGHT * width**-0.5, generator=generator)
            return nn.Parameter(torch.cat([own, sight], dim=1))

        self.gate, self.up = matrix(inner, width), matrix(inner, width)
        self.down = nn.Parameter(torch.zeros(hidden, inner))
        if width:
            self.query = matrix(width)

    def forward(self, state: Tensor, row: Tensor, look: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """The next state (n, hidden). row: (n, hidden) of the model's head for the token drawn, times `Fixed.scale`.
        look: what queries (n, width) see, (n, width), times `Fixed.value_scale`.
        """
        z = torch.cat([state, row], dim=-1)
        if look is not None:
            z = torch.cat([z, look(functional.linear(z, as_held(self.query))).to(z.dtype)], dim=-1)
        inner = functional.silu(functional.linear(z, as_held(self.gate))) * functional.linear(z, as_held(self.up))
        return state + functional.linear(inner, as_held(self.down))


class Fixed:
    """What the head takes from the model. tokens: (V,) ids that it knows, ascending. layer: whose K/V it looks at.

    norm: (hidden,) of the final norm. rows: (vocabulary, hidden), the model's head. known: (V, hidden) of it; held: the
    same as kernels hold them for the draft head. scale: what gives `rows` a root mean square of 1, beside states of
    about that, so that both are learned from at once; value_scale: likewise of the layer's values. Both are folded into
    the saved weights.
    """

    def __init__(self, model: Model, tokens: IntArray, layer: int | None = None, value_scale: float = 1.0) -> None:
        rows = model.head.dequantize()
        self.tokens = tokens
        self.layer = layer
        self.norm = torch.from_numpy(np.array(model.tensors["final_norm"].dequantize()))
        self.rows = torch.from_numpy(np.array(rows))
        self.known = self.rows[torch.from_numpy(tokens)]
        self.held = as_held(self.known)
        self.scale = float(1 / np.sqrt(np.square(rows).mean()))
        self.value_scale = value_scale


@dataclass(frozen=True)
class Unrolled:
    """Texts that the model wrote, behind each other. states: (rows, hidden) of unit root mean square, as the model had
    them. tokens: (rows,) drawn from them. places: (n,) rows that are followed for `depth` guesses; those of one text
    follow each other, and as many rows of it as guesses come after the last. sight: what they see of their texts.
    """

    states: Tensor
    tokens: Tensor
    places: Tensor
    depth: int
    sight: Sight | None = None


def unrolled_states(network: Network, fixed: Fixed, given: Unrolled) -> Iterator[Tensor]:
    """The states (n, hidden) of each guess, from the model's own and the tokens that it drew."""
    state = given.states[given.places].float() * fixed.norm
    for step in range(given.depth):
        row = fixed.rows[given.tokens[given.places + step]] * fixed.scale
        state = network(state, row, None if given.sight is None else partial(given.sight.seen, step=step))
        yield state


def unrolled_loss(network: Network, fixed: Fixed, given: Unrolled) -> Tensor:
    """Mean over the places."""
    with torch.no_grad():
        true = _log_chances(given.states.float() * fixed.norm, fixed.known)  # (rows, V); a row serves several guesses
    total = torch.zeros(())
    for step, state in enumerate(unrolled_states(network, fixed, given)):
        own, target = _log_chances(state, fixed.held), true[given.places + step + 1]
        total = total + _LATER**step * functional.kl_div(own, target, log_target=True, reduction="batchmean")
    return total


def weights_of(network: Network, fixed: Fixed) -> dict[str, Tensor]:
    """The matrices of `models.draft_head.DraftHead` by name, float32; rounded, so that all executors compute with the
    same, but for the file's float16.
    """
    hidden = network.down.shape[0]
    weights = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    for name in weights.keys() - {"down"}:
        weights[name][:, hidden : 2 * hidden] *= fixed.scale
        weights[name][:, 2 * hidden :] *= fixed.value_scale
    return {name: as_held(weight) for name, weight in weights.items()}


def save_head(folder: Path, network: Network, fixed: Fixed, recipe: str = "") -> Path:
    """`draft-head.safetensors`, float16; the recipe in its metadata says how it was made."""
    tensors = {name: weight.half().contiguous() for name, weight in weights_of(network, fixed).items()}
    tensors["tokens"] = torch.from_numpy(fixed.tokens.astype(np.float32))
    if fixed.layer is not None:
        tensors["layer"] = torch.tensor([float(fixed.layer)])
    path = folder / FILE
    save_file(tensors, path, metadata={"recipe": recipe})
    path.chmod(0o644)  # the library leaves it to its owner alone
    return path


def frequent_tokens(texts: Sequence[Text], count: int, vocab_size: int) -> IntArray:
    """The ids, ascending, of the `count` most frequent tokens of the answers ("FR-Spec", Zhao et al. 2025, arXiv
    2502.14856): of a small model's bytes the head is the largest part, and most of it is hardly used.
    """
    said = np.bincount(np.concatenate([text.answer for text in texts]), minlength=vocab_size)
    known: IntArray = np.sort(np.argsort(-said, kind="stable")[:count]).astype(np.int64)
    return known


def before_loop(answer: Sequence[int]) -> int:
    """How many tokens there are until it has said the same again.

    Small models repeat themselves without end, greedily above all; a head would learn little else from them.
    """
    seen = set()
    for start in range(len(answer) - _LOOP + 1):
        said = tuple(answer[start : start + _LOOP])
        if said in seen:
            return start + _LOOP
        seen.add(said)
    return len(answer)


def _log_chances(states: Tensor, known: Tensor) -> Tensor:
    return functional.linear(states / _TEMPERATURE, known).float().log_softmax(dim=-1)
