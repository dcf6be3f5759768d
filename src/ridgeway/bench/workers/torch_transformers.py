"""Hugging Face transformers on the processor, in bfloat16 or float32, whichever decodes faster here."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import Any


class Adapter:
    def __init__(self, model: str, context: int, batches: list[int]) -> None:
        self._torch = import_module("torch")
        self._transformers = import_module("transformers")
        path = Path(model)
        if path.suffix == ".gguf":
            import_module("gguf")  # transformers unpacks GGUF files with it
            self._source: tuple[str, dict[str, str]] = str(path.parent), {"gguf_file": path.name}
        else:
            self._source = model, {}
        self._models: dict[str, Any] = {}  # by type of the weights
        self._model: Any = None
        self.title = f"transformers {self._transformers.__version__} with torch {self._torch.__version__}"

    def settings(self, threads: Sequence[int]) -> list[Mapping[str, Any]]:
        return [{"dtype": dtype, "threads": number} for dtype in ("bfloat16", "float32") for number in threads]

    def use(self, setting: Mapping[str, Any], batch: int) -> None:
        dtype = setting["dtype"]
        if dtype not in self._models:
            folder, options = self._source
            load = self._transformers.AutoModelForCausalLM.from_pretrained
            self._models[dtype] = load(folder, dtype=getattr(self._torch, dtype), **options).eval()
        self._model = self._models[dtype]
        self._torch.set_num_threads(setting["threads"])

    def keep(self, settings: Sequence[Mapping[str, Any]]) -> None:
        used = {setting["dtype"] for setting in settings}
        self._models = {dtype: model for dtype, model in self._models.items() if dtype in used}
        self._model = None

    def generate(self, prompts: list[list[int]], max_tokens: int) -> tuple[list[list[int]], list[list[float]]]:
        torch = self._torch
        longest = max(map(len, prompts))
        # Shorter prompts are padded on the left, and the mask hides it.
        padded = torch.tensor([[0] * (longest - len(ids)) + ids for ids in prompts])
        mask = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in prompts])
        moments: list[float] = []

        def note_time(ids: Any, scores: Any, **_: Any) -> Any:
            moments.append(perf_counter() - start)
            return torch.zeros(ids.shape[0], dtype=torch.bool)

        greedy = self._transformers.GenerationConfig(
            do_sample=False,
            max_new_tokens=max_tokens,
            eos_token_id=None,
            pad_token_id=0,
            use_cache=True,
        )
        start = perf_counter()
        with torch.inference_mode():
            whole = self._model.generate(
                padded,
                attention_mask=mask,
                generation_config=greedy,
                stopping_criteria=[note_time],
            )
        token_ids = whole[:, longest:].tolist()
        return token_ids, [list(moments) for _ in prompts]
