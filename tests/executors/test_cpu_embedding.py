import numpy as np
import pytest

from ridgeway.core.arrays import ints
from ridgeway.executors.cpu.embedding import Embedding
from ridgeway.kernels.cpu.compilation import Compiler
from ridgeway.models.cache_folder import cache_folder
from ridgeway.quant.quantize import quantized
from ridgeway.quant.tensor import Tensor

VALUES = np.random.default_rng(0).standard_normal((300, 64), dtype=np.float32)


@pytest.mark.parametrize("quant", [None, "Q8_0", "Q4_0"])
@pytest.mark.parametrize("count", [1, 3, 16, 17, 100])
def test_rows_are_those_of_the_tensor_however_many_and_however_often(quant, count):
    tensor = Tensor.of("embed", VALUES)
    tensor = tensor if quant is None else quantized(tensor, quant)
    embedding, tokens = (
        Embedding(tensor, Compiler(cache_folder("kernels"))),
        ints(np.random.default_rng(1).integers(0, 300, count)),
    )
    for _ in range(2):
        x = np.full((128, 80), 7, dtype=np.float32)
        embedding.write(tokens, x)
        np.testing.assert_array_equal(x[:count, :64], tensor.take(tokens))
        assert (x[count:] == 7).all()
        assert (x[:, 64:] == 7).all()


def test_what_was_used_longest_ago_is_forgotten():
    tensor = Tensor.of("embed", np.zeros((8, 1 << 18), dtype=np.float32))  # 1 MiB a row
    embedding = Embedding(tensor, Compiler(cache_folder("kernels")))
    x = np.zeros((1, 1 << 18), dtype=np.float32)
    for token in range(8):
        embedding.write(ints([token]), x)
    assert embedding._row.cache_info().currsize == 4
