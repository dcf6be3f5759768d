"""Tokens drawn by Gumbel-max from whole rows of logits, without a logarithm for each token of the vocabulary.

The token is the argmax of scaled logit plus noise, the noise being -log(-log(u)) of a uniform number u that depends
on (seed, sample, position, token) alone (see `core.noise`). Most tokens cannot win, which integers and one exponential
show: since 1 - exp(-x) <= x, a token whose scaled logit lies d below the best total so far needs 1 - u <= exp(-d). Only
tokens that pass this test, a few of a vocabulary, are computed in double precision as the oracle does.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from ridgeway.core.noise import Purpose
from ridgeway.kernels.cpu.activation import exponential
from ridgeway.kernels.cpu.lanes import (
    broadcast,
    constant,
    doubles,
    first_lanes,
    floats,
    fma,
    integers,
    load,
    load_integers,
    longs,
    max_lanes,
    splat,
    sum_lanes,
)
from ridgeway.kernels.cpu.layout import (
    DRAW_BLOCK,
    LANES,
    MOST_CANDIDATES,
    SCRATCH_BYTES,
    TASK_DOUBLES,
    TASK_LONGS,
    WANTED_CANDIDATES,
    D,
    N,
    T,
)
from ridgeway.kernels.cpu.phases import claim, close, enter, finish, leave
from ridgeway.kernels.cpu.vocabulary import LEAST

BINS = 128  # of the histogram of logits below the best
BINS_PER_UNIT = np.float32(4.0)

_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)
_MULTIPLIER_0, _MULTIPLIER_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL_0, _WEYL_1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_PURPOSE = np.uint64(Purpose.TOKEN)
_ROUNDS = 10
_CAREFUL = np.float32(1.001)  # covers the rounding of the float exponential
_SLACK = np.float32(2.0**-29)  # covers what the first 31 bits of u leave open
_PER_UNIT = np.float32(2.0**-31)
_UNLIKELY = np.float32(-12.0)  # nats below the likeliest: tokens that truncation mostly drops


@njit(error_model="numpy")
def _words(token, position, sample, seed):
    """The first two words of Philox4x32-10 (Salmon et al. 2011), as in `core.noise.philox`."""
    c0, c1, c2, c3 = token & _LOW, position & _LOW, _PURPOSE, sample & _LOW
    k0, k1 = seed & _LOW, seed >> _SHIFT
    for _ in range(_ROUNDS):
        product0 = _MULTIPLIER_0 * c0
        product1 = _MULTIPLIER_1 * c2
        c0, c1, c2, c3 = (
            (product1 >> _SHIFT) ^ c1 ^ k0,
            product1 & _LOW,
            (product0 >> _SHIFT) ^ c3 ^ k1,
            product0 & _LOW,
        )
        k0 = (k0 + _WEYL_0) & _LOW
        k1 = (k1 + _WEYL_1) & _LOW
    return c0, c1


@njit(error_model="numpy")
def token_noise(token, position, sample, seed):
    """Gumbel noise of one token, as `core.noise.gumbel`."""
    first, second = _words(np.uint64(token), position, sample, seed)
    bits = (first << np.uint64(20)) ^ (second >> np.uint64(12))
    return -np.log(-np.log((np.float64(np.int64(bits)) + 0.5) * 2.0**-52))


@intrinsic
def _store_distances(
    typingctx: Any, first: Any, position: Any, sample: Any, seed: Any, pointer: Any, index: Any
) -> Any:
    """Writes the first 31 bits of 1 - u of eight tokens: the Philox of `_words` in eight lanes of 64 bits."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        first, position, sample, seed, pointer, index = args
        long = ir.IntType(64)
        vector = ir.VectorType(long, 8)

        def all_lanes(value: Any) -> Any:
            return splat(builder, value, 8)

        low, shift = constant(0xFFFFFFFF, vector), constant(32, vector)
        multipliers = [constant(int(m), vector) for m in (_MULTIPLIER_0, _MULTIPLIER_1)]
        tokens = builder.add(all_lanes(first), ir.Constant(vector, list(range(8))))
        c0, c1 = builder.and_(tokens, low), builder.and_(all_lanes(position), low)
        c2, c3 = constant(int(_PURPOSE), vector), builder.and_(all_lanes(sample), low)
        mask = ir.Constant(long, 0xFFFFFFFF)
        k0, k1 = builder.and_(seed, mask), builder.lshr(seed, ir.Constant(long, 32))
        for _ in range(_ROUNDS):
            product0, product1 = builder.mul(multipliers[0], c0), builder.mul(multipliers[1], c2)
            c0, c1, c2, c3 = (
                builder.xor(builder.xor(builder.lshr(product1, shift), c1), all_lanes(k0)),
                builder.and_(product1, low),
                builder.xor(builder.xor(builder.lshr(product0, shift), c3), all_lanes(k1)),
                builder.and_(product0, low),
            )
            k0 = builder.and_(builder.add(k0, ir.Constant(long, int(_WEYL_0))), mask)
            k1 = builder.and_(builder.add(k1, ir.Constant(long, int(_WEYL_1))), mask)
        words = ir.VectorType(ir.IntType(32), 8)
        distance = builder.trunc(builder.lshr(builder.xor(c0, low), constant(1, vector)), words)
        place = builder.bitcast(builder.gep(pointer, [index]), words.as_pointer())
        builder.store(distance, place).align = 4

    kinds = (types.uint64, types.uint64, types.uint64, types.uint64, pointer, types.int64)
    return types.void(*kinds), codegen


