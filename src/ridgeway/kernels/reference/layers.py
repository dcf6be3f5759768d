"""The plain parts of a decoder layer.

A row's result must not depend on which rows share the batch, or a lossless method would not be lossless. BLAS orders
the sums of a product by its shape, so every row is multiplied alone: a matrix-vector product has the same shape, and
hence the same bits, in every batch.
"""

import numpy as np

from ridgeway.core.arrays import DoubleArray, FloatArray, IntArray


def linear(x: FloatArray, weight: FloatArray, bias: FloatArray | None = None) -> FloatArray:
    """x (rows, inputs) times weight (outputs, inputs) transposed, plus bias (outputs,): (rows, outputs)."""
    product: FloatArray = np.matmul(x[:, None, :], weight.T)[:, 0, :]
    return product if bias is None else product + bias


def linear_in_order(x: FloatArray, weight: FloatArray, bias: FloatArray | None = None) -> FloatArray:
    """The same, summed over the inputs in their order, as matrix products of other libraries mostly do.

    Two equal rows are no vector to BLAS, so its matrix kernel runs, whose sums are in order. Several times slower.
    """
    product: FloatArray = np.matmul(np.repeat(x[:, None, :], 2, axis=1), weight.T)[:, 0, :]
    return product if bias is None else product + bias


def rms_norm(x: FloatArray, weight: FloatArray, eps: float) -> FloatArray:
    """Root-mean-square norm over the last axis (Zhang and Sennrich 2019, eq. 4)."""
    mean_square: FloatArray = np.mean(np.square(x), axis=-1, keepdims=True, dtype=np.float32)
    normed: FloatArray = x / np.sqrt(mean_square + np.float32(eps)) * weight
    return normed


def layer_norm(x: FloatArray, weight: FloatArray, eps: float) -> FloatArray:
    """Norm by mean and variance over the last axis (Ba et al. 2016, eq. 4)."""
    centred: FloatArray = x - np.mean(x, axis=-1, keepdims=True, dtype=np.float32)
    return rms_norm(centred, weight, eps)


def silu(x: FloatArray) -> FloatArray:
    """x times its logistic function, without overflow for very negative x."""
    half = np.float32(0.5)
    gated: FloatArray = x * (half * (np.tanh(half * x) + np.float32(1.0)))
    return gated


def gelu(x: FloatArray) -> FloatArray:
    """The Gaussian error linear unit in its tanh form (Hendrycks and Gimpel 2016, section 2)."""
    half, one, cubic, slope = (np.float32(value) for value in (0.5, 1.0, 0.044715, (2 / np.pi) ** 0.5))
    inner: FloatArray = slope * (x + cubic * (x * x * x))
    activated: FloatArray = x * (half * (np.tanh(inner) + one))
    return activated


def rope_angles(positions: IntArray, frequencies: DoubleArray) -> tuple[FloatArray, FloatArray]:
    """Cosine and sine (rows, 1, head_dim / 2) of each row's angle for each frequency (head_dim / 2,)."""
    angles = positions[:, None].astype(np.float64) * frequencies[None, :]
    return np.cos(angles).astype(np.float32)[:, None, :], np.sin(angles).astype(np.float32)[:, None, :]


def rotate(x: FloatArray, cosine: FloatArray, sine: FloatArray) -> FloatArray:
    """Rotary position embedding (Su et al. 2021): x (rows, heads, head_dim), halves rotated as pairs."""
    half = x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    return np.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=-1)
