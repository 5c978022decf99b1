"""Every command that prints tables, on a terminal of 80 columns: no line is longer, and no word is broken."""

import json
import re
import shutil

import pytest
from rich.cells import cell_len
from rich.console import Console
from typer.main import get_command

from kndb import EvaluationSettings, KnowledgeTest, OptimizeSettings, TrialSettings
from kndb.cli.commands import TableCommand
from kndb.cli.main import command_line, exit_code
from kndb.database import open_database

COLUMNS = 80
MANY = ["--model", "tiny", "--fact", "2", "--to", "Paris", "--layers", "0"]
COMMANDS = {
    "methods": [[]],
    "refine": [[]],
    "model list": [[]],
    "query shared": [["--relation", "P36"]],
    "query overlap": [[]],
    "query layers": [[], ["--by-relation"]],
    "query counts": [[]],
    "query consistency": [[]],
    "query compare": [["1", "2"]],
    "query collateral": [["1"], ["L0.N0", "L1.N1"]],
    "query fact": [["1"]],
    "query neurons": [["1"]],
    "query neuron": [["L0.N0"]],
    "query facts": [[], ["--sort", "neurons"]],
    "query relations": [[]],
    "query runs": [[]],
    "query refinements": [[]],
    "query run": [["1"]],
    "query refinement": [["1"]],
    "probe suppress": [["--model", "tiny", "--others", "2"]],
    "probe amplify": [["--model", "tiny", "--others", "2"]],
    "probe activation": [["--model", "tiny", "--texts", "texts.jsonl"]],
    "probe list": [[]],
    "probe show": [["1"], ["1", "--by-fact"]],
    "edit update": [["--model", "tiny", "--fact", "2", "--to", "Paris", "--preview", "--list-flips"]],
    "edit optimize": [
        ["--model", "tiny", "--fact", "2", "--to", "Paris", "--steps", "1", "--others", "2", "--neighbours", "2"]
    ],
    "edit memit": [
        [*MANY, "--target-steps", "1"],
        [*MANY, "--target-steps", "1", "--preview"],
        ["--model", "tiny", "--facts", "answers.csv", "--layers", "0", "--target-steps", "1", "--preview"],
    ],
    "edit alphaedit": [[*MANY, "--target-steps", "1", "--threshold", "100"]],
    "edit emmet": [[*MANY, "--target-steps", "1"]],
    "edit rome": [[*MANY, "--target-steps", "1"]],
    "edit finetune": [[*MANY, "--steps", "1"]],
    "edit merge": [["4", "5", "--anyway", "--steps", "1", "--others", "2", "--neighbours", "2", "--preview"]],
    "edit statistics": [["--model", "tiny", "--layers", "0"], ["--list"]],
    "edit export": [["1", "--format", "peft", "--out", "another-adapter"]],
    "edit bisect": [
        ["--test", "tests.jsonl", "--model", "tiny"],
        ["--test", "tests.jsonl", "--model", "tiny", "--all"],
    ],
    "test": [
        ["tests.jsonl", "--list"],
        ["tests.jsonl", "--model", "tiny", "--version", "base", "--all"],
        ["tests.jsonl", "--model", "tiny"],
    ],
    "blame": [["--edit", "1", "--model", "tiny"], ["L0.N0", "L1.N1", "--model", "tiny"]],
    "edit erase": [["--model", "tiny", "--relation", "P37", "--top", "2", "--preview"]],
    "edit apply": [["3"]],
    "edit revert": [["2"]],
    "edit delete": [["3", "--preview"], ["3"]],
    "edit list": [[]],
    "edit log": [[]],
    "edit diff": [["base", "current", "--model", "tiny"]],
    "edit verify": [[]],
    "edit eval": [["1", "--sample", "2"]],
    "edit evaluations": [[], ["--measure", "success"]],
    "edit bench": [
        ["--model", "tiny", "--facts", "2", "--sizes", "1,2", "--intra", "2", "--inter", "2", "--relation", "P36"],
        ["--model", "tiny", "--method", "finetune", "--sizes", "1", "--set", "finetune.steps=1", "--inter", "2"],
    ],
    "edit cases": [["--model", "tiny", "--relation", "P37", "--count", "2"]],
    "edit sweep": [
        *[["--model", "tiny", "--facts", "1", "--neurons", "1", "--intra", "2", "--inter", "2", "--lambda-new", "1,2"]]
    ],
    "edit trials": [[], ["1"]],
    "edit pull": [["edits.kndb", "--preview"]],
    "snapshot list": [[]],
    "snapshot show": [["a-snapshot-with-quite-a-long-name", "--model", "tiny"]],
    "snapshot restore": [["base", "--model", "tiny"]],
}
"""Arguments of each such command, with which it prints tables on the filled store."""