@njit(error_model="numpy")
def _distances(first, position, sample, seed, out):
    """The first 31 bits of 1 - u for 256 tokens."""
    for i in range(0, DRAW_BLOCK, 8):
        _store_distances(np.uint64(first + i), position, sample, seed, out, i)


@njit(error_model="numpy")
def _draw(task, numbers, scratch):
    """The highest total among the task's tokens and the row's best logit, and its token."""
    logits = floats(task[T.logits])
    position, sample = np.uint64(task[T.position]), np.uint64(task[T.sample])
    seed = np.uint64(task[T.seed])
    temperature, best_logit = numbers[N.temperature], numbers[N.best]
    peak = best_logit / temperature
    token = task[T.best_token]
    total = token_noise(token, position, sample, seed)
    distances = integers(scratch)
    inverse = broadcast(np.float32(1.0 / temperature))
    shift = broadcast(np.float32(-best_logit / temperature))
    factor = np.float32(np.exp(-total)) * _CAREFUL
    stop = task[T.first] + task[T.tokens]
    for first in range(task[T.first], stop, DRAW_BLOCK):
        _distances(first, position, sample, seed, distances)
        for i in range(0, min(DRAW_BLOCK, stop - first), LANES):
            likely = exponential(fma(load(logits, first + i), inverse, shift))
            reach = fma(likely, broadcast(factor), broadcast(_SLACK))
            gap = fma(load_integers(distances, i), broadcast(-_PER_UNIT), reach)
            if max_lanes(gap) < np.float32(0.0):
                continue
            for j in range(first + i, min(first + i + LANES, stop)):
                found = np.float64(logits[j]) / temperature - peak + token_noise(j, position, sample, seed)
                if found > total or (found == total and j < token):
                    total, token = found, j
                    factor = np.float32(np.exp(-total)) * _CAREFUL
    return total, token


@njit(error_model="numpy")
def _comes_first(logits, a, b):
    return logits[a] > logits[b] or (logits[a] == logits[b] and a < b)


@njit(error_model="numpy")
def _sift(heap, start, count, logits):
    """Lets the token at `start` sink in a heap whose first is the likeliest; ties by id."""
    place, token = start, heap[start]
    while 2 * place + 1 < count:
        child = 2 * place + 1
        if child + 1 < count and _comes_first(logits, heap[child + 1], heap[child]):
            child += 1
        if not _comes_first(logits, heap[child], token):
            break
        heap[place] = heap[child]
        place = child
    heap[place] = token


