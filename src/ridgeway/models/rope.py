"""Rotary frequencies of a model."""

import numpy as np

from ridgeway.core.arrays import DoubleArray
from ridgeway.models.config import ModelConfig, RopeScaling


def rope_frequencies(config: ModelConfig) -> DoubleArray:
    """Radians per position of each of the head_dim / 2 pairs (Su et al. 2021, section 3.2.2), after scaling."""
    exponents = np.arange(0, config.head_dim, 2, dtype=np.float64) / config.head_dim
    frequencies = config.rope_theta**-exponents
    scaling = config.rope_scaling
    if scaling is None:
        return frequencies
    if isinstance(scaling, RopeScaling):
        return _stretch(frequencies, scaling)
    return frequencies / np.asarray(scaling, dtype=np.float64)


def _stretch(frequencies: DoubleArray, scaling: RopeScaling) -> DoubleArray:
    """Llama 3.1: long wavelengths are slowed by `factor`, short ones kept, those between blended."""
    turns = scaling.original_max_positions * frequencies / (2 * np.pi)  # over the original context
    kept = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    kept = np.clip(kept, 0.0, 1.0)
    stretched: DoubleArray = frequencies * (kept + (1 - kept) / scaling.factor)
    return stretched
