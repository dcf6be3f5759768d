"""What the system says about the machine at hand: processor, cores, caches, memory. Nothing is measured here."""

import os
import platform
import re
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def hardware_key() -> str:
    """Names what the ceilings depend on: processor, cores allowed, and the libraries that measured them."""
    parts = [
        cpu_name(),
        _cpu_stepping(),
        f"{allowed_cores()}cores",
        f"numpy{version('numpy')}",
        f"numba{version('numba')}",
    ]
    return re.sub(r"[^A-Za-z0-9.]+", "-", "-".join(part for part in parts if part)).strip("-").lower()


def allowed_cores() -> int:
    """Logical cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_name() -> str:
    """The processor's name without the maker's ornaments."""
    name = _cpu_field("model name") or _system_control("machdep.cpu.brand_string")
    name = name or platform.processor() or platform.machine()
    name = re.sub(r"\((R|TM|tm|r)\)|\b(CPU|Processor)\b|@.*$|\b\d+-Core\b", " ", name)
    return " ".join(name.split())


def memory_bytes() -> tuple[int, int]:
    """Physical memory, and what this process may have of it (a container may be given less)."""
    try:
        physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        physical = int(_system_control("hw.memsize") or 4 * 1024**3)
    limit = _first_line(Path("/sys/fs/cgroup/memory.max"))
    return physical, min(physical, int(limit)) if limit.isdigit() else physical


def last_level_cache_bytes() -> int:
    """Size of the largest cache, all its instances; 0 if the system does not say."""
    total: dict[tuple[str, str], int] = {}
    for index in Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cache/index[0-9]*"):
        level, size = _first_line(index / "level"), _first_line(index / "size")
        shared = _first_line(index / "shared_cpu_list")
        found = re.fullmatch(r"(\d+)([KMG]?)", size)
        if found and level.isdigit():
            total[level, shared] = int(found[1]) * _UNITS[found[2]]
    if not total:
        return int(_system_control("hw.l3cachesize") or _system_control("hw.l2cachesize") or 0)
    last = max(level for level, _ in total)
    return sum(size for (level, _), size in total.items() if level == last)


def _cpu_stepping() -> str:
    """Family, model and stepping: in a virtual machine two generations may bear one name."""
    return ".".join(filter(None, (_cpu_field(name) for name in ("cpu family", "model", "stepping"))))


@cache
def _cpu_fields() -> dict[str, str]:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return {}
    lines = (line.partition(":") for line in text.split("\n\n")[0].splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}


def _cpu_field(name: str) -> str:
    return _cpu_fields().get(name, "")


@cache
def _system_control(name: str) -> str:
    """A value of `sysctl` on macOS and the BSDs, else nothing."""
    if sys.platform != "darwin" and "bsd" not in sys.platform:
        return ""
    import subprocess

    done = subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _first_line(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