@njit(error_model="numpy")
def _likely(task, numbers, heap):
    """The mass of all tokens relative to the best, and the tokens within some nats of it, as a heap.

    How many there are; more than `MOST_CANDIDATES`: they did not fit.
    """
    logits = floats(task[T.logits])
    count, best = task[T.tokens], np.float32(numbers[N.best])
    inverse = np.float32(1.0 / numbers[N.temperature])
    found, mass = 0, 0.0
    for first in range(0, count, DRAW_BLOCK):
        part = broadcast(np.float32(0.0))
        for i in range(first, min(first + DRAW_BLOCK, count), LANES):
            scaled = (first_lanes(load(logits, i), count - i, LEAST) - broadcast(best)) * broadcast(inverse)
            part = part + exponential(scaled)
            if max_lanes(scaled) > _UNLIKELY:
                for j in range(i, min(i + LANES, count)):
                    if (logits[j] - best) * inverse > _UNLIKELY:
                        if found < MOST_CANDIDATES:
                            heap[found] = j
                        found += 1
        mass += np.float64(sum_lanes(part))
    if found <= MOST_CANDIDATES:
        for place in range(found // 2 - 1, -1, -1):
            _sift(heap, place, found, logits)
    return mass, found


@njit(error_model="numpy")
def _draw_truncated(task, numbers, heap):
    """The token of a row of which top_k, min_p and top_p leave a part; -1 if it takes more than the likely tokens.

    They are taken from the likeliest down, as the oracle sorts them (`kernels.reference.selection`): what top_k and
    min_p leave, then the nucleus of that. Noise is asked for only of tokens that are left.
    """
    logits = floats(task[T.logits])
    temperature, top_k = numbers[N.temperature], task[T.top_k]
    top_p, min_p = numbers[N.top_p], numbers[N.min_p]
    mass, count = _likely(task, numbers, heap)
    if count > MOST_CANDIDATES:
        return np.int64(-1)
    peak = numbers[N.best] / temperature
    limited = top_k > 0 or min_p > 0.0
    left, share, ended = 0, 0.0, False
    while left < count and not ended:
        token = heap[0]
        probability = np.exp(np.float64(logits[token]) / temperature - peak) / mass
        enough = left >= top_k if top_k > 0 else (not limited and share >= top_p)
        ended = enough or probability < min_p / mass
        if not ended:
            share += probability
            left += 1
            heap[0] = heap[count - left]
            _sift(heap, 0, count - left, logits)
            heap[count - left] = token
    if not ended and count < task[T.tokens] and left != top_k:
        return np.int64(-1)  # whether less likely ones are left as well cannot be told
    if not limited:
        share = 1.0
    position, sample = np.uint64(task[T.position]), np.uint64(task[T.sample])
    seed = np.uint64(task[T.seed])
    winner, total, before = np.int64(-1), -np.inf, 0.0
    for rank in range(left):
        if top_p < 1.0 and before >= top_p:
            break
        token = heap[count - 1 - rank]
        score = np.float64(logits[token]) / temperature - peak
        before += np.exp(score) / mass / share
        score += token_noise(token, position, sample, seed)
        if score > total:
            winner, total = np.int64(token), score
    return winner


@njit(error_model="numpy")
def _gather(task, numbers, scratch, out):
    """The mass of all tokens relative to the best, and the candidates: all tokens with logits above some limit.

    There are as many as fit, at least 256, or none.
    """
    logits = floats(task[T.logits])
    count = task[T.tokens]
    temperature, best_logit = numbers[N.temperature], numbers[N.best]
    inverse = broadcast(np.float32(1.0 / temperature))
    mass = 0.0
    for first in range(0, count, DRAW_BLOCK):
        part = broadcast(np.float32(0.0))
        for i in range(first, min(first + DRAW_BLOCK, count), LANES):
            gaps = first_lanes(load(logits, i), count - i, LEAST) - broadcast(np.float32(best_logit))
            part = part + exponential(gaps * inverse)
        mass += np.float64(sum_lanes(part))
    bins = integers(scratch)
    for b in range(BINS):
        bins[b] = 0
    top = np.float32(best_logit)
    for i in range(count):
        bins[_bin(top - logits[i])] += 1
    last, found = -1, 0
    while last < BINS - 1 and found + bins[last + 1] <= MOST_CANDIDATES:
        last += 1
        found += bins[last]
    if found < WANTED_CANDIDATES:
        return mass, 0
    place = 0
    for i in range(count):
        if _bin(top - logits[i]) <= last:
            out[place] = i
            place += 1
    return mass, place


@njit(error_model="numpy")
def _bin(gap):
    return np.int64(min(gap * BINS_PER_UNIT, np.float32(BINS - 1)))


def select(control_address: int, table_address: int, member: int, number: int, scratch: int) -> None:
    control = longs(control_address)
    if member > 0 and not enter(control, number):
        return
    table = longs(table_address)
    tasks, phase = table[D.tasks], table[D.first_phase]
    place = scratch + member * SCRATCH_BYTES
    while True:
        first, count = claim(control, phase, tasks, 1, table[D.threads])
        if first < 0:
            break
        for index in range(first, first + count):
            task = longs(table[D.task_longs] + index * TASK_LONGS * 8)
            numbers = doubles(table[D.task_doubles] + index * TASK_DOUBLES * 8)
            if task[T.truncated]:
                candidates = integers(table[D.candidates] + index * MOST_CANDIDATES * 4)
                result, winner = 0.0, -1 - _draw_truncated(task, numbers, candidates)
                if winner == 0:
                    result, winner = _gather(task, numbers, place, candidates)
            else:
                result, winner = _draw(task, numbers, place)
            doubles(table[D.results])[index] = result
            longs(table[D.winners])[index] = winner
        finish(control, phase, tasks, count)
    if member > 0:
        leave(control)
    else:
        close(control)
