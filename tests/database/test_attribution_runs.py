"""Attribution runs: killed, gone on with, done, widened, with other settings; prompts that are left out."""

import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from torture import FACTOR

from kndb.cli.main import exit_code
from kndb.errors import AttributionError, SchemaVersionError

RESULTS = "SELECT * FROM prompt_result ORDER BY 1, 2"
SCORES = "SELECT * FROM score ORDER BY 1, 2, 3, 4"


@pytest.mark.slow
@pytest.mark.fault
@pytest.mark.parametrize("seed", range(1, 1 + FACTOR))
@pytest.mark.parametrize("family", ["bert", "gpt2"] if FACTOR > 1 else ["gpt2"])
def test_a_killed_attribution_goes_on_to_the_same_results(fresh, tmp_path, count_points, family, seed):
    database = fresh(family)
    database.close()
    shutil.copytree(database.store.path.parent, tmp_path / "work" / "base")
    program = Path(__file__).with_name("kill_attribution.py")
    command = [sys.executable, str(program), str(tmp_path / "work"), str(seed)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    disk = report["killed"].pop("disk")
    count_points("killed at a step: attribute", sum(report["killed"].values()))
    count_points("an I/O error at a step: attribute", disk)
    assert all(report["killed"][way] > 0 for way in ("before", "within", "after")), report
    assert len(set(report["done"])) > 3


def test_again_does_nothing(attributed, sql, family):
    database = attributed(family)
    before = sql(database, RESULTS), sql(database, SCORES)
    again = database.attribution.run("tiny")
    assert (again.resumed, again.attributed, again.already_done, again.rate) == (True, 0, 80, None)
    assert again.run.id == 1
    assert again.run.status == "complete"
    assert (sql(database, RESULTS), sql(database, SCORES)) == before
    assert len(database.query.runs()) == 1


def test_new_facts_go_on_with_the_run(attributed, sql, tmp_path):
    database = attributed()
    before = set(sql(database, SCORES))
    more = tmp_path / "more.jsonl"
    more.write_text(json.dumps({"relation": "P36", "subject": "Norway", "object": "Rome"}), encoding="utf-8")
    assert database.facts.ingest([more]).prompts_added == 6
    report = database.attribution.run("tiny", relations=["P37"])
    assert (report.run.id, report.attributed, report.already_done) == (1, 0, 40)
    report = database.attribution.run("tiny")
    assert (report.run.id, report.attributed, report.already_done, report.run.prompts) == (1, 5, 80, 85)
    assert before < set(sql(database, SCORES))


def test_relations_one_after_the_other_make_one_run(fresh, attributed, sql):
    database = fresh()
    first = database.attribution.run("tiny", relations=["P37"])
    assert (first.attributed, first.already_done, first.held_out) == (40, 0, 8)
    second = database.attribution.run("tiny", relations=["P36"])
    assert (second.run.id, second.resumed, second.attributed, second.run.prompts) == (1, True, 40, 80)
    at_once = attributed()
    together, apart = sql(at_once, SCORES), sql(database, SCORES)
    assert [row[:4] for row in together] == [row[:4] for row in apart]
    # Other batches round differently.
    assert [row[4] for row in together] == pytest.approx([row[4] for row in apart], rel=1e-3)


@pytest.mark.parametrize(
    "settings",
    [
        {"floor": 0.2},
        {"quadrature": "lobatto", "steps": 4},
        {"quadrature": "riemann-left"},
        {"tolerance": 1e-2},
        {"known_only": True},
    ],
    ids=str,
)
def test_other_settings_make_another_run(attributed, sql, settings):
    database = attributed()
    before = sql(database, SCORES)
    report = database.attribution.run("tiny", relations=["P36"], **settings)
    assert (report.run.id, report.resumed, report.attributed) == (2, False, 40)
    name, value = next(iter(settings.items()))
    assert report.run.settings[name] == value
    assert [row for row in sql(database, SCORES) if row[0] == 1] == before
    again = database.attribution.run("tiny", relations=["P36"], **settings)
    assert (again.run.id, again.attributed) == (2, 0)


def test_held_out_templates_are_taken_in_by_a_run_of_their_own(attributed):
    database = attributed()
    report = database.attribution.run("tiny", relations=["P36"], held_out=True)
    assert (report.run.id, report.attributed, report.held_out) == (2, 48, 0)
    assert database.attribution.run("tiny", relations=["P36"]).held_out == 8


def test_another_version_makes_another_run(attributed):
    database = attributed()
    database.attribution.refine()
    edit = database.edits.plan_erase("tiny", "P36", top=10)
    changed = database.edits.apply(edit.id).version_after
    report = database.attribution.run("tiny", relations=["P36"])
    assert (report.run.id, report.run.version, report.attributed) == (2, changed, 40)
    database.edits.revert(edit.id)
    assert database.attribution.run("tiny").run.id == 1


def test_the_floor_keeps_the_largest_scores(attributed, sql):
    database = attributed()
    database.attribution.run("tiny", floor=0.5)
    largest = dict(sql(database, "SELECT prompt_id, max_score FROM prompt_result WHERE run_id = 2"))
    kept = sql(database, "SELECT prompt_id, layer, neuron, score FROM score WHERE run_id = 2")
    every = sql(database, "SELECT prompt_id, layer, neuron, score FROM score WHERE run_id = 1")
    assert 0 < len(kept) < len(every)
    assert kept == [row for row in every if row[3] >= 0.5 * largest[row[0]]]
    assert {row[0] for row in kept} == largest.keys()


def test_progress_and_trust(fresh):
    told = []
    report = fresh().attribution.run("tiny", batch_size=7, progress=lambda done, total: told.append((done, total)))
    assert [total for _, total in told] == [80] * len(told)
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert told[-1] == (80, 80)
    assert len(told) >= 12
    assert report.trust["prompts"] == 80
    assert 0.9 < report.trust["correct"] <= 1
    assert 0 < report.trust["completeness_error"] <= report.trust["completeness_error_max"] < 0.05
    assert report.rate == pytest.approx(80 / report.seconds)


# --- prompts without a result ----------------------------------------------------------------------------

AWKWARD = [
    {"relation": "P1", "subject": "France", "object": "Paris", "template": "The capital of [X] is [Y]."},
    {"relation": "P1", "subject": "Italy", "object": "Rome Oslo Lima"},
    {"relation": "P1", "subject": "Japan", "object": "東"},
    {"relation": "P1", "template": "The word [Y] is the capital of [X]"},
    {"relation": "P1", "template": "[Y] of [X]"},
    {"relation": "P1", "template": "[X], [MASK] and [Y]."},
    {"relation": "P1", "template": "[X] " + "has a capital named " * 30 + "[Y]."},
]
SKIPPED = {
    # A template with a mask token for each fact; four others for Japan, whose answer's letter no token has; one that is
    # too long for France and Italy.
    "bert": {"answer-not-in-vocabulary": 4, "mask-token-in-text": 3, "prompt-too-long": 2},
    # Two templates whose blank is not last for each fact, and one that is too long.
    "gpt2": {"blank-not-last": 6, "prompt-too-long": 3},
}
ANSWER_TOKENS = {"bert": [1, 1, 1, 3, 3, 3], "gpt2": [1, 1, 3, 3, 4, 4]}
"""Of the prompts that have a result; 東 is a space and three bytes to GPT-2."""


@pytest.fixture
def awkward(tmp_path):
    path = tmp_path / "awkward.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in AWKWARD), encoding="utf-8")
    return path


def test_skipped_prompts_are_counted_with_their_reasons(fresh, sql, awkward, family):
    database = fresh(family, awkward)
    report = database.attribution.run("tiny")
    assert report.skipped == SKIPPED[family]
    skipped = sum(SKIPPED[family].values())
    assert (report.attributed, report.run.prompts, report.run.skipped) == (15 - skipped, 15 - skipped, skipped)
    reasons = sql(database, "SELECT skipped, count(*) FROM prompt_result WHERE skipped IS NOT NULL GROUP BY 1")
    assert dict(reasons) == SKIPPED[family]
    tokens = sql(database, "SELECT answer_tokens FROM prompt_result WHERE skipped IS NULL ORDER BY 1")
    assert [count for (count,) in tokens] == ANSWER_TOKENS[family]
    assert sql(database, "SELECT count(answer_tokens) FROM prompt_result WHERE skipped IS NOT NULL") == [(0,)]
    again = database.attribution.run("tiny")
    assert (again.attributed, again.already_done, again.skipped) == (0, 15 - skipped, SKIPPED[family])


def test_the_command_says_what_was_skipped(fresh, awkward, capsys):
    database = fresh("bert", awkward)
    capsys.readouterr()
    words = ["attribute", "--model", "tiny", "--db", str(database.store.path), "--format", "json"]
    assert exit_code(words) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["skipped"] == 9
    assert "Skipped 4 prompts: the answer has a token unknown to this tokenizer." in err


def test_known_only(fresh, sql, tmp_path):
    path = tmp_path / "wrong.jsonl"
    rows = [{"relation": "P36", "subject": "France", "object": answer} for answer in ("Paris", "Oslo")]
    rows.append({"relation": "P36", "template": "The capital city of [X] is called [Y]."})
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    database = fresh("bert", path)
    report = database.attribution.run("tiny", known_only=True)
    assert (report.skipped, report.run.prompts, report.trust["correct"]) == ({"not-known": 1}, 1, 1.0)
    kept = sql(database, "SELECT prompt_id, probability, correct, skipped, max_score FROM prompt_result ORDER BY 1")
    assert [row[2:4] for row in kept] == [(1, None), (0, "not-known")]
    assert kept[1][1] < kept[0][1]
    assert kept[1][4] is None
    assert {row[0] for row in sql(database, "SELECT prompt_id FROM score")} == {kept[0][0]}
    everything = database.attribution.run("tiny")
    assert (everything.run.id, everything.run.prompts, everything.trust["correct"]) == (2, 2, 0.5)


def test_a_run_stays_open_while_an_interrupted_relation_is_half_done(fresh):
    database = fresh()

    class StoppedError(Exception):
        pass

    def stop_after_the_first_batch(done, total):
        raise StoppedError

    with pytest.raises(StoppedError):
        database.attribution.run("tiny", relations=["P36"], batch_size=5, progress=stop_after_the_first_batch)
    other = database.attribution.run("tiny", relations=["P37"])
    assert other.run.id == 1
    assert other.run.status == "running"
    assert other.unfinished == {"P36": 40 - 5}
    with pytest.raises(AttributionError, match="allow_incomplete=True"):
        database.attribution.refine(1)
    rest = database.attribution.run("tiny", relations=["P36"])
    assert (rest.run.status, rest.unfinished, rest.attributed) == ("complete", {}, 35)


def test_an_upgrade_meanwhile_ends_it_and_what_was_stored_stays(fresh, attributed, sql):
    database = fresh("gpt2")
    path = database.store.path

    def changed_to(revision):
        with closing(sqlite3.connect(path)) as other, other:
            other.execute("UPDATE alembic_version SET version_num = ?", [revision])

    def progress(done, _):
        if done >= 20:
            changed_to("9999")

    head = sql(database, "SELECT version_num FROM alembic_version")[0][0]
    with pytest.raises(SchemaVersionError, match="has schema revision 9999 now"):
        database.attribution.run("tiny", batch_size=10, progress=progress)
    with closing(sqlite3.connect(path)) as other:
        done = other.execute("SELECT COUNT(*) FROM prompt_result").fetchone()[0]
    assert 0 < done < 80
    changed_to(head)
    report = database.attribution.run("tiny", batch_size=10)
    assert (report.already_done, report.attributed, report.run.status) == (done, 80 - done, "complete")
    assert len(sql(database, SCORES)) == len(sql(attributed("gpt2"), SCORES))
