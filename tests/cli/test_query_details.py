"""`kndb query neuron`, `fact`, `consistency` and `sql` as a user sees them."""

import csv
import io
import json
import shlex
import sqlite3
from contextlib import closing

import pytest

USAGE, STORE, NOT_FOUND, MODEL, ATTRIBUTION = 2, 4, 5, 6, 7


@pytest.fixture
def imported(use_ready, place):
    """The ready database, whose model and refinement became an import's: no checkpoint, no scores, no settings."""
    use_ready()
    with sqlite3.connect(place / "kndb.db") as connection:
        connection.execute("UPDATE model SET fingerprint = '', source = '', family = 'unknown'")
        connection.execute("UPDATE refinement SET settings = '{}'")
        connection.execute("DELETE FROM prompt_result")
        connection.execute("DELETE FROM score")
    connection.close()


@pytest.fixture
def common(use_ready, kndb_json):
    """Gives the ready database, and the neuron that most facts of P36 hold."""
    use_ready()
    (row,) = kndb_json("query", "shared", "--relation", "P36", "--top", 1)
    return row


def test_neuron(common, kndb, kndb_json):
    name = f"L{common['layer']}.N{common['neuron']}"
    found = kndb_json("query", "neuron", name, "--top", 3)
    assert list(found) == ["neuron", "relations", "facts", "edits", "tokens", "refinement"]
    assert found["neuron"][0]["name"] == name
    assert {row["relation"]: row["facts"] for row in found["relations"]} == common["relations"]
    assert found["neuron"][0]["facts_holding"] == len(found["facts"]) == sum(common["relations"].values())
    assert [row["kind"] for row in found["tokens"]] == ["promoted"] * 3 + ["demoted"] * 3
    fired = kndb_json("query", "neuron", name, "--top", 3, "--prompts", 20, "--no-tokens")
    assert list(fired) == ["neuron", "relations", "facts", "edits", "prompts", "refinement"]
    assert [row["kind"] for row in fired["prompts"]] == ["highest"] * 3 + ["lowest"] * 3
    without = kndb_json("query", "neuron", name, "--no-tokens")
    assert list(without) == ["neuron", "relations", "facts", "edits", "refinement"]
    limited = kndb_json("query", "neuron", name, "--part", "facts", "--limit", 2)
    assert limited == {"facts": found["facts"][:2]}
    table = kndb("query", "neuron", name, "--no-tokens")
    assert f"Neuron {name}: {len(found['facts'])} facts hold it" in table.err
    for title in ("Relations", "Facts", "Edits"):
        assert f"\n{title}\n" in table.out
    printed = kndb("query", "neuron", name, "--format", "csv", "--part", "tokens", "--version", "base").out
    assert len(list(csv.DictReader(io.StringIO(printed)))) == 20


def test_run(use_ready, kndb, kndb_json, place):
    use_ready()
    found = kndb_json("query", "run", 1)
    assert list(found) == ["run", "errors", "layers", "worst", "skipped", "refinements"]
    (one,) = found["run"]
    (listed,) = [row for row in kndb_json("query", "runs") if row["id"] == 1]
    assert {name: one[name] for name in listed} == listed
    with closing(sqlite3.connect(place / "kndb.db")) as connection:
        sql = "SELECT prompt_id, completeness_error, correct FROM prompt_result WHERE run_id = 1 AND skipped IS NULL"
        rows = connection.execute(sql).fetchall()
    assert one["known_answers"] == pytest.approx(sum(row[2] for row in rows) / len(rows))
    assert one["completeness_error_max"] == max(row[1] for row in rows)
    worst = sorted(((row[1], row[0]) for row in rows), key=lambda pair: (-pair[0], pair[1]))
    assert [(row["error"], row["prompt"]) for row in found["worst"]] == worst[:20]
    assert [row["id"] for row in found["refinements"]] == [
        row["id"] for row in kndb_json("query", "refinements") if row["run_id"] == 1
    ]
    assert kndb_json("query", "run", 1, "--worst", 2, "--part", "worst") == {"worst": found["worst"][:2]}
    table = kndb("query", "run", 1)
    assert f"Run 1 (integrated-gradients, {one['model']} {one['version']})." in table.err
    assert f"All {len(rows)} prompts are within the tolerance of 0.001, at worst" in table.err
    assert kndb("query", "run", 9, code=NOT_FOUND).err.startswith("Error: no run 9;")
    assert "--worst must be at least 0" in kndb("query", "run", 1, "--worst", -1, code=USAGE).err


