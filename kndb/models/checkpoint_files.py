"""Which files of a folder are a checkpoint: the one answer for hashing, loading, exporting, copying and patching it.

The rules are those by which transformers chooses files, made strict: what it would read and this module does not name
is refused, or kept from it by `sealed`, which loading goes through. So the bytes that a fingerprint names are the bytes
that are loaded. Imports no torch and reads no weights, but for the headers of safetensors files where names matter.

    configuration   config.json, which names no other files
    weights         model.safetensors; else the files of model.safetensors.index.json; else pytorch_model.bin; else the
                    files of pytorch_model.bin.index.json. All lie in the folder itself, links to files included
    tokenizer       those of `TOKENIZER_FILES` that are there, and the versioned ones that tokenizer_config.json names
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..advice import Placeholder, call
from ..errors import ModelError

CONFIGURATION = "config.json"
ADAPTER = "adapter_config.json"
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLED = "pytorch_model.bin"
PICKLED_INDEX = "pytorch_model.bin.index.json"
TOKENIZER_CONFIGURATION = "tokenizer_config.json"

TOKENIZER_FILES = (
    "added_tokens.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "sentencepiece.model",
    "special_tokens_map.json",
    "spiece.model",
    "spm.model",
    "tokenizer.json",
    "tokenizer.model",
    TOKENIZER_CONFIGURATION,
    "vocab.json",
    "vocab.txt",
)
"""All that a tokenizer can be made of here. Whatever else transformers could make one of is not shown to it."""

_VERSIONED = re.compile(r"tokenizer\.[0-9][0-9.]*\.json\Z")
_CHOOSES_CODE = re.compile("auto_map|implementation|kernel|custom_pipelines|trust_remote_code")
_MOST_JSON = 64_000_000
"""Bytes of a configuration or an index: those of the largest checkpoints have one or two million."""


@dataclass(frozen=True)
class CheckpointFiles:
    """The files of one checkpoint.

    Attributes:
        folder: where they lie.
        weights: the weight files, by name.
        index: the file that says which of them has which tensor; None where there is a single one.
        tokenizer: the tokenizer's files, by name.
        configuration: what config.json says.
    """

    folder: Path
    weights: tuple[Path, ...]
    index: Path | None
    tokenizer: tuple[Path, ...]
    configuration: Mapping[str, Any]

    @property
    def pickled(self) -> bool:
        """Whether the weights are pickled rather than safetensors."""
        return self.weights[0].suffix != ".safetensors"


def checkpoint_files(folder: Path) -> CheckpointFiles:
    """Finds the files of a checkpoint.

    Args:
        folder: as `save_pretrained` writes it, or a snapshot in the hub's cache.

    Raises:
        ModelError: if there is no configuration or no weights, if a weight file is missing, lies elsewhere, or is there
            and would not be loaded, or if a configuration names files of its own.
    """
    configuration = configuration_of(folder)
    weights, index = _weights(folder)
    return CheckpointFiles(folder, weights, index, _tokenizer(folder), configuration)


def configuration_of(folder: Path) -> dict[str, Any]:
    """What a checkpoint's config.json says.

    Raises:
        ModelError: if there is none, or it can't be read, or names files of its own.
    """
    path = folder / CONFIGURATION
    if (folder / ADAPTER).is_file():
        raise ModelError(
            f"{folder} holds a PEFT adapter ({ADAPTER}), which transformers would add to the weights of another "
            "checkpoint; merge it into that one (model.merge_and_unload()), save the result with save_pretrained, and "
            "name its folder"
        )
    if not path.is_file():
        packed = sorted(folder.glob("*.gguf"))
        if packed:
            raise ModelError(
                f"{folder} has GGUF files and no {CONFIGURATION}; convert one to a checkpoint first: "
                f"{call('models.convert', packed[0], out=Placeholder('DIR'))}"
            )
        raise ModelError(f"{folder} has no {CONFIGURATION}; name the folder of a transformers checkpoint")
    values = _json(path, "a model's configuration")
    for name in ("configuration_files", "transformers_weights"):
        if values.get(name):
            raise ModelError(
                f"{path} names other files in {name!r}, which could be loaded in place of those beside it; remove the "
                "entry, or save the checkpoint again with save_pretrained"
            )
    return values


def weight_map(index: Path) -> dict[str, str]:
    """What an index says: the file of each tensor, by the tensor's name.

    Raises:
        ModelError: if it is no index, or names a file that does not lie beside it.
    """
    found = _json(index, "the index of a sharded checkpoint").get("weight_map")
    if not isinstance(found, dict) or not found or not all(isinstance(name, str) for name in found.values()):
        raise ModelError(f"{index} has no weight_map that names the file of each tensor; save the checkpoint again")
    for name in sorted(set(found.values())):
        if not _plain(name):
            raise ModelError(
                f"{index} names the weight file {name!r}, which does not lie in its folder; a checkpoint's weights "
                "must all lie beside its configuration: copy them there and correct the index"
            )
    return found


@contextmanager
def sealed(files: CheckpointFiles) -> Iterator[Path]:
    """While open, a folder with the checkpoint's files and nothing else, for transformers to load.

    Weights are links. Of the configurations, what names code is left out (an implementation of attention may be a hub
    repository's), and of the tokenizer's, what names files: transformers would look for them anywhere.
    """
    # What can't be removed is a few links in the system's folder for such things.
    with _scratch(files.folder) as folder:
        try:
            _fill(folder, files)
        except OSError as error:
            raise ModelError(f"{files.folder} can't be loaded: {error.strerror or error}") from error
        yield folder


@contextmanager
def _scratch(source: Path) -> Iterator[Path]:
    try:
        scratch = tempfile.TemporaryDirectory(prefix="kndb-checkpoint-", ignore_cleanup_errors=True)
    except OSError as error:
        raise ModelError(f"{source} can't be loaded: no temporary folder can be made ({error})") from error
    with scratch as name:
        yield Path(name)


def _fill(folder: Path, files: CheckpointFiles) -> None:
    for path in (*files.weights, *files.tokenizer, *([files.index] if files.index else [])):
        (folder / path.name).symlink_to(path.absolute())
    (folder / CONFIGURATION).write_text(json.dumps(_without_code(dict(files.configuration))), encoding="utf-8")
    told = folder / TOKENIZER_CONFIGURATION
    if told.is_symlink():
        values = _json(told, "a tokenizer's configuration")
        told.unlink()
        kept = {name: one for name, one in _without_code(values).items() if not _names_a_file(name, one)}
        told.write_text(json.dumps(kept), encoding="utf-8")


def _without_code(values: dict[str, Any]) -> dict[str, Any]:
    """A configuration, and those within it, without what chooses the code that runs."""
    return {
        name: _without_code(value) if isinstance(value, dict) else value
        for name, value in values.items()
        if not _chooses_code(name, value)
    }


def _chooses_code(name: str, value: object) -> bool:
    """Whether an entry may say which code runs; the size of a convolution's kernel does not."""
    return bool(_CHOOSES_CODE.search(name)) and type(value) is not int


def _names_a_file(name: str, value: object) -> bool:
    return name.endswith("_file") and isinstance(value, str)


def _weights(folder: Path) -> tuple[tuple[Path, ...], Path | None]:
    for single, index, pattern in ((SINGLE, INDEX, "*.safetensors"), (PICKLED, PICKLED_INDEX, "pytorch_model*.bin")):
        present = sorted(path for path in folder.glob(pattern) if path.is_file())
        if (folder / single).is_file():
            named, listing = [folder / single], None
        elif (folder / index).is_file():
            listing = folder / index
            named = [folder / name for name in sorted(set(weight_map(listing).values()))]
        elif present:
            raise ModelError(
                f"{folder} has {present[0].name}, but no {single} and no {index}: transformers would not load it. "
                "Save the checkpoint again with save_pretrained"
            )
        else:
            continue
        missing = [path.name for path in named if not path.is_file()]
        if missing:
            raise ModelError(
                f"{folder} lacks {missing[0]}, one of the {len(named)} weight files that {index} names; fetch the "
                "checkpoint again"
            )
        unnamed = [path.name for path in present if path not in named]
        if unnamed:
            told = single if listing is None else index
            raise ModelError(
                f"{folder} has {unnamed[0]} besides the weights that are loaded ({told}); it could be taken for them: "
                "move it out of the folder"
            )
        return tuple(named), listing
    raise ModelError(f"{folder} has no {SINGLE}, {INDEX} or {PICKLED}; name the folder of a transformers checkpoint")


def _tokenizer(folder: Path) -> tuple[Path, ...]:
    names = {name for name in TOKENIZER_FILES if (folder / name).is_file()}
    if TOKENIZER_CONFIGURATION in names:
        path = folder / TOKENIZER_CONFIGURATION
        versioned = _json(path, "a tokenizer's configuration").get("fast_tokenizer_files") or []
        if not isinstance(versioned, list):
            raise ModelError(f"{path} has fast_tokenizer_files that are no list of names; save the tokenizer again")
        for name in versioned:
            if not isinstance(name, str) or not (_VERSIONED.match(name) or name == "tokenizer.json"):
                raise ModelError(
                    f"{path} names {name!r} among fast_tokenizer_files, which is no tokenizer.VERSION.json beside it; "
                    "correct the entry, or save the tokenizer again"
                )
            if (folder / name).is_file():
                names.add(name)
    return tuple(folder / name for name in sorted(names))


def _plain(name: str) -> bool:
    return name not in ("", ".", "..") and not set(name) & {"/", "\\", "\0"}


def _json(path: Path, what: str) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MOST_JSON:
            raise ModelError(f"{path} is larger than {_MOST_JSON:,} bytes, which is no size for {what}")
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} can't be read as {what}: {error}") from error
    if not isinstance(values, dict):
        raise ModelError(f"{path} is no JSON object; it should be {what}")
    return values
