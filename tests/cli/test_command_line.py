"""Options before the command, help, near misses, and completion: what holds for all commands."""

import json
import logging
import os
import re
import subprocess
import sys

import pytest
from typer.main import get_command

from kndb import __version__
from kndb.cli import completion
from kndb.cli.main import COMMANDS, command_line, named_commands
from kndb.cli.options import _missing

TREE = get_command(command_line())


def groups(command, words=()):
    if hasattr(command, "commands"):
        yield words
        for name, inner in command.commands.items():
            yield from groups(inner, (*words, name))


def commands(command, words=()):
    if not hasattr(command, "commands"):
        yield words, command
        return
    for name, inner in command.commands.items():
        yield from commands(inner, (*words, name))


# --- help -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", list(groups(TREE)), ids=" ".join)
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_a_groups_help_has_a_whole_line_for_each_command(kndb, words, option):
    text = kndb(*words, option).out
    assert not [line for line in text.splitlines() if line.rstrip().endswith(("...", "…"))]
    command = TREE
    for word in words:
        command = command.commands[word]
    for name, inner in command.commands.items():
        assert len(inner.short_help) <= 60
        assert re.search(rf"^  {name} +{re.escape(inner.short_help)}$", text, flags=re.MULTILINE)


@pytest.mark.parametrize(
    ("words", "command"), list(commands(TREE)), ids=[" ".join(words) for words, _ in commands(TREE)]
)
def test_a_commands_help_names_its_arguments_plainly(kndb, words, command):
    text = kndb(*words, "-h").out
    usage = re.sub(r"\s+", " ", text.partition("\n\n")[0])
    assert "{" not in usage
    assert "[[" not in usage
    assert all(len(line) <= 80 for line in text.splitlines())
    assert re.search(r"^Options:$", text, flags=re.MULTILINE)
    for parameter in command.params:
        assert parameter.help[0].isupper() or parameter.help.startswith(("gradient:", "λ"))
        assert parameter.help.endswith("."), (words, parameter.name)


def test_commands_stand_under_their_purpose(kndb):
    text = kndb("--help").out
    for panel in {place.panel for place in COMMANDS.values()}:
        assert f"\n{panel}:\n" in text
    assert "\nApply and revert:\n" in kndb("edit", "-h").out


# --- options before the command ---------------------------------------------------------------------------------------


def test_the_database_may_be_named_before_the_command(kndb, place):
    kndb("--db", "one.db", "db", "init")
    assert (place / "one.db").exists()
    assert kndb("--db", "one.db", "query", "relations", "--format", "json").json == []
    assert kndb("--db=one.db", "query", "relations", "--db", "one.db", "--format", "json").json == []
    told = kndb("--db", "one.db", "query", "relations", "--db", "two.db", code=2).err
    assert "one.db" in told
    assert "two.db" in told
    assert "uses no database" in kndb("--db", "one.db", "methods", code=2).err
    # What is advised names that database too.
    assert "kndb ingest PATH --db one.db" in kndb("--db", "one.db", "query", "relations").err
    assert "--db" not in kndb("methods").err


def test_a_missing_database_is_explained(kndb, place, monkeypatch):
    assert "neither --db nor KNDB_DB is set" in kndb("query", "runs", code=4).err
    (place / "mine.db").touch()
    assert "this folder has mine.db" in kndb("query", "runs", code=4).err
    assert "--db x.db:" in kndb("query", "runs", "--db", "x.db", code=4).err
    monkeypatch.setenv("KNDB_DB", "elsewhere.db")
    for words in (("query", "runs"), ("query", "sql", "SELECT 1"), ("db", "check"), ("db", "upgrade")):
        told = kndb(*words, code=4).err
        assert "KNDB_DB=elsewhere.db" in told
        assert "kndb db init" in told


def test_an_empty_file_is_explained_like_a_missing_one():
    told = _missing("/x.db is empty, not yet a database; make it one", None, "x.db")
    assert told.startswith("KNDB_DB=x.db: /x.db is empty, not yet a database.")


