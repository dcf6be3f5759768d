"""Where a compiled weight stream finds things: tables of 64-bit integers, mostly addresses.

One compiled function runs a whole stream of any model, so what differs between models and steps is data. A table is an
array of int64; the named tuples below hold the places of its entries. Strides are in elements unless they say bytes.
"""

from typing import NamedTuple

LANES = 16  # of a vector of floats
CHUNK = 64  # keys that attention takes at a time
ORDER_BYTES = 8 * CHUNK  # of the list of their numbers
CAREFUL = 4  # tasks of attention for each thread: fewer are claimed one by one, and cut where they do not go round
SEGMENT = 512  # keys whose chunks one after the other update one state

MATRIX_LONGS = 6


class MatrixFields(NamedTuple):
    """A matrix in tiles: the address of its product kernel and of its tiles, and sizes."""

    kernel: int
    tiles: int
    tile_count: int
    tile_bytes: int
    blocks: int
    quantized: int  # whether it takes quantized activations


class LayerFields(NamedTuple):
    """A layer: addresses of its vectors (0: none) and its matrices, each `MATRIX_LONGS` entries."""

    attn_norm: int
    mlp_norm: int
    q_norm: int
    k_norm: int
    q_bias: int
    k_bias: int
    v_bias: int
    o_bias: int
    gate_bias: int
    up_bias: int
    down_bias: int
    window: int  # positions that a row sees, itself included; 0: all
    runs_attention: int
    runs_mlp: int
    keys: int  # address of the layer's K and V storage, and of their scales (0: bf16)
    values: int
    key_scales: int
    value_scales: int
    q: int
    k: int
    v: int
    o: int
    gate: int
    up: int
    down: int


class BlockFields(NamedTuple):
    """Some rows of one query that attend together to keys of a shared list, then each to its own."""

    first_row: int
    rows: int
    shared_start: int  # in the key list
    shared_count: int
    longest: int  # most keys that one of the rows sees


class RowFields(NamedTuple):
    """A row: its position, where in the cache its slot is, how many keys it sees, and where its own part of the key
    list begins.

    The part after the block's shared keys; none if all keys are shared.
    """

    position: int
    slot: int
    seen: int
    own_start: int


class StepFields(NamedTuple):
    """A step: the model's sizes, the batch, and the buffers."""

    first_phase: int
    threads: int
    layers: int  # how many
    layer_table: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    eps: int  # address of one float
    cosines: int  # address of a table (positions, head_dim / 2)
    sines: int
    head_slots: int  # from a head's K/V to those of the next, in slots
    kv_width: int  # numbers of a head as stored
    rows: int
    row_table: int
    blocks: int
    block_table: int
    key_slots: int  # the key list: where in the cache their slots are
    key_positions: int
    segments: int  # of 512 keys, for the longest list
    splits: int  # whether segments are tasks of their own
    whole: int  # tasks of attention, each a block of rows and a K/V head, that are done whole, if segments are no tasks
    pieces: int  # into which the rows of each of the others are cut
    alone: int  # whether every query has one row, and segments are no tasks
    reads: int
    read_rows: int  # the list of them
    trims: (
        int  # whether the last layer leaves out rows that nobody reads: if reads ascend and are fewer; not if `alone`
    )
    measures: int  # whether more than the best logit is wanted
    final_norm: int
    head: int  # address of the head's matrix table
    x: int  # (rows, x_stride) the residual stream
    x_stride: int
    normed: int  # (rows, normed_stride) floats, and the same quantized
    normed_stride: int
    packed: int
    packed_bytes: int  # of a row
    product: int  # (rows, product_stride) outputs of q, k, v, one behind the other; of gate and up; of o and down
    product_stride: int
    query: int  # (rows, heads, kv_width)
    mixed: int  # (rows, mixed_stride) what attention returns
    mixed_stride: int
    gated: int  # (rows, gated_stride) what the gate lets through
    gated_stride: int
    gated_packed: int
    gated_packed_bytes: int
    partials: int  # states of segments, if they are tasks
    scratch: int  # of the first member
    scratch_bytes: int
    logits: int  # (reads, logits_stride)
    logits_stride: int
    vocabulary: int
    units: int  # (reads, units of the head, UNIT_FLOATS)
    bests: int  # (reads, 2) doubles: the best logit and its token


