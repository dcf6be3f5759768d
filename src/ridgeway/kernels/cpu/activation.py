"""The parts of a layer between its products: norms, rotary positions, gating, quantization. One row at a time.

Every sum runs in 16 lanes and ends in `sum_lanes`; rows are padded with zeros to whole vectors.
"""

import numpy as np
from numba import njit

from ridgeway.kernels.cpu.lanes import (
    absolute,
    broadcast,
    floats,
    fma,
    fma1,
    integers,
    load,
    max_lanes,
    maximum,
    minimum,
    nearest,
    power_of_two,
    signed_bytes,
    store,
    store_rounded,
    sum_lanes,
    zero_below,
)
from ridgeway.kernels.cpu.layout import LANES
from ridgeway.kernels.cpu.tiles import (
    GROUP,
    GROUP_BYTES,
    OFFSET_OF_FIRST_SUM,
    OFFSET_OF_SCALE,
    OFFSET_OF_SCALED_SUM,
    OFFSET_OF_SECOND_SUM,
)

ZERO, ONE = np.float32(0.0), np.float32(1.0)
_LARGEST = np.float32(127.0)
_NOTHING = np.float32(1e-30)  # 127 divided by less may be infinite
_LOG2_E = np.float32(1.4426950408889634)
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
_LOWEST_EXPONENT, _HIGHEST_EXPONENT = np.float32(-87.0), np.float32(88.0)
# A minimax polynomial of (exp(r) - 1 - r) / r**2 on +-ln(2) / 2 (Cephes, expf).
_P0, _P1, _P2 = np.float32(1.9875691500e-4), np.float32(1.3981999507e-3), np.float32(8.3334519073e-3)
_P3, _P4, _P5 = np.float32(4.1665795894e-2), np.float32(1.6666665459e-1), np.float32(5.0000001201e-1)


@njit(error_model="numpy")
def exponential(x):
    """exp of 16 floats, to two units in the last place; exactly 1 at 0 and 0 below -87. Above 88: exp(88)."""
    bounded = minimum(maximum(x, broadcast(_LOWEST_EXPONENT)), broadcast(_HIGHEST_EXPONENT))
    whole = nearest(bounded * broadcast(_LOG2_E))
    r = fma(whole, broadcast(-_LN2_HIGH), bounded)
    r = fma(whole, broadcast(-_LN2_LOW), r)
    p = fma(broadcast(_P0), r, broadcast(_P1))
    p = fma(p, r, broadcast(_P2))
    p = fma(p, r, broadcast(_P3))
    p = fma(p, r, broadcast(_P4))
    p = fma(p, r, broadcast(_P5))
    result = fma(p, r * r, r + broadcast(ONE)) * power_of_two(whole)
    return zero_below(result, x, _LOWEST_EXPONENT)


@njit(error_model="numpy")
def rms_norm(x, weight, out, width, padded, eps):
    """Root-mean-square norm (Zhang and Sennrich 2019, eq. 4) of `width` floats, padded with zeros to `padded`."""
    squares = broadcast(ZERO)
    for i in range(0, padded, LANES):
        v = load(x, i)
        squares = fma(v, v, squares)
    scale = ONE / np.sqrt(sum_lanes(squares) / np.float32(width) + eps)
    for i in range(0, padded, LANES):
        store(out, i, load(x, i) * broadcast(scale) * load(weight, i))


@njit(error_model="numpy")
def quantize(x, groups, out):
    """Groups of 32 floats to int8: the largest magnitude becomes 127. out: address of the first group."""
    for group in range(groups):
        low, high = load(x, group * GROUP), load(x, group * GROUP + LANES)
        largest = max_lanes(maximum(absolute(low), absolute(high)))
        inverse = ZERO
        if largest > _NOTHING:
            inverse = _LARGEST / largest
        place = out + group * GROUP_BYTES
        values = signed_bytes(place)
        first = store_rounded(values, 0, low * broadcast(inverse))
        second = store_rounded(values, LANES, high * broadcast(inverse))
        scale = largest / _LARGEST
        factors = floats(place + OFFSET_OF_SCALE)
        factors[0] = scale
        factors[(OFFSET_OF_SCALED_SUM - OFFSET_OF_SCALE) // 4] = scale * np.float32(first + second)
        sums = integers(place + OFFSET_OF_FIRST_SUM)
        sums[0] = first
        sums[(OFFSET_OF_SECOND_SUM - OFFSET_OF_FIRST_SUM) // 4] = second


@njit(error_model="numpy")
def gate(gates, ups, out, count):
    """SiLU of `gates` times `ups` (Shazeer 2020); `count` is a multiple of 16."""
    for i in range(0, count, LANES):
        g = load(gates, i)
        silu = g / (broadcast(ONE) + exponential(broadcast(ZERO) - g))
        store(out, i, silu * load(ups, i))


@njit(error_model="numpy")
def add(x, y, bias, has_bias, count):
    """x += y + bias; `count` is a multiple of 16."""
    for i in range(0, count, LANES):
        v = load(y, i)
        if has_bias:
            v = v + load(bias, i)
        store(x, i, load(x, i) + v)


@njit(error_model="numpy")
def rotate(x, cosine, sine, half, scale, out):
    """Rotary positions (Su et al. 2021) of one head, halves as pairs, times `scale`; `out` may be `x`."""
    whole = half // LANES * LANES
    by = broadcast(scale)
    for i in range(0, whole, LANES):
        first, second = load(x, i), load(x, half + i)
        c, s = load(cosine, i), load(sine, i)
        store(out, i, by * fma(first, c, broadcast(ZERO) - second * s))
        store(out, half + i, by * fma(second, c, first * s))
    for i in range(whole, half):
        first, second = x[i], x[half + i]
        out[i] = scale * fma1(first, cosine[i], -(second * sine[i]))
        out[half + i] = scale * fma1(second, cosine[i], first * sine[i])
