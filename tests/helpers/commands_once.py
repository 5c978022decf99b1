"""Command lines built once in a process: typer makes the program's tree of commands anew for each call, in 5 ms.

A tree keeps nothing of a call. Programs that tests start build their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import pytest
import typer.main

from kndb.cli import main


def build_once(patch: pytest.MonkeyPatch) -> None:
    """Has the command line of a group and command remembered.

    Args:
        patch: ends it.
    """
    build, deepest = main.command_line, 2

    @lru_cache(maxsize=500)
    def built(words: tuple[str, ...]) -> typer.Typer:
        return build(words)

    def command_line(words: Sequence[str] | None = None) -> Any:
        return build() if words is None else built(tuple(words[:deepest]))

    patch.setattr(main, "command_line", command_line)
    patch.setattr(typer.main, "get_command", lru_cache(maxsize=500)(typer.main.get_command))