FAILING = {("test", "tests.jsonl", "--model", "tiny"): 11}
"""Exit codes of those that print why they failed."""


def table_commands(command, words=()):
    if hasattr(command, "commands"):
        for name, inner in command.commands.items():
            yield from table_commands(inner, (*words, name))
    elif isinstance(command, TableCommand):
        yield " ".join(words)


def test_no_command_is_left_out():
    assert set(table_commands(get_command(command_line()))) == COMMANDS.keys()


@pytest.fixture(scope="module")
def filled(ready, tmp_path_factory):
    """A folder with a database that has a row for each of these commands; only to be copied."""
    folder = tmp_path_factory.mktemp("filled")
    shutil.copytree(ready["bert"], folder, dirs_exist_ok=True)
    with open_database(folder / "kndb.db") as database:
        database.attribution.refine(share=0.3)
        for relation, top in (("P36", 3), ("P37", 1)):
            database.edits.apply(database.edits.plan_erase("tiny", relation, top=top).id)
        database.edits.plan_erase("tiny", "P37", top=4)
        for number, to in ((2, "Paris"), (3, "Rome")):
            database.edits.plan_optimize("tiny", number, to, OptimizeSettings(steps=1))
        database.snapshots.create("a-snapshot-with-quite-a-long-name", "tiny")
        database.edits.evaluate(1, EvaluationSettings(sample=2))
        database.probes.scale("suppress", "tiny", others=2)
        database.trials.bench("tiny", settings=TrialSettings(2, 2, 2, ("P36",)), counts=[1])
        database.edits.push([1], folder / "edits.kndb")
        facts = database.facts.find()
        fact = facts[0]
        asked = KnowledgeTest("all", fact=fact.id, answers=(fact.object,))
        base, now = database.tests.run("tiny", [asked], versions=["base", "current"])
        before, after = (min(one.probability for one in found.outcomes[0].prompts) for found in (base, now))
        assert after < before, "the erasures leave less of it"
    text = {"fact": fact.external_id, "kind": "head-and-tail", "text": f"{fact.subject} and {fact.object}"}
    test = {
        "name": f"what is said of {fact.subject}",
        "fact": fact.id,
        "answer": fact.object,
        "probability": (before + after) / 2,
    }
    (folder / "tests.jsonl").write_text(json.dumps(test) + "\n", encoding="utf-8")
    subjects = [(one.relation, one.subject) for one in facts if one.relation == "P37"][:3]
    rows = "".join(f"{relation},{subject},French\n" for relation, subject in subjects)
    (folder / "answers.csv").write_text(f"relation,subject,to\n{rows}", encoding="utf-8")
    (folder / "texts.jsonl").write_text(json.dumps(text) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def shown(filled, tmp_path, monkeypatch, capsys):
    """Runs a command on a copy of the filled store: what stdout gets on a terminal, or in a pipe."""

    def run(words, *, terminal):
        folder = tmp_path / ("terminal" if terminal else "pipe")
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(filled, folder)
        monkeypatch.chdir(folder)
        with monkeypatch.context() as patched:
            patched.setenv("COLUMNS", str(COLUMNS))
            if terminal:
                patched.setattr(Console, "is_terminal", property(lambda self: not self.stderr))
            capsys.readouterr()
            code = exit_code(words)
        out, err = capsys.readouterr()
        assert code == FAILING.get(tuple(words), 0), err
        return re.sub(r"\x1b\[[0-9;]*m", "", out)

    monkeypatch.delenv("KNDB_DB", raising=False)
    return run


CASES = [(name, arguments) for name, several in COMMANDS.items() for arguments in several]


@pytest.mark.parametrize(("name", "arguments"), CASES, ids=[" ".join([name, *words]) for name, words in CASES])
def test_tables_fit_and_break_no_word(shown, name, arguments):
    words = [*name.split(), *arguments]
    narrow, piped = shown(words, terminal=True), shown(words, terminal=False)
    assert narrow
    too_long = [line for line in narrow.splitlines() if cell_len(line) > COLUMNS]
    assert too_long == []
    if not re.search(r"\d\.\d+ s\b", piped):
        assert set(piped.split()) <= set(narrow.split())


@pytest.mark.parametrize("name", ["edit list", "query runs", "query facts", "edit log"])
def test_wide_shows_all_columns_and_so_do_the_other_formats(shown, name):
    few = shown(name.split(), terminal=False)
    wide = shown([*name.split(), "--wide"], terminal=False)
    header = shown([*name.split(), "--format", "csv"], terminal=False).splitlines()[0].split(",")
    assert set(few.splitlines()[0].split()) < set(wide.splitlines()[0].split())
    assert " ".join(wide.splitlines()[0].split()) == " ".join(header).replace("_", " ")
    assert shown([*name.split(), "--wide"], terminal=True)
