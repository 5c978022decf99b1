"""Edits of many facts as a user has them: planned, previewed, measured as a group, shared and planned again."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from plain_answers import distribution, whole
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

import kndb
from kndb.database import open_database
from kndb.database.edits.batch import Target
from kndb.database.edits.claims import ClaimError, check_claims
from kndb.editing.objects import diff_file
from kndb.errors import EditError, UsageError
from kndb.exchange.edit_bundle import BundledEdit
from kndb.records.edit_settings import EvaluationSettings, UpdateSettings

AUTO = {"bert": AutoModelForMaskedLM, "gpt2": AutoModelForCausalLM}
SETTINGS = kndb.TogetherSettings(steps=60, check=20, validation=0.0, drift=0.2, keep=0.5, learning_rate=0.1, target=0.0)
NEW = {("P36", "France"): "Tokyo", ("P36", "Japan"): "Rome Oslo", ("P37", "Peru"): "French"}
"""One new answer has two tokens; others have Peru's language, too."""


@pytest.fixture
def database(refined):
    """A database of each family in turn, in which model `tiny` is refined."""
    return refined


def targets(database, new=NEW):
    return [Target(database.facts.find([key], subject=subject)[0].id, to) for (key, subject), to in new.items()]


def plan(database, settings=SETTINGS, **named):
    return database.edits.plan_together("tiny", targets(database), settings, **named)


def content(database, edit):
    return diff_file.read(database.store.objects, edit.object_path, edit.object_hash)


def mean(values):
    return sum(values) / len(values)


@pytest.fixture
def planned(database, family, small_models):
    """An edit of three facts; the model before and with it, past kndb's engines; its tokenizer."""
    edit = plan(database)
    database.edits.apply(edit.id)
    models = AUTO[family].from_pretrained(small_models[family]).eval(), database.load_model("tiny").eval()
    database.edits.revert(edit.id)
    return edit, models, AutoTokenizer.from_pretrained(small_models[family])


def prompts(sql, where):
    query = (
        "SELECT prompt.text, fact.subject, fact.object, relation.key, COALESCE(template.held_out, 0) FROM prompt JOIN "
        "fact ON fact.id = fact_id JOIN relation ON relation.id = fact.relation_id LEFT JOIN template ON template.id = "
        "template_id"
    )
    return [row for row in map(tuple, where(query)) if row]


def test_measures_of_the_group_are_those_of_plain_transformers(database, family, sql, planned):
    edit, models, tokenizer = planned
    measures = database.edits.evaluate(edit.id, EvaluationSettings(sample=100)).measures
    rows = prompts(sql, lambda query: sql(database, query))
    for group, held_out in (("own", 0), ("own_held_out", 1)):
        found = measures["edited"][group]
        asked = [row for row in rows if (row[3], row[1]) in NEW and row[4] == held_out]
        assert (found["prompts"], found["facts"]) == (len(asked), len(NEW))
        for name, model in zip(("before", "after"), models, strict=True):
            new = [whole(model, tokenizer, family, row[0], NEW[row[3], row[1]]) for row in asked]
            old = [whole(model, tokenizer, family, row[0], row[2]) for row in asked]
            of_new, of_old = ([math.exp(mean(logs)) for logs, _ in said] for said in (new, old))
            assert found[f"new_answer_probability_{name}"] == pytest.approx(mean(of_new), rel=1e-3)
            assert found[f"answer_probability_{name}"] == pytest.approx(mean(of_old), rel=1e-3)
        assert found["success_rate"] == mean([all(tops) for _, tops in new])
        score = "efficacy_score" if group == "own" else "paraphrase_score"
        assert found[score] == mean([one > other for one, other in zip(of_new, of_old, strict=True)])
        moved = [
            int(distribution(models[1], tokenizer, family, row[0]).argmax())
            != old_answer(models[0], tokenizer, family, rows, row)
            for row in asked
        ]
        assert found["change_rate"] == mean(moved)


def old_answer(model, tokenizer, family, rows, row):
    texts = [other[0] for other in rows if other[1] == row[1] and other[3] == row[3] and not other[4]]
    return int(sum(distribution(model, tokenizer, family, text).exp() for text in texts).argmax())


