"""All commands of the program, as it describes itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from kndb.cli.main import command_line


def walk(command: Any, words: tuple[str, ...] = ("kndb",)) -> Iterator[tuple[str, Any]]:
    """All commands that do something, with the words that call them."""
    if hasattr(command, "commands"):
        for name, inner in command.commands.items():
            yield from walk(inner, (*words, name))
    else:
        yield " ".join(words), command


TREE = get_command(command_line())
COMMANDS = dict(walk(TREE))
