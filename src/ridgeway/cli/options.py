"""Options that several commands share: the same words everywhere."""

from typing import Annotated

import typer

from ridgeway.core.errors import RidgewayError


def _positive(value: float | None) -> float | None:
    if value is not None and not value > 0:
        raise RidgewayError(f"price={value}: expected dollars per hour, above 0")
    return value


Model = Annotated[
    str,
    typer.Option(
        "-m",
        "--model",
        help="A name (smollm2-135m, toy-diffusion), a folder in Hugging Face layout, a .gguf file, or a hub id.",
    ),
]
Method = Annotated[
    str | None,
    typer.Option(
        "--method",
        help="How tokens are decoded: NAME or NAME:key=value,... (see `ridgeway methods`), or FILE.py:CLASS; by "
        "default `auto`, or what suits a diffusion model.",
    ),
]
Executor = Annotated[
    str, typer.Option("--executor", help="What computes: auto, or an executor's name, such as reference.")
]
Threads = Annotated[
    int | None,
    typer.Option("--threads", help="Threads that compute; by default what suits the executor."),
]
Quant = Annotated[
    str | None,
    typer.Option("--quant", help="Quantize weights in floats as they are loaded: q8_0 or q4_0."),
]
KvCache = Annotated[
    str | None, typer.Option("--kv-cache", help="Keep keys and values as bf16 (default) or int8, half of it.")
]
MaxTokens = Annotated[int | None, typer.Option("--max-tokens", help="Longest answer, in tokens.")]
Temperature = Annotated[
    float | None,
    typer.Option(
        "--temperature",
        help="0 always takes the likeliest token; by default the model's own setting, else 0.7.",
    ),
]
TopP = Annotated[float | None, typer.Option("--top-p", help="Sample from the likeliest tokens of this total share.")]
TopK = Annotated[int | None, typer.Option("--top-k", help="Sample from this many of the likeliest tokens; 0: all.")]
Seed = Annotated[int, typer.Option("--seed", help="The same seed gives the same text.")]
Raw = Annotated[bool, typer.Option("--raw", help="Give the prompt to the model as it is, without chat template.")]
Price = Annotated[
    float | None,
    typer.Option(
        "--price", callback=_positive, help="What the machine costs, in dollars per hour, for the cost per token."
    ),
]

DEFAULT_MODEL = "smollm2-135m"
