"""llama.cpp through the C API of its Python binding, which batches sequences; the binding's own classes do not."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from time import perf_counter
from typing import Any

_BATCH = 2048  # llama.cpp's own defaults: tokens of a call, and of one pass through the weights
_PASS = 512


class Adapter:
    def __init__(self, model: str, context: int, batches: list[int]) -> None:
        if not model.endswith(".gguf"):
            raise ValueError("llama.cpp reads .gguf files only")
        self._api = api = import_module("llama_cpp")
        self._numpy = import_module("numpy")
        api.llama_backend_init()
        options = api.llama_model_default_params()
        options.n_gpu_layers = 0
        self._model = api.llama_model_load_from_file(model.encode(), options)
        if not self._model:
            raise ValueError(f"llama.cpp cannot load {model}")
        self._vocab_size = api.llama_vocab_n_tokens(api.llama_model_get_vocab(self._model))
        self._length = context
        self._context: Any = None
        self._in_use: tuple[int, int] | None = None
        self.title = f"llama.cpp through llama-cpp-python {api.__version__}"

    def settings(self, threads: Sequence[int]) -> list[Mapping[str, Any]]:
        return [{"threads": number} for number in threads]

    def use(self, setting: Mapping[str, Any], batch: int) -> None:
        api = self._api
        if self._in_use == (setting["threads"], batch):
            return
        if self._context is not None:
            api.llama_free(self._context)
        options = api.llama_context_default_params()
        options.n_seq_max = batch
        options.n_ctx = batch * (-(-self._length // 256) * 256)
        options.n_batch, options.n_ubatch = _BATCH, _PASS
        options.n_threads = options.n_threads_batch = setting["threads"]
        self._context = api.llama_init_from_model(self._model, options)
        if not self._context:
            raise ValueError(f"llama.cpp cannot hold {batch} sequences of {self._length} tokens")
        self._in_use = setting["threads"], batch

    def keep(self, settings: Sequence[Mapping[str, Any]]) -> None:
        pass

    def generate(self, prompts: list[list[int]], max_tokens: int) -> tuple[list[list[int]], list[list[float]]]:
        api = self._api
        token_ids: list[list[int]] = [[] for _ in prompts]
        arrivals: list[list[float]] = [[] for _ in prompts]
        api.llama_memory_clear(api.llama_get_memory(self._context), False)
        batch = api.llama_batch_init(_BATCH, 0, 1)
        start = perf_counter()
        try:
            # (token, position, sequence, whether what follows is wanted)
            rows = [
                (token, position, place, position == len(ids) - 1)
                for place, ids in enumerate(prompts)
                for position, token in enumerate(ids)
            ]
            for step in range(max_tokens):
                for first in range(0, len(rows), _BATCH):
                    found = self._decode(batch, rows[first : first + _BATCH])
                    now = perf_counter() - start
                    for place, token in found:
                        token_ids[place].append(token)
                        arrivals[place].append(now)
                rows = [(ids[-1], len(prompts[place]) + step, place, True) for place, ids in enumerate(token_ids)]
        finally:
            api.llama_batch_free(batch)
        return token_ids, arrivals

    def _decode(self, batch: Any, rows: Sequence[tuple[int, int, int, bool]]) -> list[tuple[int, int]]:
        """(sequence, its next token) of the rows that want one."""
        api, numpy = self._api, self._numpy
        batch.n_tokens = len(rows)
        for row, (token, position, place, wanted) in enumerate(rows):
            batch.token[row] = token
            batch.pos[row] = position
            batch.n_seq_id[row] = 1
            batch.seq_id[row][0] = place
            batch.logits[row] = wanted
        failed = api.llama_decode(self._context, batch)
        if failed:
            raise RuntimeError(f"llama_decode returned {failed} for {len(rows)} tokens")
        found = []
        for row, (_, _, place, wanted) in enumerate(rows):
            if wanted:
                logits = api.llama_get_logits_ith(self._context, row)
                found.append((place, int(numpy.argmax(numpy.ctypeslib.as_array(logits, (self._vocab_size,))))))
        return found
