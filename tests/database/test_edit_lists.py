"""Lists of edits as they were published: from ingest to the facts and answers of edits."""

from __future__ import annotations

import json
import re

import pytest

from kndb.database.edits.batch import Target
from kndb.errors import InputError, NotFoundError, UsageError


def case(number, subject, old, new, prompt="The capital of {} is"):
    rewrite = {"prompt": prompt, "relation_id": "P36", "subject": subject}
    rewrite |= {"target_true": {"str": old}, "target_new": {"str": new}}
    return {"case_id": number, "requested_rewrite": rewrite, "neighborhood_prompts": ["The capital of Peru is"]}


COUNTERFACT = [case(0, "France", "Paris", "Tokyo"), case(1, "Italy", "Rome", "Oslo")]
ZSRE = [
    {"subject": "Lake Como", "src": "Which country is Lake Como in?", "answers": ["Italy"], "alt": "Peru", "loc": "a"},
    {"subject": "Etna", "src": "Which country is Etna in?", "answers": ["Italy"], "alt": "", "loc": "a"},
]


@pytest.fixture
def database(refined):
    """A database of each family in turn, in which model `tiny` is refined."""
    return refined


@pytest.fixture
def write(tmp_path):
    def writer(name, value):
        path = tmp_path / name
        path.write_text(json.dumps(value), encoding="utf-8")
        return path

    return writer


@pytest.mark.parametrize("family", ["bert"])
def test_facts_of_counterfact_are_found_by_what_they_are(database, write):
    """Those that another list brought, too."""
    path = write("cf.json", COUNTERFACT)
    report = database.facts.ingest([path])
    assert (report.facts_added, report.new_answers, report.evaluation_prompts_added) == (0, 2, 2)
    france, italy = (database.facts.find(["P36"], subject=name)[0].id for name in ("France", "Italy"))
    found = database.edits.targets(path)
    assert found == [Target(france, "Tokyo", "cf.json:1"), Target(italy, "Oslo", "cf.json:2")]
    assert found.left_out == ()
    assert database.edits.targets(str(path), new_answers="target_new") == found


@pytest.mark.parametrize("family", ["bert"])
def test_a_case_that_comes_twice_counts_once_and_of_two_answers_the_first_may_be_taken(database, write):
    twice = write("cf.json", [*COUNTERFACT, case(2, "France", "Paris", "Tokyo")])
    assert [target.place for target in database.edits.targets(twice)] == ["cf.json:1", "cf.json:2"]
    both = write("cf.json", [*COUNTERFACT, case(2, "France", "Paris", "Lima")])
    further = r"cf\.json:3: cf\.json:1 gives fact \d+ another answer \('Tokyo', here 'Lima'\)"
    with pytest.raises(UsageError, match=further + r"\. To take the first of each, give skip_unusable=True"):
        database.edits.targets(both)
    targets = database.edits.targets(both, skip_unusable=True)
    assert [target.to for target in targets] == ["Tokyo", "Oslo"]
    assert len(targets.left_out) == 1
    assert re.fullmatch(further, targets.left_out[0])


@pytest.mark.parametrize("family", ["bert"])
def test_facts_that_are_not_in_the_store_are_named_with_the_command(database, write):
    path = write("cf.json", [*COUNTERFACT, case(7, "Atlantis", "Poseidonis", "Rome")])
    message = r"1 of 3 facts of .*cf\.json are not in the store: cf\.json:3 P36 'Atlantis' → 'Poseidonis'"
    with pytest.raises(NotFoundError, match=message + r"\. Add them with: db\.facts\.ingest\(.*cf\.json"):
        database.edits.targets(path)
    found = database.edits.targets(path, skip_unusable=True)
    assert len(found) == 2
    assert found.left_out == ("cf.json:3 P36 'Atlantis' → 'Poseidonis': the fact is not in the store",)
    database.facts.ingest([path])
    assert len(database.edits.targets(path)) == 3


@pytest.mark.parametrize("family", ["bert"])
def test_records_that_cant_be_used_stop_or_are_passed_over(database, write):
    path = write("cf.json", [*COUNTERFACT, {"case_id": 3}])
    with pytest.raises(InputError, match=r"cf\.json:3: the field 'requested_rewrite' .*give skip_unusable=True"):
        database.edits.targets(path)
    found = database.edits.targets(path, skip_unusable=True)
    assert len(found) == 2
    assert "cf.json:3: the field 'requested_rewrite' is missing" in found.left_out[0]


@pytest.mark.parametrize("family", ["bert"])
def test_of_zsre_the_user_says_which_answers_are_new(database, write):
    path = write("zsre.json", ZSRE)
    database.facts.ingest([path])
    como, etna = (database.facts.find(subject=name)[0].id for name in ("Lake Como", "Etna"))
    with pytest.raises(UsageError, match=r"new_answers='alt' \(the false .* or new_answers='answers' \(the true"):
        database.edits.targets(path)
    with pytest.raises(UsageError, match=r"new_answers must be alt or answers for .* \(got 'target_new'\)"):
        database.edits.targets(path, new_answers="target_new")
    assert database.edits.targets(path, new_answers="answers") == [
        Target(como, "Italy", "zsre.json:1"),
        Target(etna, "Italy", "zsre.json:2"),
    ]
    found = database.edits.targets(path, new_answers="alt")
    assert found == [Target(como, "Peru", "zsre.json:1")]
    assert found.left_out == ("zsre.json:2: the record has no 'alt'",)


@pytest.mark.parametrize("family", ["bert"])
def test_a_list_of_facts_has_no_new_answers(database, write, small_facts, tmp_path):
    bags = write("bags.json", [[["Rome is the capital of [MASK].", "Italy", "P1376(capital of)"]]])
    with pytest.raises(InputError, match="this is a list of facts, and it has no new answers"):
        database.edits.targets(bags)
    own = tmp_path / "own.jsonl"
    own.write_text('{"fact": 1, "to": "Rome"}\n', encoding="utf-8")
    with pytest.raises(UsageError, match="new_answers is for lists of edits"):
        database.edits.targets(own, new_answers="alt")
    with pytest.raises(InputError, match=r"this is a list of new answers .* db\.edits\.targets\(path="):
        database.facts.ingest([own])


@pytest.mark.parametrize("family", ["bert"])
def test_copies_under_other_names_and_as_json_lines_are_read_alike(database, write, tmp_path):
    expected = [(target.fact, target.to) for target in database.edits.targets(ingested(database, write))]
    lines = tmp_path / "cf_lines.jsonl"
    lines.write_text("".join(json.dumps(record) + "\n" for record in COUNTERFACT), encoding="utf-8")
    for path in (lines, write("cf_list.jsonl", COUNTERFACT)):
        assert [(target.fact, target.to) for target in database.edits.targets(path)] == expected


def ingested(database, write):
    path = write("cf.json", COUNTERFACT)
    database.facts.ingest([path])
    return path


def test_an_edit_of_each_fact_is_planned_from_the_list(database, write):
    path = write("cf.json", COUNTERFACT)
    database.facts.ingest([path])
    batch = database.edits.draft_batch(
        "tiny",
        database.edits.targets(path),
        lambda target, version: database.edits.drafts.update("tiny", target.fact, target.to, on=version),
    )
    edits = database.edits.add_batch(batch)
    assert [(edit.recipe.fact.subject, edit.recipe.to) for edit in edits] == [("France", "Tokyo"), ("Italy", "Oslo")]
    for edit in edits:
        assert database.edits.evaluate(edit.id).measures["edited"]["neighbourhood"]["prompts"] == 1
