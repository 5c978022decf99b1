"""Pages as data are what the database's methods give, and what the commands that they name print."""

import json
import shlex
import shutil

import pytest
from asgi import ask
from filled_store import HOSTILE, NAME

from kndb.cli.advice import for_shell
from kndb.cli.main import exit_code
from kndb.database import open_database
from kndb.explorer.addresses import path_of
from kndb.explorer.application import Explorer
from kndb.explorer.guard import Rules
from kndb.records.models import Neuron

PAGES = [
    *("", "relations", "relations/P36", "facts", "facts/2", "neurons", "models/tiny", "models/tiny/layers"),
    *(
        "models/tiny/neurons/{held}",
        "overlap",
        "overlap/P36/P37",
        "runs",
        "runs/1",
        "refinements/1",
        "edits",
        "edits/1",
    ),
    *("compare?a=1&b=2", "compare?kind=versions&a=base&b=current", "sql?query=SELECT key FROM relation"),
    "ask?text=The capital of France is [Y].",
]


@pytest.fixture(scope="module")
def real(rich_store, tmp_path_factory):
    """A database with a real model, only to be read."""
    folder = tmp_path_factory.mktemp("real") / "rich"
    shutil.copytree(rich_store, folder, symlinks=True)
    with open_database(folder / "kndb.db") as database:
        yield database


@pytest.fixture(scope="module")
def application(real):
    return Explorer(real, Rules(), for_shell)


@pytest.fixture(scope="module")
def held(real):
    """The neuron that most facts hold."""
    most = real.query.shared(across=1, top=1, refinement=1)[0]
    return Neuron(most.layer, most.neuron)


def address(page, held, suffix="", **parameters):
    """The address of a page as data."""
    path, _, query = page.format(held=held).partition("?")
    segments = tuple(one for one in path.split("/") if one)
    pairs = [query.replace(" ", "%20")] if query else []
    return (
        path_of(segments, suffix) + "?" + "&".join([*pairs, *(f"{name}={value}" for name, value in parameters.items())])
    )


def rows(found, *names):
    return [tuple(row[name] for name in names) for row in found]


def records(found, *names):
    return [tuple(getattr(row, name) for name in names) for row in found]


def test_tables_are_what_the_databases_methods_give(explorer, filled):
    query, facts = filled.query, filled.facts

    def tables(*segments, parameters="refinement=1"):
        return ask(explorer, f"{path_of(segments, 'json')}?{parameters}").json()["tables"]

    names = ("facts", "templates", "prompts")
    assert rows(tables("relations")["relations"], "relation", *names) == records(facts.relations(), "key", *names)
    listed = query.facts(refinement=1).facts
    names = ("fact", "relation", "subject", "object", "neurons")
    assert rows(tables("facts")["facts"], *names) == records(listed, *names)
    relation = tables("relations", HOSTILE)
    assert rows(relation["facts"], *names) == records(query.facts([HOSTILE], refinement=1).facts, *names)
    assert rows(relation["shared"], "facts", "share") == records(
        query.shared([HOSTILE], refinement=1), "facts", "share"
    )
    near = [row for row in query.near_relations(HOSTILE, refinement=1) if row.neurons]
    assert rows(relation["near"], "relation", "mean", "neurons") == records(near, "relation", "mean", "neurons")
    held = {(f"L{row.layer}.N{row.neuron}", row.facts, row.relations) for row in query.held_neurons(refinement=1)}
    for page in (("neurons",), ("models", NAME, "layers")):
        assert set(rows(tables(*page)["neurons"], "neuron", "facts", "relations")) == held
    one = query.neuron("L0.N1", refinement=1)
    page = tables("models", NAME, "neurons", "L0.N1")
    assert rows(page["facts"], "fact", "mean_score") == records(one.facts, "fact", "mean_score")
    assert rows(page["relations"], "relation", "facts") == records(one.relations, "relation", "facts")
    cells = {(cell.relation, cell.other, cell.mean) for cell in query.overlap(refinement=1).cells}
    assert set(rows(tables("overlap")["pairs"], "relation", "other", "mean")) == cells
    names = ("id", "method", "status", "prompts", "skipped", "above_tolerance")
    for page in (("runs",), ("models", NAME)):
        assert rows(tables(*page)["runs"], *names) == records(query.runs(), *names)
        assert rows(tables(*page)["refinements"], "id", "facts") == records(query.refinements(), "id", "facts")
    names = ("fact", "error", "layer")
    assert rows(tables("runs", 1)["worst"], *names) == records(query.run(1).worst, *names)
    counts = query.counts(refinement=2)[:-1]
    assert rows(tables("refinements", 2)["relations"], "relation", "facts") == records(counts, "relation", "facts")
    assert rows(tables("edits")["edits"], "edit", "neurons") == records(filled.edits.all(), "id", "neurons")
    found = tables("search", parameters="q=subject+1")["facts"]
    assert rows(found, "fact") == records(query.facts(text="subject 1", sort="match").facts, "fact")
    columns, answer = query.sql("SELECT key FROM relation")
    found = tables("sql", parameters="query=SELECT%20key%20FROM%20relation")["answer"]
    assert rows(found, *columns) == [tuple(row) for row in answer]