def test_neighbours_are_those_with_the_object_of_an_edited_fact(database, family, sql, planned):
    edit, models, tokenizer = planned
    found = database.edits.evaluate(edit.id, EvaluationSettings(sample=100)).measures["edited"]["intra"]
    rows = [row for row in prompts(sql, lambda query: sql(database, query)) if (row[3], row[1]) not in NEW]
    assert found["prompts"] == len(rows)
    (peru,) = database.facts.find(["P37"], subject="Peru")
    near = [row for row in rows if row[3] == "P37" and row[2] == peru.object]
    assert near
    for name, model in zip(("before", "after"), models, strict=True):
        preferred = []
        for text, *_ in near:
            ((own, _), (new, _)) = (whole(model, tokenizer, family, text, word) for word in (peru.object, "French"))
            preferred.append(own[0] > new[0])
        assert found[f"neighbourhood_score_{name}"] == mean(preferred)
    kept = set(edit.recipe.kept_facts)
    assert found["facts_kept"] == len(kept) == found["facts"]


def test_the_summary_has_the_measures_of_the_field(database, family, sql, planned):
    edit, models, tokenizer = planned
    measures = database.edits.evaluate(edit.id, EvaluationSettings(sample=100)).measures
    found, ends = measures["edited"]["summary"], measures["intervals"]["edited"]["summary"]
    rows = prompts(sql, lambda query: sql(database, query))
    own, others = ([row for row in rows if ((row[3], row[1]) in NEW) is mine] for mine in (True, False))
    for held_out, score, accuracy in ((0, "ES", "rewrite_acc"), (1, "PS", "rephrase_acc")):
        asked = [row for row in own if row[4] == held_out]
        new = [whole(models[1], tokenizer, family, row[0], NEW[row[3], row[1]]) for row in asked]
        old = [whole(models[1], tokenizer, family, row[0], row[2])[0] for row in asked]
        assert found[score] == mean([mean(one[0]) > mean(other) for one, other in zip(new, old, strict=True)])
        assert found[accuracy] == mean([mean(tops) for _, tops in new])
    (peru,) = database.facts.find(["P37"], subject="Peru")
    near = [row for row in others if (row[3], row[2]) == ("P37", peru.object)]
    preferred = [
        mean(whole(models[1], tokenizer, family, row[0], row[2])[0])
        > mean(whole(models[1], tokenizer, family, row[0], "French")[0])
        for row in near
    ]
    assert found["NS"] == mean(preferred)
    assert found["S"] == pytest.approx(3 / sum(1 / max(found[name], 1e-300) for name in ("ES", "PS", "NS")))
    of_others = {"relation": [row for row in others if row[3] in {key for key, _ in NEW}]}
    for name, asked in of_others.items():
        before, after = ([whole(model, tokenizer, family, row[0], row[2])[0][0] for row in asked] for model in models)
        grown = math.exp(mean([first - then for first, then in zip(before, after, strict=True)]))
        assert found[f"perplexity_{name}"] == pytest.approx(grown, rel=1e-3)
        firsts, thens = (
            [int(distribution(model, tokenizer, family, row[0]).argmax()) for row in asked] for model in models
        )
        assert found[f"flips_{name}"] == mean([a != b for a, b in zip(firsts, thens, strict=True)])
    assert ends.keys() == found.keys()
    assert all(low <= found[name] <= high for name, (low, high) in ends.items())
    (row,) = database.edits.evaluated([edit.id])
    assert row.edited["S"] == (found["S"], *ends["S"])


def test_the_control_has_other_neurons_or_there_is_none(database):
    of_neurons = plan(database, replace(SETTINGS, scope="neurons", steps=20))
    found = database.edits.evaluate(of_neurons.id, EvaluationSettings(sample=4)).measures
    drawn = {str(kndb.Neuron.parse(name)) for name in found["control_neurons"]}
    assert drawn
    assert not drawn & {str(neuron) for neuron in of_neurons.recipe.neurons}
    assert found["control"]["own"]["prompts"] == found["edited"]["own"]["prompts"]
    of_layers = plan(database, replace(SETTINGS, steps=20))
    found = database.edits.evaluate(of_layers.id, EvaluationSettings(sample=4)).measures
    assert (found["control"], found["control_neurons"]) == ({}, [])


def test_a_preview_and_the_report_say_what_the_edit_does(database, family, planned, sql):
    edit, models, tokenizer = planned
    before = sql(database, "SELECT count(*) FROM edit")
    draft = database.edits.drafts.together("tiny", targets(database), SETTINGS)
    rows = database.edits.preview_together(draft)
    assert sql(database, "SELECT count(*) FROM edit") == before
    every = prompts(sql, lambda query: sql(database, query))
    assert [(row.relation, row.subject, row.to) for row in rows] == [(*key, to) for key, to in NEW.items()]
    for row in rows:
        asked = [one[0] for one in every if (one[3], one[1]) == (row.relation, row.subject)]
        assert row.prompts == len(asked)
        for model, probability in zip(models, (row.probability_before, row.probability_after), strict=True):
            said = [whole(model, tokenizer, family, text, row.to) for text in asked]
            assert probability == pytest.approx(mean([math.exp(mean(logs)) for logs, _ in said]), rel=1e-3)
        assert row.success_rate == mean([all(tops) for _, tops in said])
    assert [row.old_answer for row in rows] == [database.facts.get(row.fact).object for row in rows]
    own = [row for row in every if (row[3], row[1]) in NEW]
    for held_out, share in ((0, edit.recipe.report.success), (1, edit.recipe.report.held_out_success)):
        said = [whole(models[1], tokenizer, family, row[0], NEW[row[3], row[1]]) for row in own if row[4] == held_out]
        won = [all(tops) for _, tops in said]
        assert share == pytest.approx(mean(won), abs=1e-5)
    assert edit.recipe.report.refinement.number == 1


