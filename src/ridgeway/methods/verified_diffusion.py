"""Verified diffusion: the model denoises the tokens to come, and its causal reading has the last word.

A model that can be read both ways writes twice as a matter of course: its clean rows say what autoregressive decoding
would, and its mask rows, which see each other, guess several tokens ahead at once, as block diffusion does. One weight
stream does both. It verifies the drafts that mask rows made in the last stream and, behind each place where the
accepted text may end, lets new mask rows make the next ones. Nothing of a mask row is kept: clean rows never see one,
so the text is that of plain decoding, token for token, however good or bad the drafts are.

    rows        t    a    b    m m      m m      m m       t: newest token; a b: drafts; m: mask tokens
    positions   0    1    2    1 2      2 3      3 4       (of a model whose mask rows predict the next position)
    see         t    ta   tab  t+group  ta+group tab+group and everything cached
    drawn       a    y    .    . .      c d      . .       -> a and y are committed, t and a are kept;
                                                              drafts of the next step: c d, behind y

The tokens of mask rows are drawn with the target's own noise at their positions, so at a temperature they agree with
the target wherever the two distributions do. (`sampled=no` takes the likeliest instead.)

After TiDAR (Liu et al. 2025, arXiv 2511.08923) and the linear and quadratic decoding of Samragh et al. 2025 (arXiv
2507.11851). Two differences: verification draws the target's tokens instead of accepting by a ratio, so it is token-
exact; and mask rows stand only where the cost model finds them worth their time (`mask_layout`).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ridgeway.core.arrays import NO_INTS, BoolArray, IntArray, ints
from ridgeway.core.method import PREFILL, DecodingMethod, DraftTree, Rows
from ridgeway.core.outputs import DraftCounts
from ridgeway.core.query import Answer, Commit, Query, Readout
from ridgeway.core.sequence import Sequence
from ridgeway.core.traits import ModelTraits
from ridgeway.core.visibility import CAUSAL, Tree
from ridgeway.methods.mask_drafter import Drafts, Layout, MaskDrafter, mask_of
from ridgeway.methods.mask_layout import NO_MASKS, MaskLayout, linear, quadratic
from ridgeway.methods.option_types import check_types
from ridgeway.methods.verify import verified


@dataclass(frozen=True)
class VerifiedDiffusion(DecodingMethod):
    """Verify drafts and let mask rows make the next ones in the same weight stream, as block diffusion would."""

    name = "verified-diffusion"
    needs = "a causal model with a mask token"
    block: int = 4
    layout: Layout = "pruned"
    sampled: bool = True
    mask_id: int | None = None

    def __post_init__(self) -> None:
        check_types(self)
        if self.block < 1:
            raise ValueError(f"block={self.block}: a block has at least 1 position")
        if self.layout not in ("pruned", "quadratic", "linear"):
            raise ValueError(f"layout={self.layout!r}: expected pruned, quadratic or linear")
        if self.mask_id is not None and self.mask_id < 0:
            raise ValueError(f"mask_id={self.mask_id}: expected a token id, at least 0")

    @cached_property
    def drafter(self) -> MaskDrafter:  # type: ignore[override]
        return MaskDrafter(self.layout, self.block, self.mask_id)

    def refusal(self, traits: ModelTraits) -> str | None:
        refusal = super().refusal(traits)
        if refusal is not None:
            return refusal
        mask_id = mask_of(self.mask_id, traits)
        if mask_id is None:
            return f"it needs {self.needs}, and this one names none; mask_id=ID makes do with any unused token"
        if mask_id >= traits.vocab_size:
            return f"mask_id={mask_id} is not in its vocabulary (0 to {traits.vocab_size - 1})"
        return None

    def start(self, sequence: Sequence) -> Drafts:
        sequence.drafts = DraftCounts()
        return self.drafter.start()

    def explain(self, sequence: Sequence) -> tuple[str, ...]:
        return (sequence.state.words,)

    def demand(self, sequence: Sequence) -> Rows:
        pending = sequence.pending
        if pending > PREFILL:
            return Rows(1, pending)
        space = self.drafter.space(sequence, rows=(self.block + 1) ** 2)
        return Rows(1, pending + (linear(space) if self.layout == "linear" else quadratic(space)).rows)

    def plan(self, sequence: Sequence, rows: int, draft: DraftTree | None) -> Query:
        start, stop = sequence.cached, min(sequence.cached + rows, sequence.committed)
        known = stop - start
        tokens, positions = ints(sequence.tokens[start:stop]), np.arange(start, stop, dtype=np.int64)
        if stop < sequence.committed:
            return Query(tokens, positions)
        state = sequence.state
        if draft is None or known + state.layout.rows > rows:
            state.layout = NO_MASKS
        layout: MaskLayout = state.layout
        clean, newest = known + layout.drafts, known - 1
        if not layout.rows:
            return Query(tokens, positions, read=Readout.of([newest], [stop]))
        group = np.repeat(np.arange(layout.drafts + 1), layout.groups)  # (masks,)
        within = np.concatenate([np.arange(size) for size in layout.groups])  # (masks,) 0, 1, ... in each group
        anchors = newest + group  # rows that the groups stand behind
        if draft is not None:
            tokens = np.concatenate([tokens, draft.tokens[: layout.drafts]])
        tokens = np.concatenate([tokens, np.full(layout.masks, mask_of(self.mask_id, sequence.traits))])
        positions = np.concatenate([positions, stop + np.arange(layout.drafts)])
        # The token right behind an anchor is drawn from the anchor's own row; the first mask row guesses the one after.
        guessed = positions[anchors] + 2 + within
        shift = sequence.traits.mask_shift.value
        positions = np.concatenate([positions, guessed - shift])
        read = np.arange(newest, len(tokens))
        return Query(
            tokens,
            positions,
            visibility=Tree(visible(clean, anchors)) if layout.masks else CAUSAL,
            # For penalties, a mask row's history is its anchor's: what other mask rows will say is not known.
            parent=np.concatenate([np.arange(-1, clean - 1), anchors]),
            read=Readout.of(
                read,
                np.concatenate([positions[newest:clean] + 1, guessed]),
                sampled=(read < clean) | self.sampled,
                measures={"confidence"},
            ),
            masked=np.arange(len(tokens)) >= clean,
        )

    def commit(self, sequence: Sequence, query: Query, answer: Answer) -> Commit:
        if not len(query.read):
            return Commit(NO_INTS, np.arange(len(query)))
        return verified(sequence, query, answer, query.read.rows[: sequence.state.layout.drafts + 1])


def visible(clean: int, anchors: IntArray) -> BoolArray:
    """(R, R) which row sees which: `clean` rows causally, and mask rows their anchors (masks,), what those see, and
    the mask rows of the same anchor."""
    rows = clean + len(anchors)
    sees = np.zeros((rows, rows), dtype=np.bool_)
    sees[:clean, :clean] = np.tri(clean, dtype=np.bool_)
    sees[clean:, :clean] = sees[anchors, :clean]
    sees[clean:, clean:] = anchors[:, None] == anchors[None, :]
    return sees