def figures(page, told):
    """The key figures of a page's JSON, and of what its command printed as JSON."""
    tables, values = page["tables"], page["values"]
    match page["command"].split()[1:3]:
        case ["db", "info"]:
            return len(tables["models"]), told["rows"]["model"]
        case ["query", "relations"]:
            return rows(tables["relations"], "relation", "prompts"), rows(told, "key", "prompts")
        case ["query", "shared"]:
            table = tables.get("shared") or tables["neurons"]
            count = "facts" if "facts" in table[0] else "share"
            return set(rows(table, "neuron", count)), set(rows(told, "name", count))
        case ["query", "facts"]:
            return rows(tables["facts"], "fact", "object"), rows(told, "id", "object")
        case ["query", "fact"]:
            found = rows(tables["votes"], "neuron", "prompts", "mean_score")
            return (values["Knowledge neurons"], found), (
                told["fact"][0]["neurons"],
                rows(told["votes"], "name", "prompts", "mean_score"),
            )
        case ["model", "show"]:
            return (values["Layers"].split(":")[0], values["Current version"]), (str(told["layers"]), told["version"])
        case ["query", "layers"]:
            held = {name["neuron"] for name in tables["neurons"]}
            return len(held), sum(row["neurons"] for row in told)
        case ["query", "neuron"]:
            return rows(tables["facts"], "fact", "mean_score"), rows(told["facts"], "fact", "mean_score")
        case ["query", "overlap"]:
            cells = rows(tables["pairs"], "relation", "other", "mean")
            return set(cells), set(rows(told["cells"], "relation", "other", "mean"))
        case ["query", "runs"]:
            return rows(tables["runs"], "id", "prompts", "skipped"), rows(told, "id", "prompts", "skipped")
        case ["query", "run"]:
            one, names = told["run"][0], ("fact", "text", "answer", "error", "layer")
            found = (values["Prompts with scores"], values["Answers known"], rows(tables["worst"], *names))
            found += (rows(tables["refinements"], "id", "facts", "neurons"),)
            wanted = (one["prompts"], one["known_answers"], rows(told["worst"], *names))
            return found, (*wanted, rows(told["refinements"], "id", "facts", "neurons_per_fact"))
        case ["query", "refinement"]:
            one, names = told["refinement"][0], ("relation", "label", "facts", "mean_size", "share", "passes")
            found = (values["Facts"], values["Neurons per fact"], rows(tables["relations"], *names))
            return found, (one["facts"], one["neurons_per_fact"], rows(told["relations"], *names))
        case ["query", "compare"]:
            return {row["relation"] for row in tables["relations"]} >= {"P36"}, bool(told)
        case ["edit", "log"]:
            return len(page["timeline"]), len(told)
        case ["edit", "show"]:
            return len(tables["slots"]), told["neurons"]
        case ["edit", "diff"]:
            return {row["neuron"] for row in tables["slots"]}, {row["name"] for row in told["slots"]}
        case ["query", "sql"]:
            return rows(tables["answer"], "key"), rows(told, "key")
        case ["ask", *_]:
            return [one["label"] for one in page["answers"]["tiny, current"]][: len(told)], [
                one["token"] for one in told
            ]
    raise AssertionError(f"what {page['command']} should say is not known")


@pytest.mark.parametrize("page", PAGES)
def test_the_command_that_a_page_names_runs_and_says_the_same(application, real, held, page, monkeypatch, capsys):
    shown = ask(application, address(page, held, "json")).json()
    monkeypatch.setenv("KNDB_DB", str(real.store.path))
    capsys.readouterr()
    assert exit_code([*shlex.split(shown["command"])[1:], "--format", "json"]) == 0, shown["command"]
    on_page, told = figures(shown, json.loads(capsys.readouterr().out))
    assert on_page == told
    assert on_page
