"""The examples of a page of Markdown: what there is to run, and running it as printed.

A page is run from its top to its end in one folder that has this project's `data` in it, as a clone has. What runs are
the blocks of `console` (lines that begin with `$ `, or all lines if none does), `python` and `pycon`. HTML comments on
the lines before a block say what is special about it:

    <!-- example: parsed only: REASON -->   it is not run; its commands are still held against the program
    <!-- example: real -->                  it needs the pretrained model, and is run by the tests marked `real`
    <!-- file: NAME -->                     its text is what the file NAME has in it, written before anything runs

and anywhere on the page

    <!-- store: WORDS -->                   the page starts in a folder with a store that is made beforehand

Output that a page prints below a command is compared with the command's own, word by word: numbers as near as one
machine's are to another's, and ids, hashes and times by whether equal ones are equal.
"""

from __future__ import annotations

import ast
import contextlib
import io
import math
import os
import re
import shlex
import subprocess
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BLOCK = re.compile(r"((?:^<!-- [^\n]* -->\n+)*)^```([a-z]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MARK = re.compile(r"<!-- ([a-z]+): (.*?) -->")
RUN = ("console", "python", "pycon")
OPAQUE = re.compile(r"v?\b[0-9a-f]{16,64}\b|v[0-9a-f]{16}|\d{4}-\d\d-\d\dT\S+")
"""Version ids, hashes and times: on another machine, or at another time, they are others."""
CLOCK = re.compile(r"\d{4}-\d\d-\d\d|\d\d:\d\d")
"""Dates and times of the clock, to the minute: on a page, they are whatever they are."""
NEAR = 0.05


@dataclass(frozen=True)
class Block:
    """One block of code of a page."""

    line: int
    language: str
    text: str
    marks: dict[str, str] = field(default_factory=dict)

    @property
    def runs(self) -> bool:
        """Whether it is an example that runs."""
        return self.language in RUN and not {"example", "file"} & self.marks.keys()


@dataclass(frozen=True)
class Step:
    """A command line with the output that is printed below it."""

    line: int
    command: str
    shown: tuple[str, ...] = ()
    code: int = 0


class ExampleError(AssertionError):
    """An example that does not do what the page says."""


def blocks(text: str) -> list[Block]:
    """The blocks of code of a page, with the comments before them."""
    return [
        Block(text[: found.start(2)].count("\n") + 1, found[2], found[3], dict(MARK.findall(found[1])))
        for found in BLOCK.finditer(text)
    ]


def store_of(text: str) -> str | None:
    """The store that a page says it starts from."""
    found = re.search(r"^<!-- store: (.*?) -->$", text, re.MULTILINE)
    return found[1] if found else None


def steps(block: Block) -> Iterator[Step]:
    """The commands of a console block, continued lines joined."""
    lines = re.sub(r"\s*\\\n\s*", " ", block.text).splitlines()
    prompted = any(line.startswith("$ ") for line in lines)
    command, shown = None, []
    for number, line in enumerate(lines, block.line + 1):
        if prompted and not line.startswith("$ "):
            shown.append(line)
            continue
        if command is not None:
            yield _step(*command, shown)
        command, shown = (number, line.removeprefix("$ ").strip()), []
    if command is not None:
        yield _step(*command, shown)


def _step(number: int, command: str, shown: list[str]) -> Step:
    code = 0
    if shown and (found := re.fullmatch(r"\(exit code (\d+)\)", shown[-1])):
        code, shown = int(found[1]), shown[:-1]
    return Step(number, re.sub(r"\s+#\s.*$", "", command), tuple(shown), code)


class Page:
    """A page that is run; the working folder and the environment are the caller's."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.names: dict[str, Any] = {"__name__": "__example__"}

    def run(self, text: str) -> int:
        """Runs all examples of a page in order, and says how many commands and programs there were.

        Raises:
            ExampleError: if one ends with another exit code than the page says, or prints something else.
        """
        count = 0
        found = blocks(text)
        for block in found:
            if "file" in block.marks:
                Path(block.marks["file"]).write_text(block.text, encoding="utf-8")
        for block in found:
            if block.runs and block.language == "console":
                for step in steps(block):
                    if step.command:
                        self.step(step)
                        count += 1
            elif block.runs:
                self.program(block)
                count += 1
        return count

    def program(self, block: Block) -> None:
        """Runs Python; programs of one page share their names."""
        source, shown = block.text, []
        if block.language == "pycon":
            lines = block.text.splitlines()
            source = "\n".join(line[4:] for line in lines if line.startswith((">>>", "...")))
            shown = [line for line in lines if not line.startswith((">>>", "..."))]
        out = io.StringIO()
        try:
            with contextlib.redirect_stdout(out):
                for statement in ast.parse("\n" * block.line + source, self.name).body:
                    # As an interpreter does, the value of an expression is shown in a session.
                    tree: Any = ast.Interactive([statement]) if shown else ast.Module([statement], [])
                    exec(compile(tree, self.name, "single" if shown else "exec"), self.names)
        except Exception as error:
            raise ExampleError(f"{self.name}:{block.line}: {traceback.format_exc()}") from error
        if shown:
            self.compare(block.line, "\n".join(shown), out.getvalue())

    def step(self, step: Step) -> None:
        """Runs a command line and compares its end, and what it printed where the page shows that."""
        out, err, code = "", "", 0
        for part in step.command.split(" && "):
            more, noted, code = one(part)
            out, err = out + more, err + noted
            if code:
                break
        if code != step.code:
            raise ExampleError(f"{self.name}:{step.line}: exit code {code} of: {step.command}\n{out}{err}")
        if step.shown:
            shown = "\n".join(step.shown)
            remarks = [part for part in (err, "") if not part or same(shown, part + out)]
            self.compare(step.line, shown, (remarks or [""])[0] + out)

    def compare(self, line: int, shown: str, printed: str) -> None:
        """Holds what a page shows against what was printed."""
        if not same(shown, printed):
            raise ExampleError(f"{self.name}:{line}: the page shows\n{shown}\nand what is printed now is\n{printed}")


def one(command: str) -> tuple[str, str, int]:
    """Runs one command: kndb in this process, others by the shell. Gives stdout, stderr and the exit code."""
    first, pipe, rest = command.strip().partition(" | ")
    first, redirect, target = first.partition(" > ")
    words = shlex.split(first)
    if words[0] == "export":
        os.environ.update([words[1].split("=", 1)])
        return "", "", 0
    if words[0] != "kndb":
        return _shell(command, "")
    from kndb.cli.main import exit_code

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = exit_code(words[1:])
    if redirect:
        Path(target.strip()).write_text(out.getvalue(), encoding="utf-8")
        return "", err.getvalue(), code
    if pipe and not code:
        printed, noted, code = _shell(rest, out.getvalue())
        return printed, err.getvalue() + noted, code
    return out.getvalue(), err.getvalue(), code


def _shell(command: str, given: str) -> tuple[str, str, int]:
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", command],
        input=given,
        env={**os.environ, "PATH": programs},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout, done.stderr, done.returncode


def same(shown: str, printed: str) -> bool:
    """Whether two outputs say the same; `…` in the page stands for whatever is there."""
    wanted, found = shown.split(), printed.split()
    known: dict[str, str] = {}
    while wanted:
        word = wanted.pop(0)
        if word == "…":
            if not wanted:
                return True
            rest = " ".join(wanted)
            return any(same(rest, " ".join(found[start:])) for start in range(len(found)))
        if not found or not _alike(word, found.pop(0), known):
            return False
    return not found


def _alike(word: str, other: str, known: dict[str, str]) -> bool:
    if CLOCK.fullmatch(word) and CLOCK.fullmatch(other):
        return True
    ids, others = OPAQUE.findall(word), OPAQUE.findall(other)
    if len(ids) != len(others) or any(known.setdefault(a, b) != b for a, b in zip(ids, others, strict=True)):
        return False
    word, other = OPAQUE.sub("ID", word), OPAQUE.sub("ID", other)
    if word == other:
        return True
    try:
        return math.isclose(float(word.strip("(),;%")), float(other.strip("(),;%")), rel_tol=NEAR, abs_tol=1e-3)
    except ValueError:
        return False