M = MatrixFields(*range(MATRIX_LONGS))
_SCALARS = LayerFields._fields.index("q")
_PLACES = [*range(_SCALARS), *(_SCALARS + MATRIX_LONGS * i for i in range(7))]
L = LayerFields(*_PLACES)
LAYER_LONGS = _SCALARS + 7 * MATRIX_LONGS
B = BlockFields(*range(len(BlockFields._fields)))
BLOCK_LONGS = len(B)
R = RowFields(*range(len(RowFields._fields)))
ROW_LONGS = len(R)
S = StepFields(*range(len(StepFields._fields)))
STEP_LONGS = len(S)

HEAD_UNIT = 32  # tiles of the head in one task: 512 tokens
UNIT_FLOATS = 8  # best, its place in the unit, second best, mass, mass times (logit - best)


class UnitFields(NamedTuple):
    """What is known of the logits of one row in one unit of the head; masses are relative to the best logit."""

    best: int
    place: int
    second: int
    mass: int
    surprise: int  # the sum of exp(logit - best) * (logit - best)


U = UnitFields(*range(5))

PIECE = 8192  # tokens of a task
MOST_CANDIDATES = 4096
WANTED_CANDIDATES = 256
DRAW_BLOCK = 256  # of these, tokens whose noise is computed together
SCRATCH_BYTES = DRAW_BLOCK * 4  # for each member that draws


class DrawFields(NamedTuple):
    """What a drawing call knows. Tables are addresses."""

    first_phase: int
    threads: int
    tasks: int
    task_longs: int  # (tasks, TASK_LONGS)
    task_doubles: int  # (tasks, TASK_DOUBLES)
    results: int  # (tasks,) doubles: the best total, or the mass of all probabilities relative to the best
    winners: int  # (tasks,) longs: its token; of a truncated row -1 - token, or else how many candidates there are
    candidates: int  # (tasks, MOST_CANDIDATES) int32


class TaskFields(NamedTuple):
    """Tokens `first` to `first + tokens - 1` of a row. truncated: by top_k, top_p or min_p; then all of the row."""

    logits: int
    first: int
    tokens: int
    truncated: int
    seed: int
    sample: int
    position: int
    best_token: int
    top_k: int


class NumberFields(NamedTuple):
    """best: the row's highest logit."""

    temperature: int
    best: int
    top_p: int
    min_p: int


D = DrawFields(*range(len(DrawFields._fields)))
DRAW_LONGS = len(D)
T = TaskFields(*range(len(TaskFields._fields)))
TASK_LONGS = len(T)
N = NumberFields(*range(len(NumberFields._fields)))
TASK_DOUBLES = len(N)


class UnrollFields(NamedTuple):
    """An unrolling. Addresses, sizes, strides in elements unless they say bytes."""

    first_phase: int
    threads: int
    rows: int
    depth: int
    hidden: int
    vocabulary: int  # tokens that the head knows
    query: int  # address of a matrix table, as are gate, up, down and head; 0: the head does not look back
    gate: int
    up: int
    down: int
    head: int
    ids: int  # (vocabulary,) the token of each output of the head
    fed: int  # (vocabulary, hidden) fp16, the head's row of each
    embedding: int  # the head's rows of all tokens, in Q8_0; 0: the row of the newest token is in z already
    embedding_bytes: int  # of a row
    norm: int  # (hidden,) weight of the model's final norm
    eps: int  # (1,) of that norm
    step: int  # a stream's tables, for what the head sees of the text so far
    layer: int
    z: int  # (rows, z_stride): state (at first the hidden state), the head's row of the newest token, what it sees
    z_stride: int
    z_packed: int
    z_packed_bytes: int
    product: int  # (rows, product_stride): of the query; of gate and up; of down
    product_stride: int
    gated: int
    gated_stride: int
    gated_packed: int
    gated_packed_bytes: int
    logits: int
    logits_stride: int
    units: int  # (rows, units of the head, UNIT_FLOATS)
    row_table: int  # (rows, UNROLL_ROW_LONGS)
    numbers: int  # (rows, 2) doubles: temperature; least survival at which a row goes on
    tokens: int  # (rows, depth, GUESSES) ids
    chances: int  # (rows, depth, GUESSES) doubles: the head's probability of each guess; 0 where it did not go on
    survival: int  # (depth, rows) doubles: the product of the chances so far, 0 where it did not go on


class UnrollRowFields(NamedTuple):
    """token: the newest one. position: of the first token that is drafted."""

    seed: int
    sample: int
    position: int
    token: int


UF = UnrollFields(*range(len(UnrollFields._fields)))
UNROLL_LONGS = len(UF)
UR = UnrollRowFields(*range(len(UnrollRowFields._fields)))
UNROLL_ROW_LONGS = len(UR)
