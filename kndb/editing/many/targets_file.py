"""Targets found so far, in a file: finding them takes most of a plan's time, and a plan that was stopped goes on.

The file is of one plan: its key says of what, and a file of another key counts as none. All else in a plan follows from
its targets, so one that was resumed ends in the same bytes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

import safetensors
import torch
from safetensors.torch import save

from ...errors import EditError
from .targets import Targets

_FORMAT = "kndb-targets-1"
_PARTS = ("added", "probability", "steps")


class TargetsFile:
    """The targets of each round, as far as they were found.

    Args:
        path: the file; there may be none yet.
        key: of the plan: whatever decides its targets, as text.
    """

    def __init__(self, path: Path, key: str) -> None:
        self._path, self._key = path, key
        self._found: dict[int, Targets] = {}
        for name, tensors in self._read().items():
            self._found[name] = Targets(*(tensors[part] for part in _PARTS))

    def of_round(self, turn: int) -> Targets | None:
        """The targets of a round's first rewrites; None where none was found."""
        return self._found.get(turn)

    def keep(self, turn: int, targets: Targets) -> None:
        """Puts the targets of a round's first rewrites into the file, in one step.

        Raises:
            EditError: if the file can't be written.
        """
        self._found[turn] = targets
        content = {
            f"{number}.{part}": getattr(one, part).contiguous()
            for number, one in self._found.items()
            for part in _PARTS
        }
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}.tmp")
        try:
            temporary.write_bytes(save(content, {_FORMAT: self._key}))
            temporary.replace(self._path)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise EditError(f"{self._path} can't be written: {error.strerror or error}") from error

    def remove(self) -> None:
        """Removes the file, once the plan is done."""
        self._path.unlink(missing_ok=True)

    def _read(self) -> Mapping[int, Mapping[str, torch.Tensor]]:
        if not self._path.is_file():
            return {}
        found: dict[int, dict[str, torch.Tensor]] = {}
        try:
            with safetensors.safe_open(self._path, framework="pt") as content:
                if (content.metadata() or {}).get(_FORMAT) != self._key:
                    return {}
                for name in content.keys():  # noqa: SIM118 - not a mapping
                    number, part = name.split(".")
                    found.setdefault(int(number), {})[part] = content.get_tensor(name)
        except (OSError, safetensors.SafetensorError, ValueError) as error:
            raise EditError(
                f"{self._path} can't be read as targets of a plan: {error}; remove it and plan again"
            ) from error
        return found