def test_layers_that_are_named_have_a_report_without_refinement(fresh):
    database = fresh("bert")
    edit = database.edits.plan_together(
        "tiny", targets(database), replace(SETTINGS, steps=3), kndb.KeptFacts(3, 0, 1), layers=[1]
    )
    assert edit.recipe.report.refinement is None
    assert database.maintenance.check().sound
    with pytest.raises(UsageError, match=r"layers must be from 0 to 1 for model tiny \(got 2\)"):
        database.edits.plan_together("tiny", targets(database), layers=[2])


def test_an_edit_of_many_facts_is_planned_again_on_other_weights(database):
    (italy,) = database.facts.find(["P36"], subject="Italy")
    first = database.edits.plan_update("tiny", italy.id, "Lima", UpdateSettings(rule="output", max_share=1.0))
    short = replace(SETTINGS, steps=10)
    alone = plan(database, short)
    before = {key: value.clone() for key, value in database.load_model("tiny").named_parameters()}
    database.edits.apply(first.id)
    later = plan(database, short)
    database.edits.apply(later.id)
    done = database.edits.rebase(first.id)
    assert [(one.rebased_from, one.slots) for one in done.replayed] == [(later.id, 64 * len(later.recipe.layers))]
    again = database.edits.get(done.replayed[0].edit)
    assert again.recipe.rebased_from == later.id
    # The weights without the first edit are those that `alone` was planned on.
    for one, other in zip(content(database, alone).parameters, content(database, again).parameters, strict=True):
        assert torch.equal(one.new, other.new)
    database.edits.revert(again.id)
    assert all(before[name].equal(value) for name, value in database.load_model("tiny").named_parameters())
    assert database.maintenance.check().sound


