"""The network of a draft head, what it is trained on, and how it becomes a file.

`models.draft_head` says what a head computes. Here it learns to go on as the model does: unrolled over the tokens that
the model wrote, from its own states, it is to read out of the i-th what the model reads out of the true one,

    loss = sum over i of  0.8^(i - 1)  KL(softmax(head true_i) || softmax(head state_i))

over the tokens that it knows. The model's whole distribution teaches more than the one token that was drawn from it:
knowledge distillation, as in "Recurrent Drafter" (Zhang et al. 2024, arXiv 2403.09919). The true states are the model's
features, towards which "EAGLE" (Li et al. 2024, arXiv 2401.15077) is trained as well. Later guesses count less, as they
are reached less often.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from ridgeway.core.arrays import BoolArray, IntArray
from ridgeway.models.draft_head import FILE
from ridgeway.models.model import Model
from ridgeway.training.distill_texts import Text

_LATER = 0.8  # weight of a guess beside the one before it
_LOOP = 8  # tokens; a text that says as many a second time goes round in a circle


class Network(nn.Module):
    """gate, up: (inner, 2 * hidden). down: (hidden, inner); 0 at first, so that the head begins as no change."""

    def __init__(self, hidden: int, inner: int, generator: torch.Generator) -> None:
        super().__init__()
        deviation = (2 * hidden) ** -0.5
        self.gate = nn.Parameter(torch.empty(inner, 2 * hidden).normal_(0.0, deviation, generator=generator))
        self.up = nn.Parameter(torch.empty(inner, 2 * hidden).normal_(0.0, deviation, generator=generator))
        self.down = nn.Parameter(torch.zeros(hidden, inner))

    def forward(self, state: Tensor, row: Tensor) -> Tensor:
        """The next state (n, hidden). row: (n, hidden) of the model's head for the token drawn, times `Fixed.scale`."""
        z = torch.cat([state, row], dim=-1)
        inner = functional.silu(functional.linear(z, self.gate)) * functional.linear(z, self.up)
        return state + functional.linear(inner, self.down)


class Fixed:
    """What the head takes from the model. tokens: (V,) ids that it knows, ascending.

    norm: (hidden,) of the final norm. rows: (vocabulary, hidden), the model's head. known: (V, hidden) of it. scale:
    what gives `rows` a root mean square of 1, beside states of about that, so that both are learned from at once; it is
    folded into the saved weights.
    """

    def __init__(self, model: Model, tokens: IntArray) -> None:
        rows = model.head.dequantize()
        self.tokens = tokens
        self.norm = torch.from_numpy(np.array(model.tensors["final_norm"].dequantize()))
        self.rows = torch.from_numpy(np.array(rows))
        self.known = self.rows[torch.from_numpy(tokens)]
        self.scale = float(1 / np.sqrt(np.square(rows).mean()))


@dataclass(frozen=True)
class Unrolled:
    """n places in the model's texts, each followed to depth d. states: (n, d + 1, hidden) of unit root mean square, as
    the model had them. tokens: (n, d) drawn from all but the last.
    """

    states: Tensor
    tokens: Tensor


def unrolled_loss(network: Network, fixed: Fixed, places: Unrolled) -> Tensor:
    """Mean over the places."""
    true = places.states.float() * fixed.norm
    state, total = true[:, 0], torch.zeros(())
    for step in range(places.tokens.shape[1]):
        state = network(state, fixed.rows[places.tokens[:, step]] * fixed.scale)
        with torch.no_grad():
            target = _log_chances(true[:, step + 1], fixed.known)
        own = _log_chances(state, fixed.known)
        gap = functional.kl_div(own, target, log_target=True, reduction="batchmean")
        total = total + _LATER**step * gap
    return total


def save_head(folder: Path, network: Network, fixed: Fixed, recipe: str = "") -> Path:
    """`draft-head.safetensors`, float16; the recipe in its metadata says how it was made."""
    hidden = network.down.shape[0]
    weights = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    for name in ("gate", "up"):
        weights[name][:, hidden:] *= fixed.scale
    tensors = {name: weight.half().contiguous() for name, weight in weights.items()}
    tensors["tokens"] = torch.from_numpy(fixed.tokens.astype(np.float32))
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


def places_of(texts: Sequence[Text], chosen: BoolArray, depth: int) -> IntArray:
    """Rows of the states, those of all answers in order, from which `depth` guesses can be followed inside an answer
    and before it loops; of the texts (n,) that are `chosen`.
    """
    found, first = [np.zeros(0, dtype=np.int64)], 0
    for text, take in zip(texts, chosen, strict=True):
        if take:
            found.append(first + np.arange(max(0, before_loop(text.answer) - depth), dtype=np.int64))
        first += len(text.answer)
    return np.concatenate(found)


def _log_chances(states: Tensor, known: Tensor) -> Tensor:
    return functional.linear(states, known).float().log_softmax(dim=-1)
