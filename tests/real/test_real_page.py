"""The page of the real model: its tables are those of the stored results, and its steps those of real commands."""

import importlib
import json
import shlex
import statistics
import sys
from pathlib import Path

import pytest
from page_examples import one
from typer.main import get_command

from kndb.cli.main import command_line

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "real-models.md"


@pytest.fixture(scope="module")
def scripts():
    """The benchmarks' modules, which are no package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        yield {name: importlib.import_module(name) for name in ("real_models", "real_page", "transcript")}
        for name in ("real_models", "real_page", "transcript", "fetch_real_model"):
            sys.modules.pop(name, None)


def step(output, command="kndb refine"):
    machine = "2 cores of x86"
    return {
        "command": command,
        "seconds": 1.5,
        "processor_seconds": 2.25,
        "at": "2026-11-25",
        "machine": machine,
        "output": output,
    }


@pytest.fixture
def content():
    """Results of a few steps of one model."""
    scaled = {"facts": 3, "prompts": 9, "neurons": 7.0, "correct_before": 1.0, "correct_after": 0.25, "flips": 0.5}
    suppressed = [
        {"relation": relation, "neurons_from": neurons, "prompts_of": prompts, "change": change, **scaled}
        for relation in ("all", "P36")
        for neurons, prompts, change in (
            ("knowledge", "own", -0.8),
            ("random", "own", 0.003),
            ("knowledge", "other", 0),
        )
    ]
    name = "SmolLM2-135M-Instruct"
    layers = [{"relation": None, "layer": layer, "share": share} for layer, share in enumerate((0.1, 0, 0, 0.3, 0.6))]
    counts = {"facts": 3, "mean": 12.5, "first_quartile": 4.0, "median": 7.0, "third_quartile": 9.0}
    return {
        "size": "tiny",
        "steps": {
            "facts": step({}),
            f"{name}.refine": step([{"refinement": 2, "relation": "P36"}, {"refinement": 2, "relation": "P37"}]),
            f"{name}.counts": step([{"relation": None, **counts}]),
            f"{name}.layers": step(layers),
            f"{name}.suppress": step(suppressed, "kndb probe suppress"),
        },
    }


def test_the_page_has_every_table_and_they_are_those_of_its_results(scripts):
    page = scripts["real_page"]
    text = PAGE.read_text(encoding="utf-8")
    assert {found[2] for found in page.MARKED.finditer(text)} == set(page.TABLES)
    stored = PAGE.with_suffix(".json")
    if stored.is_file():
        assert page.filled(text, json.loads(stored.read_text(encoding="utf-8"))) == text


def test_filling_leaves_the_prose(scripts, content):
    page = scripts["real_page"]
    text = "# Words\n\n<!-- table: paper -->\nold\n<!-- end -->\n\nMore.\n"
    filled = page.filled(text, content)
    assert filled.startswith("# Words\n\n<!-- table: paper -->\n| measure |")
    assert filled.endswith("|\n<!-- end -->\n\nMore.\n")
    assert page.filled(filled, content) == filled
    with pytest.raises(KeyError):
        page.filled(text.replace("paper", "other"), content)


def rows(table):
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.strip().splitlines()]
    assert len({len(row) for row in cells}) == 1
    return {row[0]: row[1:] for row in cells[2:]}


def test_the_papers_table_has_the_papers_figures_beside_the_measured(scripts, content):
    found = rows(scripts["real_page"].paper(content))
    assert found["knowledge neurons per fact: mean"] == ["4.13", "8.39", "12.50"]
    assert found["facts (relations)"] == ["27,738 (34)", "6,952 (20)", "3 (2)"]
    assert found["quartiles"][2] == "4, 7, 9"
    assert found["layer with most of them, and its share"][2] == "4 of 0–4: 60 %"
    assert found["answer's probability, neurons suppressed"] == ["−29.03 %", "", "−80.00 %"]
    assert found["random neurons suppressed"] == ["", "", "+0.30 %"]
    assert found["answer's probability, neurons amplified"] == ["+31.17 %", "", ""]


def test_what_was_not_measured_is_left_empty(scripts, content):
    page = scripts["real_page"]
    for name, table in page.TABLES.items():
        assert table({"size": "tiny", "steps": {}}).count("|"), name
        assert table(content).count("|"), name
    assert "`kndb probe suppress`" in page.commands(content)
    assert rows(page.layers(content))["SmolLM2-135M-Instruct"] == [
        "5",
        *["10.0 %", "0.0 %", "0.0 %", "30.0 %", "60.0 %"],
        "10.0 %",
        "60.0 %",
    ]


def test_errors_are_summed_up(scripts):
    errors = [10.0**-place for place in range(1, 6)] * 8
    found = [{"relation": "P36", "error": error, "evaluations": 200, "skipped": None} for error in errors]
    found.append({"relation": "P37", "error": None, "evaluations": None, "skipped": "not-known"})
    summary = scripts["real_models"].summarise_errors(found)
    assert set(summary) == {"all", "P36"}
    assert summary["all"] == summary["P36"]
    assert summary["all"]["mean"] == pytest.approx(statistics.mean(errors))
    assert summary["all"]["above"] == pytest.approx(sum(error > 1e-3 for error in errors) / 40)
    assert (summary["all"]["prompts"], summary["all"]["largest"], summary["all"]["evaluations"]) == (40, 0.1, 200)
    assert sum(error <= summary["all"]["p95"] for error in errors) >= 38


@pytest.mark.parametrize("size", ["tiny", "small", "full"])
def test_every_step_is_a_command_that_there_is(scripts, size):
    models = scripts["real_models"]

    class Anything(dict):
        def __missing__(self, name):
            first = {"run": 1, "refinement": 1, "id": 1}
            return {"output": {0: first, "run": 1, "edit": 1}}

    plan, whole = list(models.steps(size, models.SIZES[size])), get_command(command_line())
    assert len({step.name for step in plan}) == len(plan)
    for planned in plan:
        words = shlex.split(models.shown([str(word) for word in planned.words(Anything())]))
        if words[0] == "python":
            assert (ROOT / words[1]).is_file()
            continue
        command, rest = whole, words[1:]
        while hasattr(command, "commands"):
            command, rest = command.commands[rest[0]], rest[1:]
        command.make_context(words[0], [*rest, "--format", "json"])


def test_a_run_goes_on_where_it_stopped(scripts, tmp_path, monkeypatch):
    models = scripts["real_models"]
    monkeypatch.setattr(models, "_machine", lambda: "a machine")
    called = []

    def call(words, store, name):
        if name == "b" and len(called) == 1:
            called.append("failed")
            raise models.StepError("b ended with exit code 1")
        called.append(words)
        return {"number": len(called)}

    monkeypatch.setattr(models, "_called", call)
    plan = [
        models.Step("a", lambda _: ["kndb", "a"]),
        models.Step("b", lambda found: ["kndb", "b", found["a"]["output"]["number"]], lambda output: output["number"]),
    ]
    folder = tmp_path / "measured-full"
    with pytest.raises(models.StepError):
        models.run(plan, models.Measured(folder), "*", "")
    models.run(plan, models.Measured(folder), "*", "")
    assert called == [["kndb", "a"], "failed", ["kndb", "b", "1"]]
    stored = json.loads((folder / "results.json").read_text())["steps"]
    assert [record["command"] for record in stored.values()] == ["kndb a", "kndb b 1"]
    assert stored["b"]["output"] == 3
    models.run(plan, models.Measured(folder), "*", "b")
    assert len(called) == 4


def test_a_step_says_what_it_needs(scripts, tmp_path):
    models = scripts["real_models"]
    plan = [models.Step("b", lambda found: ["kndb", found["a"]["output"]])]
    with pytest.raises(models.StepError, match="b needs what a gives"):
        models.run(plan, models.Measured(tmp_path / "measured-full"), "*", "")


def test_a_transcript_is_run_again(scripts, tmp_path):
    text = "$ echo one > file\n$ cat file\nold\nolder\n$ ls data > names\n"
    assert scripts["transcript"].again(text) == "$ echo one > file\n$ cat file\none\n$ ls data > names\n"


@pytest.mark.real
@pytest.mark.slow
def test_the_readme_shows_what_a_real_model_says(scripts, real_model, tmp_path, monkeypatch):
    """Its transcript, which `benchmarks/transcript.py` makes with programs of their own, in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KNDB_DB", raising=False)
    (tmp_path / "data").symlink_to(ROOT / "data")
    (tmp_path / "real-models").mkdir()
    (tmp_path / "real-models" / real_model.name).symlink_to(real_model.resolve())
    (shown,) = scripts["transcript"].MARKED.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    for command, lines in scripts["transcript"].commands(shown):
        printed, noted, code = one(command)
        assert code == 0, (command, noted)
        if command.startswith(("kndb query", "kndb ask")):
            assert lines, f"the page shows nothing of: {command}"
            words = [[line.split()[0] for line in some[1:]] for some in (lines, printed.splitlines())]
            assert words[0] == words[1], command