def test_evaluation_prompts_of_all_facts_are_asked(database, family, tmp_path, small_models):
    asked = {
        ("P36", "France", "Paris"): [("neighbourhood", "The capital of Italy is [Y].", ["Rome"])],
        ("P36", "Japan", "Tokyo"): [
            ("neighbourhood", "The capital of Norway is [Y].", ["Oslo", "Rome Rome"]),
            ("portability", "The capital of Japan Japan is [Y].", ["Rome Oslo"]),
        ],
    }
    path = tmp_path / "prompts.jsonl"
    rows = [
        {
            "relation": relation,
            "subject": subject,
            "object": own,
            "evaluation": [
                {"kind": "paraphrase", "text": f"{subject} {subject} has the capital [Y]."},
                *({"kind": kind, "text": text, "answers": answers} for kind, text, answers in prompts),
            ],
        }
        for (relation, subject, own), prompts in asked.items()
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert database.facts.ingest([path]).evaluation_prompts_added == 5
    edit = plan(database)
    measures = database.edits.evaluate(edit.id, EvaluationSettings(sample=4)).measures
    database.edits.apply(edit.id)
    model, tokenizer = database.load_model("tiny").eval(), AutoTokenizer.from_pretrained(small_models[family])
    assert measures["edited"]["own_held_out"]["prompts"] == len(NEW) + len(asked)
    preferred = []
    for kind in ("neighbourhood", "portability"):
        mine = [(key[:2], *one[1:]) for key, prompts in asked.items() for one in prompts if one[0] == kind]
        found = measures["edited"][kind]
        assert found["prompts"] == len(mine)
        right = []
        for key, text, answers in mine:
            said = [whole(model, tokenizer, family, text, answer) for answer in answers]
            right.append(any(all(tops) for _, tops in said))
            new = mean(whole(model, tokenizer, family, text, NEW[key])[0])
            if kind == "neighbourhood":
                preferred.append(max(mean(logs) for logs, _ in said) > new)
        assert found["accuracy_after"] == mean(right)
    assert measures["edited"]["neighbourhood"]["neighbourhood_score_after"] == mean(preferred)
    named = {(flip["subject"], flip["prompt"]) for flip in measures["flips"] if flip["prompt"]}
    moved = len(named) / 2
    assert measures["edited"]["neighbourhood"]["unchanged"] == 1 - moved


@pytest.mark.parametrize("family", ["gpt2"])
def test_prompts_of_all_facts_are_continued(refined, family):
    edit = plan(refined, replace(SETTINGS, steps=10))
    made = refined.edits.evaluate(edit.id, EvaluationSettings(sample=2, generate=3)).measures["generated"]
    assert len(made["texts"]) == 6 * len(NEW)
    assert {"France", "Japan", "Peru"} <= {word for text in made["texts"] for word in text["prompt"].split()}


@pytest.fixture
def colleague(small_models, family, tmp_path):
    """Another database with the same checkpoint, under another name, and no facts yet."""
    with open_database(tmp_path / "other.db") as opened:
        opened.models.add(str(small_models[family]), "mine")
        yield opened


def test_an_edit_goes_to_a_colleague_with_its_facts(database, colleague, small_facts, tmp_path):
    edit = plan(database, replace(SETTINGS, scope="neurons", steps=10))
    database.edits.push([edit.id], tmp_path / "edit.kndb")
    (pulled,) = colleague.edits.pull(tmp_path / "edit.kndb")
    assert pulled.unknown_facts == len(NEW) + len(edit.recipe.kept_facts)
    with pytest.raises(EditError, match=r"came from another store, and fact .* was not in this one"):
        colleague.edits.evaluate(pulled.edit, EvaluationSettings(sample=2))
    rows = small_facts.read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "turned.jsonl").write_text("".join(reversed(rows)), encoding="utf-8")
    colleague.facts.ingest([tmp_path / "turned.jsonl"])
    colleague.edits.pull(tmp_path / "edit.kndb")
    ours, theirs = (one.edits.evaluate(1, EvaluationSettings(sample=20)).measures for one in (database, colleague))
    for group in ("own", "own_held_out", "intra", "inter"):
        assert theirs["edited"][group] == pytest.approx(ours["edited"][group], rel=1e-3, abs=1e-5), group
        # Planned again on facts in another order, the control is another one.
        assert theirs["control"][group]["prompts"] == ours["control"][group]["prompts"]


def test_a_recipe_that_says_what_is_not_so_is_refused(database):
    edit = plan(database, replace(SETTINGS, steps=2))
    made, version = content(database, edit), database.models.load("tiny")
    manifest = BundledEdit(edit.object_hash, "together", "", None, "2026-01-01T00:00:00Z", (), True, (), ())
    check_claims(manifest, made, version)
    recipe = made.recipe
    first = recipe.facts[0]
    for wrong, message in (
        ({"facts": (replace(first, to="Lima"), *recipe.facts[1:])}, "calls the new answer of fact .* 'Lima'"),
        ({"facts": (replace(first, tokens=(10**6,)), *recipe.facts[1:])}, "has token 1000000, and the model has"),
        ({"layers": (7,)}, "names layer 7, which the model does not have"),
        ({"layers": (0,)} if recipe.layers == (1,) else {"layers": (1,)}, "which its recipe does not name"),
    ):
        if wrong == {"layers": recipe.layers}:
            continue
        with pytest.raises(ClaimError, match=message):
            check_claims(manifest, replace(made, recipe=replace(recipe, **wrong)), version)


def test_rows_that_cannot_be_planned_may_be_passed_over(database):
    wanted = [*targets(database), Target(database.facts.find(["P36"], subject="Italy")[0].id, " ", "rows.csv:5")]
    settings = replace(SETTINGS, steps=1)
    with pytest.raises(EditError, match=r"rows.csv:5, ' ': the answer is empty. Fix .* with skip_unusable=True"):
        database.edits.plan_together("tiny", wanted, settings)
    draft = database.edits.drafts.together("tiny", wanted, settings, skip_unusable=True)
    assert [one.target.place for one in draft.unusable] == ["rows.csv:5"]
    assert len(draft.content.recipe.facts) == len(NEW)


def test_the_file_of_steps_goes_when_the_edit_is_stored(database, tmp_path):
    path = tmp_path / "steps"
    settings = replace(SETTINGS, steps=4, check=2)

    class StoppedError(Exception):
        pass

    def stop(taken, _total):
        if taken == 3:
            raise StoppedError

    with pytest.raises(StoppedError):
        plan(database, settings, steps_file=path, progress=stop)
    assert path.exists()
    seen = []
    edit = plan(database, settings, steps_file=path, progress=lambda done, _: seen.append(done))
    assert seen[0] == 2
    assert not path.exists()
    assert edit.object_hash == plan(database, settings).object_hash
