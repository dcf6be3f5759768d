"""Ridgeway: an LLM inference engine built on the roofline.

    from ridgeway import LLM, SamplingParams

    llm = LLM("smollm2-135m")
    for output in llm.generate(["The memory wall is"], SamplingParams(max_tokens=32)):
        print(output.outputs[0].text)

Names are loaded when they are first used, so that `ridgeway --help` does not wait for NumPy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ridgeway.core.outputs import CompletionOutput, RequestOutput
    from ridgeway.core.sampling_params import SamplingParams
    from ridgeway.llm import LLM
    from ridgeway.roofline.cost import CostModel
    from ridgeway.roofline.machine import Machine

__version__ = "0.1.0"
__all__ = ["LLM", "CompletionOutput", "CostModel", "Machine", "RequestOutput", "SamplingParams"]

_HOME_OF = {
    "LLM": "ridgeway.llm",
    "SamplingParams": "ridgeway.core.sampling_params",
    "RequestOutput": "ridgeway.core.outputs",
    "CompletionOutput": "ridgeway.core.outputs",
    "CostModel": "ridgeway.roofline.cost",
    "Machine": "ridgeway.roofline.machine",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'ridgeway' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)
