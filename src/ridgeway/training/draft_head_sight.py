"""What the places of some texts see of them: attention to K/V that are fixed, with gradients to the queries.

K/V are padded text by text, not gathered for each place: all places of a text meet the same keys in one product. The
places themselves stay in a row behind each other wherever they do not look back.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ridgeway.core.arrays import IntArray
from ridgeway.kernels.reference.layers import rope_angles
from ridgeway.models.config import ModelConfig
from ridgeway.models.rope import rope_frequencies
from ridgeway.training.decoder import rotate


class Sight:
    """kv: of each text its first tokens' keys and values, (tokens, 2, kv_heads, head_dim).

    first: (texts,) how many tokens the first place of a text sees; each later one sees one more. places: (texts,) how
    many places it has. value_scale: see `training.draft_head.Fixed`.
    """

    def __init__(
        self, config: ModelConfig, kv: Sequence[np.ndarray], first: IntArray, places: IntArray, value_scale: float
    ) -> None:
        most, longest = int(places.max()), int((first + places).max()) - 1
        padded = np.zeros((len(kv), longest, 2, config.kv_heads, config.head_dim), dtype=np.float32)
        for room, (tokens, text) in zip(padded, zip(first + places - 1, kv, strict=True), strict=True):
            room[:tokens] = text[:tokens]
        padded[:, :, 1] *= value_scale
        self._keys, self._values = torch.from_numpy(padded).permute(2, 0, 3, 1, 4)  # (texts, kv_heads, longest, dim)
        number = np.arange(most)
        seen = first[:, None] + np.minimum(number, places[:, None] - 1)  # (texts, most); what is no place sees too
        where = np.flatnonzero(number < places[:, None])
        self._where = torch.from_numpy(where)  # of the places, in (texts, most)
        self._newest: IntArray = seen.reshape(-1)[where]  # position of the token behind all that is seen
        group = config.heads // config.kv_heads
        self._shape = (len(kv), most, config.kv_heads, group, config.head_dim)
        sees = torch.from_numpy(np.arange(longest) < seen[:, :, None])  # (texts, most, longest)
        self._sees = sees[:, None, None].expand(-1, -1, group, -1, -1).flatten(2, 3)
        self._frequencies = rope_frequencies(config)

    def seen(self, queries: Tensor, step: int) -> Tensor:
        """What places see, (n, heads * head_dim), when `step` tokens behind the newest one were guessed.

        queries: (n, heads * head_dim), not rotated yet.
        """
        texts, most, kv_heads, group, head_dim = self._shape
        cosine, sine = map(torch.from_numpy, rope_angles(self._newest + step, self._frequencies))
        turned = rotate(queries.float().view(len(queries), kv_heads * group, head_dim), cosine, sine).flatten(1)
        padded = turned.new_zeros(texts * most, turned.shape[1]).index_copy(0, self._where, turned)
        asking = padded.view(self._shape).permute(0, 2, 3, 1, 4).flatten(2, 3)  # (texts, kv_heads, group * most, dim)
        found = functional.scaled_dot_product_attention(asking, self._keys, self._values, attn_mask=self._sees)
        by_place = found.view(texts, kv_heads, group, most, head_dim).permute(0, 3, 1, 2, 4)
        return by_place.reshape(texts * most, -1)[self._where]
