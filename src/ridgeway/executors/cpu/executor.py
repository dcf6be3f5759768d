"""The CPU executor: a weight stream at the speed of the memory bus.

Python prepares tables, one compiled call by each thread of the team runs the stream, and Python reads the answers out.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from ridgeway.core.arrays import FloatArray, IntArray, joined
from ridgeway.core.errors import ModelError
from ridgeway.core.query import Answer, Batch, Forward
from ridgeway.core.traits import ModelTraits
from ridgeway.executors.coverage import missing_in_cpu
from ridgeway.executors.cpu.ahead import NOTHING_AHEAD, AheadTable
from ridgeway.executors.cpu.answers import RowSums, answer_of, measures_needed
from ridgeway.executors.cpu.buffers import Buffers
from ridgeway.executors.cpu.cache import GROUP_SLOTS, PagedCache
from ridgeway.executors.cpu.embedding import Embedding
from ridgeway.executors.cpu.plan import Plan, plan_batch, rows_per_block
from ridgeway.executors.cpu.selecting import Selector
from ridgeway.executors.cpu.sight import Sight
from ridgeway.executors.cpu.unroller import CpuUnroller
from ridgeway.executors.cpu.weights import HeldWeights
from ridgeway.kernels.cpu.compilation import Compiler
from ridgeway.kernels.cpu.isa import choose_instruction_set
from ridgeway.kernels.cpu.kernels import stream_kernel
from ridgeway.kernels.cpu.layout import CAREFUL, L, S
from ridgeway.kernels.cpu.residence import tidy
from ridgeway.kernels.cpu.team import AHEAD, Team, usable_cores
from ridgeway.kernels.reference.distribution import with_distributions
from ridgeway.models.cache_folder import cache_folder
from ridgeway.models.draft_head import DraftHead
from ridgeway.models.model import Model
from ridgeway.models.rope import rope_frequencies

if TYPE_CHECKING:
    from ridgeway.kernels.cpu.ceiling import Int8Ceiling

_POSITIONS_AT_A_TIME = 1024
_AHEAD = 8 << 20  # bytes of weights that are read between streams: measured; Python gives time for about that
_AHEAD_ONCE_ASKED = 20 << 20  # up to which byte, once a draft head was asked: Python gives time for more
_RUNS = [L.runs_attention, L.runs_mlp]


class CpuExecutor:
    """Runs any model of the Llama family (see `executors.coverage`); see `core.executor.Executor` for the contract.

    threads: None: as many as this process may use physical cores. isa: name of an instruction set, None: the best.
    kv: how K/V are stored. quant: the format into which matrices of floats are quantized as they are loaded, one of
    `quant.quantize.QUANTIZATIONS`; None: they stay floats. folder: where compiled kernels are kept. progress: is told
    when compilation takes a while.
    """

    name: ClassVar[str] = "cpu"
    activation_itemsize = 4

    def __init__(
        self,
        model: Model,
        threads: int | None = None,
        *,
        isa: str | None = None,
        kv: Literal["bf16", "int8"] = "bf16",
        quant: str | None = None,
        folder: Path | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> None:
        self.config = config = model.config
        if (missing := missing_in_cpu(config)) is not None:
            raise ModelError(
                model.source or model.name, f"has {missing}, which the cpu executor lacks: use the reference executor"
            )
        self.isa = choose_instruction_set(isa)
        self.threads = threads or usable_cores()
        self._compiler = compiler = Compiler(folder or cache_folder("kernels"), progress)
        self._ceiling: Int8Ceiling | None = None
        self._stream = stream_kernel(compiler)
        self._team = Team(self.threads)
        self._selector = Selector(compiler, self._team)
        self._weights = HeldWeights(model, compiler, self.isa, quant)
        tidy(tensor.data for tensor in model.tensors.values())
        self._embedding = Embedding(model.tensors["embed"], compiler)
        self.arithmetic = "int8" if self._weights.quantized() else "fp32"
        self._block_rows = rows_per_block(config.heads, config.kv_heads)
        group = config.heads // config.kv_heads
        self._buffers = Buffers(config, self.threads, self._block_rows * group)
        self._cache = PagedCache(config, self._buffers.kv_width, kv)
        self.kv_itemsize = self._cache.itemsize
        self._frequencies = rope_frequencies(config)
        self._weights.layers[:, _RUNS] = 1
        self._runs_whole = True
        self._windows = any(config.windows)
        self._eps = np.array([config.rms_eps], dtype=np.float32)
        self._angles: tuple[FloatArray, FloatArray] = (np.zeros(0, np.float32), np.zeros(0, np.float32))
        self._ahead = self._ahead_of_head = AheadTable.of(self._weights.part(0, _AHEAD))
        self._fill_step()
        self._reach(_POSITIONS_AT_A_TIME - 1)
        self.allocate(0)

    @property
    def traits(self) -> ModelTraits:
        return self.config.traits

    @property
    def held_bytes(self) -> Mapping[str, int]:
        return self._weights.nbytes

    @property
    def slot_bytes(self) -> int:
        return self._cache.slot_bytes

    def allocate(self, slots: int) -> None:
        self._cache.allocate(slots)
        self._cache.fill_tables(self._weights.layers)

    def move(self, source: IntArray, target: IntArray) -> None:
        self._cache.move(source, target)

    def kv(self, layer: int, slots: IntArray) -> tuple[FloatArray, FloatArray]:
        """Keys, rotated to their positions, and values of `layer` in some slots: each (n, kv_heads, head_dim)."""
        keys, values = self._cache.read(layer, slots)
        return keys[..., : self.config.head_dim], values[..., : self.config.head_dim]

    def forward(self, batch: Batch) -> Forward:
        plan = plan_batch(batch, self._block_rows, self._windows, self._cache.places)
        self._prepare(batch, plan)
        step, control = self._buffers.address, self._team.address
        ahead = self._ahead_after(batch)
        self._team.control[AHEAD] = ahead.address

        def work(member: int, number: int, _: AheadTable = ahead) -> None:  # keeps it as long as a helper may read it
            self._stream(control, step, member, number)

        self._team.run(work)
        return Forward(self._answers(batch))

    def _ahead_after(self, batch: Batch) -> AheadTable:
        """What is likely to be read first after `batch`. Of several sequences nothing: it was measured not to help."""
        if len(batch.entries) > 1 or self.threads == 1:
            return NOTHING_AHEAD
        # Whoever reads hidden states is likely to ask the head next.
        return self._ahead_of_head if "hidden" in batch.entries[0].query.read.measures else self._ahead

    def unroller(self, head: DraftHead) -> CpuUnroller:
        """A draft head of the model, in kernels of the same team."""
        sight = Sight(self._buffers.step, self._weights.layers[head.layer], self._cache, self._reach)
        ahead = AheadTable.of(self._weights.part(_AHEAD, _AHEAD_ONCE_ASKED))
        tied = head.whole_head is self._embedding.tensor
        embedding = self._embedding if tied else Embedding(head.whole_head, self._compiler)
        unroller = CpuUnroller(head, embedding, self._compiler, self.isa, self._team, sight, ahead)
        tidy(part.data for part in head.stored)
        self._ahead_of_head = AheadTable.of(self._weights.part(0, _AHEAD), unroller.matrices)
        return unroller

    def measure_arithmetic(self) -> float:
        """Operations/s of int8 products at their best, on all threads: the peak that `arithmetic` refers to.

        One measurement of some milliseconds; repeat it. For models whose weights stay floats it is not meant.
        """
        from ridgeway.kernels.cpu.ceiling import Int8Ceiling  # with all of Numba, which most runs do without

        if self._ceiling is None:
            self._ceiling = Int8Ceiling(self._compiler, self.isa, self.threads)
        return self._ceiling.rate()

    def _answers(self, batch: Batch) -> tuple[Answer, ...]:
        reads, buffers = batch.reads, self._buffers
        sums = RowSums(buffers.bests[:reads], buffers.units[:reads])
        if buffers.step[S.measures]:
            sums.measure()
        logits = buffers.logits[:reads, : self.config.vocab_size]
        hidden = self._hidden(batch)
        tokens = self._selector.choose(batch, logits, sums)
        answers, start = [], 0
        for entry in batch.entries:
            rows = slice(start, start + len(entry.query.read))
            answers.append(answer_of(entry.query.read, tokens[rows], logits[rows], sums, rows, hidden))
            start = rows.stop
        return with_distributions(tuple(answers), logits, batch)

    def _hidden(self, batch: Batch) -> FloatArray | None:
        """(reads, hidden) a copy of the residual stream behind the last layer, if anybody wants to know it."""
        if not any("hidden" in entry.query.read.measures for entry in batch.entries):
            return None
        states = self._buffers.x[:, : self.config.hidden]
        found: FloatArray = states[: batch.reads].copy() if self._buffers.step[S.trims] else states[batch.read_rows]
        return found

    def _prepare(self, batch: Batch, plan: Plan) -> None:
        buffers, step = self._buffers, self._buffers.step
        rows, reads = batch.rows, batch.reads
        tasks = len(plan.blocks) * self.config.kv_heads
        few = tasks < CAREFUL * self.threads
        splits = plan.segments > 1 and few
        buffers.fit(rows, reads, rows * self.config.heads * plan.segments if splits else 0)
        self._embedding.write(joined([entry.query.tokens for entry in batch.entries]), buffers.x)
        self._reach(plan.furthest)
        buffers.put(S.row_table, plan.rows)
        buffers.put(S.block_table, plan.blocks)
        buffers.put(S.key_slots, plan.key_slots)
        buffers.put(S.key_positions, plan.key_positions)
        buffers.put(S.read_rows, batch.read_rows)
        step[S.first_phase] = self._team.phase
        step[S.rows], step[S.reads] = rows, reads
        step[S.blocks], step[S.segments], step[S.splits] = len(plan.blocks), plan.segments, splits
        # A query's only row prepares its K/V in the task that attends, which must not be done twice.
        cut = few and rows > len(batch.entries)
        step[S.whole] = tasks // self.threads * self.threads if cut else tasks
        step[S.pieces] = min(self.threads, plan.tallest)
        step[S.alone] = not splits and rows == len(batch.entries)
        step[S.trims] = reads < rows and not step[S.alone] and bool((np.diff(batch.read_rows) > 0).all())
        step[S.measures] = any(measures_needed(entry.query.read) for entry in batch.entries)
        if batch.sublayers is not None or not self._runs_whole:
            self._weights.layers[:, _RUNS] = 1 if batch.sublayers is None else batch.sublayers
            self._runs_whole = batch.sublayers is None

    def _fill_step(self) -> None:
        """What does not change from step to step."""
        config, step = self.config, self._buffers.step
        step[S.threads], step[S.layers] = self.threads, config.layers
        step[S.layer_table] = self._weights.layers.ctypes.data
        step[S.hidden], step[S.intermediate] = config.hidden, config.intermediate
        step[S.heads], step[S.kv_heads], step[S.head_dim] = config.heads, config.kv_heads, config.head_dim
        step[S.kv_width], step[S.head_slots] = self._buffers.kv_width, GROUP_SLOTS
        step[S.eps] = self._eps.ctypes.data
        step[S.final_norm] = self._weights.final_norm
        step[S.head] = self._weights.head.ctypes.data
        step[S.vocabulary] = config.vocab_size

    def _reach(self, position: int) -> None:
        """Makes the table of rotary angles long enough for `position`."""
        if position < len(self._angles[0]):
            return
        count = -(-(position + 1) // _POSITIONS_AT_A_TIME) * _POSITIONS_AT_A_TIME
        angles = np.arange(count)[:, None] * self._frequencies[None, :]
        self._angles = (np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32))
        step = self._buffers.step
        step[S.cosines], step[S.sines] = (table.ctypes.data for table in self._angles)
