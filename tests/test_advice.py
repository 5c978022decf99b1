"""Texts that advise something: said rightly in Python and in a shell, and what they advise is there."""

from __future__ import annotations

import ast
import inspect
import shlex
import tempfile
from collections.abc import Iterator
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import kndb
from kndb.advice import Call, Option, Placeholder, call, for_python, marks, option
from kndb.cli.advice import COMMANDS, for_shell, remember_database
from kndb.cli.main import command_line
from kndb.errors import InputError, RejectedLine, UsageError

SOURCE = Path(kndb.__file__).parent
SPARE: dict[str, Any] = {"kind": "suppress", "edit": 1, "edits": [1, 2], "fact": 1, "first": 1, "second": 2}
TREE = get_command(command_line())


@pytest.fixture(autouse=True)
def _no_database_named() -> Iterator[None]:
    remember_database(None)
    yield
    remember_database(None)


def advised() -> list[tuple[str, str, list[str], int]]:
    """Each `call(…)` in the package: where, the method, its keywords, how many arguments come by position."""
    found = []
    for file in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "call" and node.args:
                first = node.args[0]
                assert isinstance(first, ast.Constant), f"{file}:{node.lineno}: a call advised must be named literally"
                keywords = [keyword.arg or "**" for keyword in node.keywords]
                place = f"{file.relative_to(SOURCE)}:{node.lineno}"
                found.append((place, str(first.value), keywords, len(node.args) - 1))
    return found


@lru_cache
def spaces() -> dict[str, type]:
    """The classes of a database's namespaces, by name; the database itself under no name."""
    with tempfile.TemporaryDirectory() as folder, kndb.open(Path(folder) / "kndb.db") as database:
        properties = [name for name, value in vars(kndb.Database).items() if isinstance(value, cached_property)]
        return {"": kndb.Database, **{name: type(getattr(database, name)) for name in properties}}


def method_of(path: str) -> Any:
    """The function that a path such as attribution.run or kndb.open names."""
    if path.startswith("kndb."):
        return getattr(kndb, path.removeprefix("kndb."))
    space, _, name = path.rpartition(".")
    return getattr(spaces()[space], name)


@pytest.mark.parametrize(("place", "method", "keywords", "count"), advised(), ids=lambda value: str(value)[:60])
def test_what_a_text_advises_is_there_in_python_and_in_the_shell(
    place: str, method: str, keywords: list[str], count: int
) -> None:
    parameters = inspect.signature(method_of(method)).parameters
    assert "**" not in keywords, f"{place}: keywords must be named"
    assert set(keywords) <= set(parameters), f"{place}: {method} has no {sorted(set(keywords) - set(parameters))}"
    assert method in COMMANDS, f"{place}: kndb.cli.advice does not know {method}"
    by_position = [name for name in parameters if name != "self"][:count]
    values = {name: SPARE.get(name, [1] if name.endswith("s") else "1") for name in (*by_position, *keywords)}
    mark = call(method, *(values[name] for name in by_position), **{name: values[name] for name in keywords})
    parse(for_shell(mark), place)


def parse(line: str, place: str) -> None:
    """Takes a command line apart without running it; options that are required may be left to the reader."""
    command, words = TREE, shlex.split(line)[1:]
    while hasattr(command, "commands") and words:
        assert words[0] in command.commands, f"{place}: no command {words[0]!r} in {line!r}"
        command, words = command.commands[words[0]], words[1:]
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    unknown = [word for word in words if word.startswith("--") and word not in known]
    assert not unknown, f"{place}: {line!r} has unknown options {unknown}"


@pytest.mark.parametrize("method", sorted(COMMANDS))
def test_each_command_of_the_table_is_a_command_and_a_method(method: str) -> None:
    command = COMMANDS[method]
    parse(f"kndb {command.words.replace('{kind}', 'amplify')}", "kndb.cli.advice")
    assert set(command.arguments) <= set(inspect.signature(method_of(method)).parameters)


def test_an_error_speaks_python_and_the_command_line_speaks_shell() -> None:
    error = UsageError(
        f"{option('max_share', 0.5)} is below each share; see {call('query.runs', model='my model')}, or leave "
        f"{option('max_share')} out"
    )
    assert str(error) == (
        "max_share=0.5 is below each share; see db.query.runs(model='my model'), or leave max_share out"
    )
    assert for_shell(error.text) == (
        "--max-share 0.5 is below each share; see kndb query runs --model 'my model', or leave --max-share out"
    )


def test_lists_repeat_an_option_and_arguments_stand_alone() -> None:
    text = call("attribution.run", model=Placeholder("NAME"), relations=["P36", "P37"])
    assert for_python(text) == "db.attribution.run(model=NAME, relations=['P36', 'P37'])"
    assert for_shell(text) == "kndb attribute --model NAME --relation P36 --relation P37"
    assert for_shell(call("edits.apply_all", [3, 4])) == "kndb edit apply 3 4"
    assert for_shell(call("edits.revert_cascade", 3)) == "kndb edit revert --cascade 3"


def test_a_switch_is_given_alone_and_what_is_none_is_left_out() -> None:
    assert for_shell(option("held_out", True)) == "--held-out"
    assert for_shell(option("known_only", False)) == "--no-known-only"
    assert for_python(call("query.runs", model=None)) == "db.query.runs()"


def test_a_database_that_was_named_is_named_again() -> None:
    remember_database("my store.db")
    assert for_shell(call("query.runs")) == "kndb query runs --db 'my store.db'"
    assert for_shell(call("kndb.attribution_methods")) == "kndb methods"


def test_characters_that_only_look_like_marks_stay() -> None:
    odd = 'a \ue000not json\ue001 and \ue000{"call": 3}\ue001 and \ue000 alone'
    assert for_python(odd) == odd
    assert for_shell(odd) == odd
    assert marks(odd) == []


def test_marks_are_found_in_order() -> None:
    text = f"{option('top')} and {call('query.runs', model='m')}"
    assert marks(text) == [Option("top"), Call("query.runs", (), (("model", "m"),))]


def test_rejected_lines_speak_both_too() -> None:
    line = RejectedLine("facts.csv", 3, f"no relation; leave {option('relations')} out")
    assert str(line) == "facts.csv:3: no relation; leave relations out"
    assert for_shell(InputError("x", [line]).rejected[0].text) == "facts.csv:3: no relation; leave --relation out"