def test_run_that_is_not_exact_not_complete_and_not_refined(use_ready, kndb, place):
    def change(*statements):
        with closing(sqlite3.connect(place / "kndb.db")) as connection, connection:
            for statement in statements:
                connection.execute(statement)

    tables = ("knowledge_neuron", "relation_neuron", "refinement_relation", "refinement")
    unrefined = [f"DELETE FROM {table}" for table in tables]
    use_ready()
    change("UPDATE prompt_result SET completeness_error = 0.5, worst_layer = 1 WHERE prompt_id = 3")
    change("UPDATE run SET status = 'running'", *unrefined)
    said = kndb("query", "run", 1).err
    assert "Warning: 1 of " in said
    assert "stay above the tolerance of 0.001, at worst 0.5" in said
    assert "It is not complete: the command that began it resumes it." in said
    advised = "kndb refine --run 1 --allow-incomplete"
    assert f"it is not complete; refine what there is with: {advised}\n" in said
    kndb(*shlex.split(advised)[1:])
    assert "No refinement" not in kndb("query", "run", 1).err
    change("UPDATE run SET status = 'complete'", *unrefined)
    said = kndb("query", "run", 1).err
    assert "make one with: kndb refine --run 1\n" in said
    change("DELETE FROM score", "DELETE FROM prompt_result")
    assert "it has no prompts with scores to make one of." in kndb("query", "run", 1).err


def test_refinement(use_ready, kndb, kndb_json):
    use_ready()
    found = kndb_json("query", "refinement", 1)
    (listed,) = [row for row in kndb_json("query", "refinements") if row["id"] == 1]
    (one,) = found["refinement"]
    assert {name: one[name] for name in listed if name != "relations"} == {
        name: value for name, value in listed.items() if name != "relations"
    }
    counts = {row["relation"]: row for row in kndb_json("query", "counts")}
    assert len(found["relations"]) == listed["relations"] == len(counts) - 1
    for row in found["relations"]:
        assert (row["facts"], row["mean_size"]) == (
            counts[row["relation"]]["facts"],
            pytest.approx(counts[row["relation"]]["mean"]),
        )
    assert "Refinement 1 of run 1" in kndb("query", "refinement", 1).err
    for what in ("run", "refinement"):
        refused = kndb("query", what, 1, "--format", "csv", code=USAGE).err
        assert refused.startswith("Error: --format csv prints one part; name it with --part: ")
    assert kndb("query", "refinement", 9, code=NOT_FOUND).err.startswith("Error: no refinement 9;")


def test_neuron_that_nobody_holds(common, kndb):
    outcome = kndb("query", "neuron", "L0.N0", "--no-tokens", "--format", "json")
    held = json.loads(outcome.out)
    assert ("no fact holds it" in outcome.err) == (held["facts"] == [])


def test_neuron_of_a_model_without_a_checkpoint(imported, kndb):
    outcome = kndb("query", "neuron", "L0.N0", "--format", "json")
    assert "tokens" not in json.loads(outcome.out)
    assert "kndb model add PATH --name tiny" in outcome.err
    assert "kndb model add PATH --name tiny" in kndb("query", "neuron", "L0.N0", "--part", "tokens", code=MODEL).err


def test_fact(use_ready, kndb, kndb_json):
    use_ready()
    found = kndb_json("query", "fact", 1, "--nearest", 2)
    assert list(found) == ["fact", "prompts", "votes", "nearest", "refinement"]
    assert found["fact"][0]["neurons"] == sum(row["kept"] for row in found["votes"])
    assert len(found["prompts"]) == 6
    assert len(found["nearest"]) <= 2
    names = {row["name"] for row in kndb_json("query", "neurons", 1)}
    assert {row["name"] for row in found["votes"] if row["kept"]} == names
    assert kndb_json("query", "fact", 1, "--part", "votes") == {"votes": found["votes"]}
    printed = kndb("query", "fact", 1, "--format", "csv", "--part", "prompts").out
    assert [row["text"] for row in csv.DictReader(io.StringIO(printed))] == [row["text"] for row in found["prompts"]]


