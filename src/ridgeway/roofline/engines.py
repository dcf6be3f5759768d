"""Families of inference engines: how their overheads differ, not who wrote them."""

import re

_FAMILIES = {
    "llama.cpp": ("llama.cpp", "ollama", "lm studio"),
    "compiled": ("gpt-fast", "calm", "turbomind", "llm-awq", "mlc", "exllama", "ridgeway"),
    "server": ("vllm", "sglang", "tensorrt", "lmdeploy", "jetengine", "dinfer"),
    "eager": ("hf ", "transformers", "pytorch", "fast-dllm"),
}
FAMILIES = tuple(_FAMILIES)


def engine_family(name: str) -> str:
    """llama.cpp, compiled (one program per step), server (continuous batching), eager (a launch per operation), or
    `` if the engine is not known.
    """
    lower = name.lower()
    for family, members in _FAMILIES.items():
        if any(lower.startswith(member) for member in members):
            return family
    return ""


def engine_name(name: str) -> str:
    """The engine within its family (`vllm`, `gpt-fast`); its version is left out. Empty if it is not known."""
    lower = name.lower()
    return next((m.strip() for members in _FAMILIES.values() for m in members if lower.startswith(m)), "")


def engine_version(name: str) -> tuple[int, ...]:
    """(0, 12, 0) of `vllm 0.12.0`; empty if none is said."""
    found = re.search(r"\b(\d+(?:\.\d+)+)", name)
    return tuple(map(int, found[1].split("."))) if found else ()


_BUILD_WITH_FLASH = 4000  # llama.cpp builds of 2025 on run it by default


def has_flash_attention(engine: str) -> bool:
    """Whether attention is one kernel that never stores its scores; older llama.cpp and eager engines store them."""
    family = engine_family(engine)
    if family == "llama.cpp":
        build = re.search(r"\bb(\d{4,})\b", engine)
        return build is not None and int(build[1]) >= _BUILD_WITH_FLASH
    return family != "eager"
