"""Checkpoints in formats that can't be edited in place, rewritten as safetensors: pickled ones, and GGUF files.

The source is only read. The new folder appears when it is complete, and is described as `model add` would before that:
what could not be registered is not left behind.
"""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoTokenizer

from ..advice import option
from ..errors import ModelError, OutputError, UsageError
from ..files import sync, temporary_name
from .acceptance import CheckpointDescription, describe
from .checkpoint_files import CheckpointFiles, checkpoint_files
from .loading import load, quiet

GGUF = ".gguf"


def convert(source: Path, target: Path) -> CheckpointDescription:
    """Writes a checkpoint as safetensors.

    Args:
        source: the folder of a checkpoint with pickled weights, or a GGUF file, whose weights become float32.
        target: a folder that does not exist yet.

    Returns:
        What the new checkpoint is.

    Raises:
        UsageError: if the source is safetensors already, the target is there, or GGUF can't be read here.
        ModelError: if the source can't be read, or what was made of it can't be used.
        OutputError: if the folder can't be written.
    """
    if target.exists() or target.is_symlink():
        raise UsageError(f"{target} exists already; choose another {option('out')}")
    temporary = temporary_name(target.absolute())
    try:
        target.absolute().parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        if source.suffix == GGUF:
            _from_gguf(source, temporary)
        else:
            _from_pickled(checkpoint_files(source), temporary)
        description = describe(temporary)
        for path in sorted(temporary.iterdir()):
            sync(path)
        sync(temporary)
        temporary.replace(target)
        sync(target.absolute().parent)
    except OSError as error:
        raise OutputError(f"{target} can't be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return description


def _from_pickled(files: CheckpointFiles, folder: Path) -> None:
    if not files.pickled:
        raise UsageError(f"{files.folder} has safetensors already; register it as it is")
    model: Any = load(files.folder).model
    with quiet():
        model.save_pretrained(folder)
    for path in files.tokenizer:
        shutil.copyfile(path, folder / path.name)


def _from_gguf(source: Path, folder: Path) -> None:
    if not source.is_file():
        raise UsageError(f"{source} is no file; name a GGUF file")
    if find_spec("gguf") is None:
        raise UsageError("GGUF files are read with the package gguf; install it: pip install 'kndb[gguf]'")
    with quiet():
        try:
            read = transformers.AutoModelForCausalLM.from_pretrained(
                source.parent.absolute(),
                gguf_file=source.name,
                dtype=torch.float32,
                local_files_only=True,
                trust_remote_code=False,
            )
            tokenizer = AutoTokenizer.from_pretrained(
                source.parent.absolute(), gguf_file=source.name, local_files_only=True, trust_remote_code=False
            )
        except Exception as error:  # Its readers raise whatever they meet.
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ModelError(f"{source} can't be read as GGUF: {reason}") from error
        # The one that was read remembers that it was packed, and will not be saved.
        configuration = read.config.to_dict()
        configuration.pop("quantization_config", None)
        model: Any = type(read)(type(read.config).from_dict(configuration))
        model.float()
        model.load_state_dict(read.state_dict())
        model.save_pretrained(folder)
        # A tokenizer saves how it was read, too; the same file gives the same checkpoint, wherever it was read.
        tokenizer.init_kwargs["local_files_only"] = False
        tokenizer.save_pretrained(folder)
