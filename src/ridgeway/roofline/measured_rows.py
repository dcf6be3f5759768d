"""Published measurements as data: a row of a table becomes a model, a machine and a workload, or a reason why not.

Tables of measurements speak many dialects: what a rate counts, how a card is called, what a precision means in which
engine. All reading of them happens here, so that what a row is taken for can be read in one place. Nothing is tuned
to single rows.
"""

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ridgeway.core.errors import RidgewayError
from ridgeway.models.known import find_known, outline_of_parameters
from ridgeway.models.outline import Outline
from ridgeway.roofline.engines import engine_family, engine_name, engine_version, has_flash_attention
from ridgeway.roofline.hardware import machine, machine_key
from ridgeway.roofline.machine import Machine
from ridgeway.roofline.precision import PRECISIONS, Precision, precision
from ridgeway.roofline.speedups import ROUNDS

_VLLM_READS_KV_WIDTH = (0, 14)
_MOST_CONTEXT = 1 << 20
_PRECISIONS = {
    "f16": "fp16",
    "int8-wo": "int8-weights",
    "int4": "int4-g32",
    "int4 weight-only (awq)": "int4-g128",
    "w4a16": "int4-g128",
    "awq": "int4-g128",
    "gptq": "int4-g128",
    "bf16 (not stated)": "bf16",
    "nvfp4": "nvfp4",
}
NEEDED = ("model", "hardware", "metric", "tok_s")


@dataclass(frozen=True)
class Measurement:
    """A row that was understood. seconds: of what `kind` says: a decode step of all requests (`decode`), a prompt
    (`prefill`), a whole batch from prompts to ends (`served`), a diffusion forward (`forward`); of a gain over plain
    decoding (`speedup`, whose rate is the gain) none.

    device: the table's key, by which devices are left out. batch: None: as large as fits. context: cached
    tokens when it begins. interleaved: prompts are prefilled between decode steps. flash: attention never
    stores its scores. tokens: yielded by a step to each request.
    """

    id: str
    outline: Outline
    weights: Precision
    machine: Machine
    device: str
    devices: int
    engine: str
    engine_name: str
    method: str
    kind: str
    batch: int | None
    prompt: int
    output: int
    depth: int
    seconds: float
    rate: float
    tokens: float
    interleaved: bool
    kv_itemsize: int
    flash: bool
    source: str

    @property
    def is_mixture(self) -> bool:
        return self.outline.config.experts is not None


@dataclass(frozen=True)
class Refusal:
    """A row that is not predicted, and why."""

    id: str
    reason: str
    gated: bool = False