def test_fact_of_an_import(imported, kndb):
    found = json.loads(kndb("query", "fact", 1, "--format", "json").out)
    assert found["fact"][0]["consistency"] is None
    assert all(row["kept"] and row["needed"] is None for row in found["votes"])
    assert "imported without the scores" in kndb("query", "consistency", code=ATTRIBUTION).err


def test_consistency(use_ready, kndb, kndb_json):
    use_ready()
    found = kndb_json("query", "consistency")
    assert [row["relation"] for row in found] == ["P36", "P37", None]
    assert all(0 <= row["first_quartile"] <= row["third_quartile"] <= 1 for row in found)
    assert kndb_json("query", "consistency", "--relation", "P37")[0] == found[1]
    assert kndb("query", "consistency").out.splitlines()[-1].startswith("all")


def test_sql(use_ready, kndb, kndb_json):
    use_ready()
    query = "SELECT key, count(*) AS facts, x'00ff' AS bytes, NULL AS empty FROM relation, fact GROUP BY key"
    rows = [{"key": key, "facts": 16, "bytes": "00ff", "empty": None} for key in ("P36", "P37")]
    assert kndb_json("query", "sql", query) == rows
    assert kndb("query", "sql", query, "--format", "csv").out == "key,facts,bytes,empty\nP36,16,00ff,\nP37,16,00ff,\n"
    assert kndb("query", "sql", "SELECT 1 AS a, 2 AS a", "--format", "csv").out == "a,a_2\n1,2\n"
    assert kndb("query", "sql", "SELECT key FROM relation WHERE 0").out.split() == ["key"]


REFUSED = [
    (USAGE, ["L9.N2827", "'ten'"], "query neuron ten"),
    (USAGE, ["2 layers of 64 neurons", "L1.N63"], "query neuron L2.N0"),
    (USAGE, ["2 layers of 64 neurons"], "query neuron L0.N64 --no-tokens"),
    (USAGE, ["--limit must be at least 1"], "query neuron L0.N0 --limit 0"),
    (USAGE, ["--top must be at least 1 (got 0)"], "query neuron L0.N0 --top 0"),
    (USAGE, ["--prompts must be at least 0 (got -1)"], "query neuron L0.N0 --prompts -1"),
    (USAGE, ["--part", "relations"], "query neuron L0.N0 --no-tokens --format csv"),
    (USAGE, ["--part must be one of", "got none"], "query fact 1 --part none"),
    (USAGE, ["--part must be one of", "tokens (got none)"], "query neuron L0.N0 --part none"),
    (USAGE, ["--part must be one of", "edits (got tokens)"], "query neuron L0.N0 --part tokens --no-tokens"),
    (USAGE, ["--nearest must be at least 1"], "query fact 1 --nearest 0"),
    (NOT_FOUND, ["version 'none'"], "query neuron L0.N0 --version none"),
    (NOT_FOUND, ["number 99", "nearest are 14, 15 and 16"], "query fact 99"),
    (NOT_FOUND, ["refinement 99", "there is 1"], "query fact 1 --refinement 99"),
    (NOT_FOUND, ["refinement 99"], "query consistency --refinement 99"),
    (NOT_FOUND, ["'P38'", "nearest are P3"], "query consistency --relation P38"),
    (NOT_FOUND, ["'other'"], "query neuron L0.N0 --model other"),
    (USAGE, ["no such table: facts", "fact"], "query sql 'SELECT * FROM facts'"),
    (USAGE, ["DELETE"], "query sql 'DELETE FROM fact'"),
]


@pytest.mark.parametrize(("code", "patterns", "line"), REFUSED, ids=[line for _, _, line in REFUSED])
def test_mistakes(use_ready, kndb, state, code, patterns, line):
    use_ready()
    before = state()
    outcome = kndb(*shlex.split(line), code=code)
    assert outcome.out == ""
    for pattern in patterns:
        assert pattern in outcome.err
    assert state() == before


def test_sql_without_a_database(kndb):
    assert "kndb db init" in kndb("query", "sql", "SELECT 1", code=STORE).err
