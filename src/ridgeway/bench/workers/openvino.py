"""OpenVINO GenAI with continuous batching; it reads GGUF files itself, and folders that were converted for it."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import Any

_BLOCK = 32  # tokens of a K/V block on CPUs
_PREFILL_ROWS = 2048


class Adapter:
    def __init__(self, model: str, context: int, batches: list[int]) -> None:
        # Imported by name and late, so that a missing package is an answer and not a crash.
        self._genai = import_module("openvino_genai")
        self._openvino = import_module("openvino")
        self._numpy = import_module("numpy")
        path = Path(model)
        if path.suffix != ".gguf" and not (path / "openvino_model.xml").is_file():
            raise ValueError("OpenVINO GenAI reads a .gguf file, or a folder with openvino_model.xml")
        self._model = model
        self._blocks = max(batches) * (context // _BLOCK + 2)
        self._pipelines: dict[int, Any] = {}  # by number of threads, which is fixed when a model is compiled
        self._pipeline: Any = None
        self._requests = 0
        self.title = f"OpenVINO GenAI {self._genai.__version__.partition('-')[0]}, continuous batching"

    def settings(self, threads: Sequence[int]) -> list[Mapping[str, Any]]:
        return [{"threads": number} for number in threads]

    def use(self, setting: Mapping[str, Any], batch: int) -> None:
        threads = setting["threads"]
        if threads not in self._pipelines:
            scheduling = self._genai.SchedulerConfig()
            scheduling.enable_prefix_caching = False
            scheduling.num_kv_blocks = self._blocks
            scheduling.max_num_batched_tokens = _PREFILL_ROWS
            self._pipelines[threads] = self._genai.ContinuousBatchingPipeline(
                self._model,
                scheduler_config=scheduling,
                device="CPU",
                properties={"INFERENCE_NUM_THREADS": threads},
            )
        self._pipeline = self._pipelines[threads]

    def keep(self, settings: Sequence[Mapping[str, Any]]) -> None:
        used = {setting["threads"] for setting in settings}
        self._pipelines = {threads: made for threads, made in self._pipelines.items() if threads in used}
        self._pipeline = None

    def generate(self, prompts: list[list[int]], max_tokens: int) -> tuple[list[list[int]], list[list[float]]]:
        greedy = self._genai.GenerationConfig()
        greedy.max_new_tokens = max_tokens
        greedy.ignore_eos = True
        greedy.do_sample = False
        greedy.apply_chat_template = False
        inputs = [self._openvino.Tensor(self._numpy.array([ids], dtype=self._numpy.int64)) for ids in prompts]
        token_ids: list[list[int]] = [[] for _ in prompts]
        arrivals: list[list[float]] = [[] for _ in prompts]
        start = perf_counter()
        handles = []
        for tensor in inputs:
            handles.append(self._pipeline.add_request(self._requests, tensor, greedy))
            self._requests += 1
        while self._pipeline.has_non_finished_requests():
            self._pipeline.step()
            now = perf_counter() - start
            for place, handle in enumerate(handles):
                while handle.can_read():
                    for output in handle.read().values():
                        token_ids[place] += output.generated_ids
                        arrivals[place] += [now] * len(output.generated_ids)
        return token_ids, arrivals