def read_rows(path: str | Path) -> list[Measurement | Refusal]:
    """Raises RidgewayError if the file cannot be read or lacks a needed column."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise RidgewayError(f"{path}: cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise RidgewayError(f"{path}: cannot be read as a table: {error}") from None
    rows = [_of_speedups(row) if "speedup_x" in row else row for row in rows]
    missing = [name for name in NEEDED if not rows or name not in rows[0]]
    if missing:
        raise RidgewayError(f"{path}: has no column {missing[0]}; expected at least {', '.join(NEEDED)} and a row")
    return [
        _read({key: (value or "").strip() for key, value in row.items() if key}, n) for n, row in enumerate(rows, 1)
    ]


def _of_speedups(row: Mapping[str, str]) -> dict[str, str]:
    """A row of a table of speed-ups, in the columns of a table of rates."""
    notes, accepted = row.get("notes") or "", row.get("accept") or ""
    tokens = re.search(r"([\d.]+) tok/(?:step|target)", accepted)
    said = re.search(r"\b(fp16|bf16|q8_0|Q4_K_M)\b", f"{row.get('target_model')} {notes}")
    return {
        "model": row.get("target_model") or "",
        "precision": said[1] if said else "",
        "hardware": re.sub(r".*unstated.*", "", row.get("hardware") or ""),
        "engine": "pytorch" if "pytorch" in notes else "",
        "decode_method": row.get("method") or "",
        "batch": row.get("batch_or_concurrency") or "",
        "metric": "speedup",
        "tok_s": "",
        "speedup_vs_ar": row.get("speedup_x") or "",
        "tokens_per_forward_or_accepted": tokens[1] if tokens else "",
        "source": row.get("source") or "",
    }


def _read(row: Mapping[str, str], number: int) -> Measurement | Refusal:
    name = row.get("id") or f"row {number}"
    try:
        return _measurement(row, name)
    except _UnusableError as reason:
        return Refusal(name, str(reason), _looks_gated(row))
    except RidgewayError as error:
        return Refusal(name, str(error), _looks_gated(row))


class _UnusableError(Exception):
    """Why a row cannot be predicted."""


def _looks_gated(row: Mapping[str, str]) -> bool:
    """Whether it would count for the gate if it could be read: dense, one device, plain decoding, a rate of it."""
    method, metric = row.get("decode_method", "ar"), row.get("metric", "")
    one = row.get("n_devices", "1") in ("", "1")
    dense = row.get("active_params_b", "") in ("", row.get("total_params_b", ""))
    return one and dense and method.startswith("ar") and metric.startswith("decode_tok_s")


def _measurement(row: Mapping[str, str], name: str) -> Measurement:
    metric, method = row["metric"], row.get("decode_method") or "ar"
    kind = _kind(metric, method, row)
    rate = _number(row.get("speedup_vs_ar", "") if kind == "speedup" else row["tok_s"])
    if rate is None or rate <= 0:
        raise _UnusableError("no rate")
    devices = _number(row.get("n_devices", "") or "1")
    outline, weights = _outline(row), _weights(row)
    device, machine_ = _machine(row)
    batch = _batch(row)
    prompt, output = _length(row.get("prompt_len", "")), _length(row.get("output_len", ""))
    tokens = 1.0
    if kind in ("forward", "speedup"):
        tokens = _number(row.get("tokens_per_forward_or_accepted", "")) or 0.0
        if tokens < 1:
            raise _UnusableError("tokens per forward are not stated")
    depth = re.search(r"at depth (\d+)", metric)
    if kind == "prefill":
        if not prompt:
            raise _UnusableError("prompt length is not stated")
        seconds = prompt / rate
    elif kind == "served":
        seconds = 1 / rate
    elif kind == "speedup":
        seconds = 0.0
    else:
        per_user = "total" not in metric
        seconds = tokens * (1 / rate if per_user else (batch or 1) / rate)
    return Measurement(
        id=name,
        outline=outline,
        weights=weights,
        machine=machine_,
        device=device,
        devices=int(devices or 1),
        engine=engine_family(row.get("engine", "")),
        engine_name=engine_name(row.get("engine", "")),
        method=method,
        kind=kind,
        batch=batch,
        prompt=prompt or 0,
        output=output or (1 if kind == "prefill" else 128),
        depth=int(depth[1]) if depth and kind == "prefill" else 0,
        seconds=seconds,
        rate=rate,
        tokens=tokens,
        interleaved="continuous" in method,
        kv_itemsize=1 if _has_narrow_kv(row, weights) else 2,
        flash=has_flash_attention(row.get("engine", "")),
        source=row.get("source", ""),
    )


def _kind(metric: str, method: str, row: Mapping[str, str]) -> str:
    if metric.startswith("prefill_tok_s"):
        return "prefill"
    if "speedup" in metric:
        if method.lower() not in ROUNDS:
            raise _UnusableError("a speed-up by a method whose drafts are not known")
        return "speedup"
    if "latency" in metric:
        raise _UnusableError(f"metric {metric!r} is no rate")
    if metric.startswith("output_tok_s_total"):
        return "served"
    if "diffusion" in method:
        if "full recompute" in method:
            raise _UnusableError("steps of an uncached diffusion: counted tokens are not the computed ones")
        return "forward"
    if method.startswith("ar"):
        if metric.startswith(("decode_tok_s", "tok_s")):
            return "decode"
        raise _UnusableError(f"metric {metric!r} is no rate of prefill or decoding")
    raise _UnusableError(f"method {method!r}: the draft's cost is not stated")


def _outline(row: Mapping[str, str]) -> Outline:
    said = re.sub(r"\(.*?\)", "", row["model"]).strip()
    found = find_known(said) or find_known(said.split("/")[-1])
    if found is not None:
        return found
    total = _number(row.get("total_params_b", ""))
    if row.get("active_params_b", "") not in ("", row.get("total_params_b", "")):
        raise _UnusableError(f"model {said!r}: a mixture of experts whose sizes are not known")
    if not total:
        raise _UnusableError(f"model {said!r} is not known, and its parameters are not stated")
    return outline_of_parameters(total * 1e9)


def _weights(row: Mapping[str, str]) -> Precision:
    said, engine = row.get("precision", "").lower(), row.get("engine", "").lower()
    if not said:
        raise _UnusableError("precision is not stated")
    if said == "fp4":
        return precision("mxfp4" if "gpt-oss" in row["model"].lower() else "nvfp4")
    if said == "mxfp4" and engine.startswith("llama.cpp"):
        return precision("mxfp4-q8")
    if said == "fp8" and engine.startswith("calm"):
        return precision("fp8-weights")
    key = _PRECISIONS.get(said, said)
    known = {name.lower(): name for name in PRECISIONS}
    if key not in known:
        raise _UnusableError(f"precision {row['precision']!r} is not known")
    return precision(known[key])


def _has_narrow_kv(row: Mapping[str, str], weights: Precision) -> bool:
    """Checkpoints that NVIDIA quantizes to fp8 or fp4 say in `hf_quant_config.json` that K/V are fp8, too; TensorRT-LLM
    reports its figures with them. vLLM reads that line since version 0.14 (its pull request 30785, December 2025).
    """
    engine = row.get("engine", "").lower()
    if engine.startswith("vllm") and engine_version(engine) < _VLLM_READS_KV_WIDTH:
        return False
    ours = row["model"].startswith("nvidia/") or engine.startswith("tensorrt")
    return ours and weights.name in ("fp8", "nvfp4")


def _machine(row: Mapping[str, str]) -> tuple[str, Machine]:
    said = row["hardware"]
    if not said or "not stated" in said:
        raise _UnusableError("hardware is not stated")
    for name in _spellings(said):
        key = machine_key(name)
        if key is not None:
            return key, machine(key)
    raise _UnusableError(f"hardware {said!r} is not in the table")


def _spellings(said: str) -> list[str]:
    """From what was written to less and less of it: remarks in brackets, memory size, number of cores."""
    bare = re.sub(r"\(.*?\)", "", said).strip()
    bare = re.sub(r"^(\d+)x\s+|\b(NVIDIA|GeForce|AMD|Apple|Intel)\b", "", bare).strip()
    sized = re.sub(r"\s*\d+\s*GB\b", "", bare).strip()
    cores = re.sub(r"\s*(\d+)-Core GPU", r" \1c", sized)
    return [said, bare, sized, cores, re.sub(r"\s+\d+c$", "", cores)]


def _batch(row: Mapping[str, str]) -> int | None:
    said = row.get("batch", "")
    if not said:
        return 1
    if said.startswith("max"):
        return None
    number = _number(said)
    if number is None or number < 1:
        raise _UnusableError(f"batch {said!r} is no number")
    return int(number)


def _length(said: str) -> int | None:
    number = _number(said)
    return None if number is None else min(_MOST_CONTEXT, int(number))


def _number(said: str) -> float | None:
    try:
        return float(said)
    except ValueError:
        return None