def test_quiet_prints_no_notes_but_warnings_and_errors(kndb, use_ready, monkeypatch):
    use_ready()
    assert kndb("query", "shared", "--relation", "P36").err
    for option in ("-q", "--quiet"):
        assert kndb(option, "query", "shared", "--relation", "P36").err == ""
        assert "Error" in kndb(option, "query", "neurons", 99, code=5).err
    # It holds for one command alone.
    assert kndb("query", "shared", "--relation", "P36").err
    monkeypatch.setattr("kndb.cli.query.shared.note_refinement", lambda *_: _warn())
    assert kndb("-q", "query", "shared", "--relation", "P36").err == "Warning: wrong\n"
    assert "contradict" in kndb("-q", "-v", "query", "runs", code=2).err


def _warn():
    from kndb.cli.output import note

    note("left out")
    note("Warning: wrong")


def test_verbose_logs_what_kndb_does(kndb, use_ready):
    use_ready()
    logger = logging.getLogger("kndb")
    before = (logger.handlers[:], logger.level, logger.propagate)
    try:
        for option in ("-v", "--verbose"):
            outcome = kndb(option, "query", "runs", "--format", "json")
            assert re.search(r"^ *\d+ ms +kndb\.store\.engine: ", outcome.err, flags=re.MULTILINE)
            assert len(outcome.json) == 1
    finally:
        logger.handlers[:], logger.level, logger.propagate = before


def test_the_version(kndb):
    assert kndb("--version").out == f"kndb {__version__}\n"


# --- near misses ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "near"),
    [
        ("qurey", "query"),
        ("edit aply 1", "apply"),
        ("query factss", "facts"),
        ("query facts --limt 3", "--limit"),
        ("query facts --sort neuron", "neurons"),
        ("query fact 1 --part promts", "prompts"),
        ("query neuron 2.418", "L2.N418"),
        ("query collateral L2N418", "L2.N418"),
        ("query neurons facts.csv", "kndb query facts"),
        ("edit apply toyota.kndb", "kndb edit pull toyota.kndb"),
        ("edit update --model tiny --fact France --to Rome", "kndb query facts"),
    ],
)
def test_a_near_miss_is_helped(kndb, use_ready, words, near):
    use_ready()
    assert near in kndb(*words.split(), code=2).err


def test_neurons_are_read_in_lower_case(kndb_json, use_ready):
    use_ready()
    assert kndb_json("query", "collateral", "l0.n0") == kndb_json("query", "collateral", "L0.N0")


# --- completion -------------------------------------------------------------------------------------------------------


