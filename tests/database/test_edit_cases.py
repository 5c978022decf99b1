"""Sets of cases like CounterFact's, drawn from a store: against plain transformers, and read back."""

import json

import pytest
from plain_answers import whole
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

import kndb
from kndb.database import open_database
from kndb.errors import EditError, NotFoundError, UsageError
from kndb.facts import read

AUTO = {"bert": AutoModelForMaskedLM, "gpt2": AutoModelForCausalLM}
SETTINGS = kndb.CaseSettings(count=4, seed=2, neighbours=2)


@pytest.fixture
def database(fresh, family):
    """A database with the small facts and model `tiny` of each family in turn, not attributed."""
    return fresh(family)


def prompts_of(sql, database):
    query = (
        "SELECT relation.key, fact.subject, fact.object, prompt.text, template.held_out FROM prompt JOIN fact ON "
        "fact.id = fact_id JOIN relation ON relation.id = fact.relation_id JOIN template ON template.id = template_id"
    )
    return [tuple(row) for row in sql(database, query)]


def test_cases_are_known_facts_with_other_objects(database, family, sql, small_models):
    found = database.edits.cases("tiny", settings=SETTINGS)
    assert len(found.cases) == 4
    model = AUTO[family].from_pretrained(small_models[family]).eval()
    tokenizer = AutoTokenizer.from_pretrained(small_models[family])
    rows = prompts_of(sql, database)
    edited = {(case.relation, case.subject) for case in found.cases}
    for case in found.cases:
        own = [row for row in rows if row[:3] == (case.relation, case.subject, case.object)]
        assert [one.text for one in case.prompts] == [row[3] for row in own if not row[4]]
        assert [one.text for one in case.paraphrases] == [row[3] for row in own if row[4]]
        assert all(all(whole(model, tokenizer, family, one.text, case.object)[1]) for one in case.prompts)
        assert case.to != case.object
        assert case.to in {row[2] for row in rows if row[0] == case.relation}
        for one in case.neighbours:
            (row,) = (row for row in rows if row[3] == one.text)
            assert (row[0], row[2]) == (case.relation, case.object)
            assert (row[0], row[1]) not in edited
            assert all(whole(model, tokenizer, family, one.text, case.object)[1])
    # Peru, Cuba and Spain speak Spanish: who has a neighbour is one of them.
    assert all(case.object == "Spanish" for case in found.cases if case.neighbours)


def test_the_same_seed_gives_the_same_bytes(database, family, fresh, small_facts, tmp_path):
    for number in range(2):
        cases = database.edits.cases("tiny", relations=["P37"], settings=SETTINGS)
        for form in ("lines", "counterfact"):
            database.edits.write_cases(cases, tmp_path / f"{form}-{number}", form=form)
    for form in ("lines", "counterfact"):
        assert (tmp_path / f"{form}-0").read_bytes() == (tmp_path / f"{form}-1").read_bytes()
    other = database.edits.cases("tiny", relations=["P37"], settings=kndb.CaseSettings(count=4, seed=3))
    assert [case.subject for case in other.cases] != [case.subject for case in cases.cases]
    # Whatever the numbers of the facts are.
    turned = tmp_path / "turned.jsonl"
    turned.write_text("".join(reversed(small_facts.read_text().splitlines(keepends=True))))
    there = fresh(family, turned).edits.cases("tiny", relations=["P37"], settings=SETTINGS)
    assert [(case.subject, case.to) for case in there.cases] == [(case.subject, case.to) for case in cases.cases]


def test_planning_reads_both_files(database, tmp_path):
    cases = database.edits.cases("tiny", settings=SETTINGS)
    for form, name in (("lines", "cases.jsonl"), ("counterfact", "cases.json")):
        written = database.edits.write_cases(cases, tmp_path / name, form=form)
        targets = database.edits.targets(tmp_path / name)
        facts = [database.facts.get(target.fact) for target in targets]
        assert [(fact.relation, fact.subject, fact.object) for fact in facts] == [
            (case.relation, case.subject, case.object) for case in written.cases
        ]
        assert [target.to for target in targets] == [case.to for case in written.cases]


def test_counterfact_is_what_its_reader_reads(database, tmp_path):
    cases = database.edits.cases("tiny", settings=kndb.CaseSettings(count=16, seed=1, neighbours=3))
    written = database.edits.write_cases(cases, tmp_path / "cases.json", form="counterfact")
    assert len(written.cases) + written.left_out.get("blank-not-last", 0) == len(cases.cases)
    (file,) = read(tmp_path / "cases.json")
    assert file.rejected == ()
    for record, case in zip(file.facts, written.cases, strict=True):
        assert record.name == (case.relation, case.subject, case.object)
        assert record.edit.answers == {"target_new": case.to}
        assert record.prompts[0].removesuffix(" [Y]") in {one.text.partition("[Y]")[0].rstrip() for one in case.prompts}
        kinds = [prompt.kind for prompt in record.evaluation]
        assert kinds.count("neighbourhood") == len(case.neighbours)
        assert kinds.count("paraphrase") == len(case.paraphrases)
    # Another store that has only this file measures an edit by its prompts.
    with open_database(tmp_path / "other.db") as other:
        assert other.facts.ingest([tmp_path / "cases.json"]).new_answers == len(written.cases)


def test_what_is_no_case_is_counted_by_reason(fresh, write_facts):
    rows = [{"relation": "P36", "template": "The capital of [X] is [Y]."}]
    rows += [{"relation": "P36", "subject": name, "object": "Paris"} for name in ("France", "Norway")]
    rows += [{"relation": "P36", "subject": "Peru", "object": word} for word in ("Lima", "Oslo")]
    database = fresh("bert", write_facts(*rows))
    found = database.edits.cases("tiny", settings=kndb.CaseSettings(known=1.0))
    assert [case.subject for case in found.cases] == ["France"]
    assert found.left_out == {"not-known": 1, "several-objects": 2}
    only = fresh("bert", write_facts(rows[0], rows[2]))
    with pytest.raises(
        EditError, match=r"no fact of P36 can be a case for model tiny: 1 because the model answers some"
    ):
        only.edits.cases("tiny", relations=["P36"])


def test_what_is_refused(fresh, tmp_path):
    database = fresh("bert")
    with pytest.raises(NotFoundError):
        database.edits.cases("tiny", relations=["P99"])
    for wrong, message in (
        ({"count": 0}, r"count must be at least 1 \(got 0\)"),
        ({"neighbours": -1}, r"neighbours must be at least 0 \(got -1\)"),
    ):
        with pytest.raises(UsageError, match=message):
            kndb.CaseSettings(**wrong)
    cases = database.edits.cases("tiny", settings=kndb.CaseSettings(count=1))
    with pytest.raises(UsageError, match="form must be one of lines, counterfact"):
        database.edits.write_cases(cases, tmp_path / "x", form="csv")
    (tmp_path / "there").write_text("mine")
    with pytest.raises(UsageError, match=r"exists already; .* force=True"):
        database.edits.write_cases(cases, tmp_path / "there")
    assert (tmp_path / "there").read_text() == "mine"
    database.edits.write_cases(cases, tmp_path / "there", force=True)
    assert json.loads((tmp_path / "there").read_text())["to"] == cases.cases[0].to