def completed(place, line, **environment):
    words = {"_KNDB_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    done = subprocess.run(
        [sys.executable, "-m", "kndb.cli.main"],
        env={**os.environ, **words, **environment},
        cwd=place,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done.stdout.split()


def test_a_shell_completes_commands_options_and_what_the_store_has(place, use_ready):
    use_ready()
    assert completed(place, "kndb que") == ["query"]
    assert completed(place, "kndb edit ap") == ["apply"]
    assert completed(place, "kndb query facts --sub") == ["--subject"]
    assert completed(place, "kndb query facts --relation P3") == ["P36", "P37"]
    assert completed(place, "kndb --db kndb.db ask --model t") == ["tiny"]


class _Context:
    """As much of a context as a completion looks at."""

    def __init__(self, **params):
        self.params = params

    def find_root(self):
        return self


def test_completion_finds_names_and_never_complains(use_ready, place):
    nowhere = _Context(db=str(place / "none.db"))
    assert completion.relations(nowhere, "") == []
    assert completion.models(nowhere, "lab-b") == [("lab-bert", "a lab model")]
    assert not (place / "none.db").exists()
    use_ready()
    here = _Context(db="kndb.db")
    assert completion.relations(here, "P36") == [("P36", "capital")]
    assert {name for name, _ in completion.models(here, "")} == {"lab-bert", "lab-gpt2", "tiny"}
    assert completion.refinements(here, "") == [("1", "of run 1")]
    assert completion.runs(here, "1") == [("1", "tiny, integrated-gradients")]
    assert completion.edits(here, "") == completion.snapshots(here, "") == []


def test_completion_can_be_shown(place):
    done = subprocess.run(
        [sys.executable, "-m", "kndb.cli.main", "--show-completion", "bash"],
        env={**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert "_KNDB_COMPLETE" in done.stdout


def test_the_command_is_found_behind_options():
    assert named_commands(["--db", "query", "-q", "edit", "list", "--model", "m"]) == ["edit", "list", "m"]
    assert named_commands(["--db=x", "ask"]) == ["ask"]
    assert named_commands([]) == []


# --- extremes ---------------------------------------------------------------------------------------------------------


def test_the_fact_with_most_neurons_comes_first(kndb, kndb_json, use_ready):
    use_ready()
    rows = kndb_json("query", "facts", "--sort", "neurons")
    assert len(rows) == len(kndb_json("query", "facts"))
    counts = {row["id"]: len(kndb_json("query", "neurons", row["id"])) for row in rows}
    assert {row["id"]: row["neurons"] or 0 for row in rows} == counts
    there = [row["neurons"] for row in rows if row["neurons"] is not None]
    assert there == sorted(there, reverse=True)
    assert [row["neurons"] for row in rows[len(there) :]] == [None] * (len(rows) - len(there))
    assert kndb_json("query", "facts", "--sort", "neurons", "--limit", 2) == rows[:2]
    lowest = kndb_json("query", "facts", "--sort", "neurons", "--reverse", "--limit", 1)
    assert lowest[0]["neurons"] == min(there)
    assert "neurons" not in kndb_json("query", "facts")[0]
    names = [row["subject"] for row in kndb_json("query", "facts", "--sort", "subject")]
    assert names == sorted(names, key=str.casefold)


def test_the_first_rows_are_taken_after_sorting(kndb_json, use_ready):
    use_ready()
    rows = kndb_json("query", "shared", "--relation", "P36")
    layers = [row["layer"] for row in rows]
    assert layers != sorted(layers, reverse=True)
    few = kndb_json("query", "shared", "--relation", "P36", "--sort", "layer", "--top", 2)
    assert [row["layer"] for row in few] == sorted(layers, reverse=True)[:2]


def test_a_difference_of_versions_is_told_by_names(kndb_json, use_ready):
    use_ready()
    kndb_json("edit", "erase", "--model", "tiny", "--relation", "P36", "--top", 2)
    kndb_json("edit", "apply", 1)
    found = kndb_json("edit", "diff", "base", "current", "--model", "tiny")
    assert {row["label"] for row in found["facts"]} <= {"capital", "official language"}
    assert all({"subject", "object", "relation"} <= row.keys() for row in found["facts"])
    assert all(row["name"] == f"L{row['layer']}.N{row['neuron']}" for row in found["slots"])
    few = kndb_json("edit", "diff", "base", "current", "--model", "tiny", "--limit", 1)
    assert few == {**found, "facts": found["facts"][:1]}
    assert kndb_json("query", "collateral", 1, "--limit", 1)["facts"][0]["label"] in ("capital", "official language")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("model list", "kndb model add PATH"),
        ("query runs", "kndb attribute --model NAME"),
        ("query refinements", "kndb refine"),
        ("query relations", "kndb ingest PATH"),
        ("query facts", "kndb ingest PATH"),
        ("edit list", "kndb edit update --model NAME"),
        ("edit log", "kndb edit apply EDIT"),
        ("edit trials", "kndb edit bench --model NAME"),
        ("edit evaluations", "kndb edit eval EDIT"),
        ("snapshot list", "kndb snapshot create NAME"),
        ("probe list", "kndb probe suppress --model NAME"),
        ("query sql SELECT__1__WHERE__0", "no rows"),
    ],
)
def test_an_empty_answer_says_why_and_what_would_fill_it(kndb, words, why):
    kndb("db", "init")
    outcome = kndb(*(word.replace("__", " ") for word in words.split()))
    assert why in outcome.err
    assert json.loads(kndb(*(word.replace("__", " ") for word in words.split()), "--format", "json").out) == []
