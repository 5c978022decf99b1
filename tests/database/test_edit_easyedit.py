"""EasyEdit's result fields of an edit, against counts over plain transformers."""

from __future__ import annotations

import json

import pytest
import torch
from plain_answers import whole
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

import kndb
from kndb.analysis.fluency import fluency
from kndb.database.edits.batch import Target
from kndb.errors import EditError, UsageError

AUTO = {"bert": AutoModelForMaskedLM, "gpt2": AutoModelForCausalLM}
SETTINGS = kndb.TogetherSettings(steps=60, check=20, validation=0.0, drift=0.2, keep=0.5, learning_rate=0.1, target=0.0)
NEW = {("P36", "France"): "Tokyo", ("P36", "Japan"): "Rome Oslo"}
"""One new answer has two tokens."""
EVALUATION = [
    {"kind": "paraphrase", "axis": "paraphrase", "text": "France France has [Y].", "answers": []},
    {"kind": "locality", "axis": "Specificity", "text": "The seat of Italy is [Y].", "answers": ["Rome Oslo"]},
    {"kind": "neighbourhood", "axis": "neighborhood", "text": "The capital of Norway is [Y].", "answers": ["Oslo"]},
    {"kind": "portability", "axis": "Reasoning", "text": "Paris is [Y].", "answers": ["Tokyo Rome", "Oslo"]},
    {"kind": "portability", "axis": "Reasoning", "text": "The capital of France France is [Y].", "answers": ["Tokyo"]},
]  # fmt: skip


@pytest.fixture
def database(refined, tmp_path):
    """A database of each family in turn, in which model `tiny` is refined, with evaluation prompts of France."""
    path = tmp_path / "prompts.jsonl"
    fact = {"relation": "P36", "subject": "France", "object": "Paris", "evaluation": EVALUATION}
    path.write_text(json.dumps(fact) + "\n", encoding="utf-8")
    refined.facts.ingest([path])
    return refined


def fact(database, relation, subject):
    return database.facts.find([relation], subject=subject)[0].id


@pytest.fixture
def planned(database, family, small_models):
    """An edit of two facts; the model before and with it, past kndb's engines; its tokenizer."""
    targets = [Target(fact(database, *key), to) for key, to in NEW.items()]
    edit = database.edits.plan_together("tiny", targets, SETTINGS)
    database.edits.apply(edit.id)
    models = AUTO[family].from_pretrained(small_models[family]).eval(), database.load_model("tiny").eval()
    database.edits.revert(edit.id)
    return edit.id, models, AutoTokenizer.from_pretrained(small_models[family])


def mean(values):
    return sum(values) / len(values)


def tokens_said(model, tokenizer, family, text, answer):
    """The most probable token at each place of an answer."""
    before, _, after = text.partition("[Y]")
    if family == "bert":
        count = len(tokenizer(answer, add_special_tokens=False).input_ids)
        ids = tokenizer(f"{before}{' '.join([tokenizer.mask_token] * count)}{after}").input_ids
        start = ids.index(tokenizer.mask_token_id)
    else:
        start, ids = len(tokenizer(before.rstrip()).input_ids) - 1, tokenizer(before + answer).input_ids
        count = len(ids) - 1 - start
    with torch.no_grad():
        rows = model(input_ids=torch.tensor([ids])).logits[0]
    return rows[start : start + count].argmax(-1).tolist()


def test_the_results_of_each_fact_are_those_of_plain_transformers(database, family, planned, sql, tmp_path):
    edit, models, tokenizer = planned
    done = database.edits.export_easyedit(edit, tmp_path / "results.json", kndb.EvaluationSettings(sample=100))
    cases = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert [case["case_id"] for case in cases] == [0, 1]
    assert done.cases == 2
    query = (
        "SELECT prompt.text, fact.subject, fact.object, relation.key, template.held_out FROM prompt JOIN fact ON "
        "fact.id = fact_id JOIN relation ON relation.id = fact.relation_id JOIN template ON template.id = template_id"
    )
    rows = [tuple(row) for row in sql(database, query)]

    def right(model, text, answer):
        return mean(whole(model, tokenizer, family, text, answer)[1])

    def unchanged(text, answer):
        said = (tokens_said(model, tokenizer, family, text, answer) for model in models)
        return mean([one == other for one, other in zip(*said, strict=True)])

    for case, ((relation, subject), to) in zip(cases, NEW.items(), strict=True):
        asked = case["requested_rewrite"]
        assert (asked["subject"], asked["target_new"]) == (subject, to)
        own = [text for text, *about, held_out in rows if (about[2], about[0]) == (relation, subject) and not held_out]
        held = [text for text, *about, held_out in rows if (about[2], about[0]) == (relation, subject) and held_out]
        held += [EVALUATION[0]["text"]] if subject == "France" else []
        assert len(asked["prompt"]) == len(own) == 5
        for name, model in zip(("pre", "post"), models, strict=True):
            assert case[name]["rewrite_acc"] == pytest.approx([mean([right(model, text, to) for text in own])])
            assert case[name]["rephrase_acc"] == pytest.approx([mean([right(model, text, to) for text in held])])
        shares = {
            where: [unchanged(text, answer) for text, name, answer, key, _ in rows
                    if (key, name) not in NEW and (key == "P36") == (where == "same_relation")]
            for where in ("same_relation", "other_relations")
        }  # fmt: skip
        locality = case["post"]["locality"]
        assert "locality" not in case["pre"]
        for where, values in shares.items():
            assert locality[f"{where}_acc"] == pytest.approx([mean(values)])
    of_france = cases[0]
    assert of_france["requested_rewrite"]["ground_truth"] == "Paris"
    assert of_france["requested_rewrite"]["locality"]["neighborhood"]["prompt"] == ["The capital of Norway is"]
    for kept in EVALUATION[1:3]:
        found = of_france["post"]["locality"][f"{kept['axis']}_acc"]
        assert found == pytest.approx([unchanged(kept["text"], kept["answers"][0])])
    for name, model in zip(("pre", "post"), models, strict=True):
        best = [max(right(model, one["text"], answer) for answer in one["answers"]) for one in EVALUATION[3:]]
        assert of_france[name]["portability"] == {"Reasoning_acc": pytest.approx(best)}
    assert cases[1]["post"]["portability"] == {}
    assert done.rewrite_acc == pytest.approx(mean([case["post"]["rewrite_acc"][0] for case in cases]))
    assert done.rewrite_acc > done.rewrite_acc_before
    assert all(set(case) == {"case_id", "requested_rewrite", "time", "pre", "post"} for case in cases)


def test_fluency_is_that_of_continuations(database, family, planned, tmp_path):
    edit, models, tokenizer = planned
    settings = kndb.EvaluationSettings(sample=1, generate=4)
    if family == "bert":
        with pytest.raises(UsageError, match="causal"):
            database.edits.export_easyedit(edit, tmp_path / "results.json", settings)
        return
    database.edits.export_easyedit(edit, tmp_path / "results.json", settings)
    case = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))[0]
    with database.store.reading() as connection:
        texts = [row[0] for row in connection.exec_driver_sql("SELECT text FROM prompt WHERE fact_id = ?", (
            fact(database, "P36", "France"),))]  # fmt: skip
    for name, model in zip(("pre", "post"), models, strict=True):
        said = []
        for text in texts:
            start = text.partition("[Y]")[0].rstrip()
            ids = tokenizer(start, return_tensors="pt").input_ids
            made = model.generate(ids, max_new_tokens=4, do_sample=False, pad_token_id=0)
            said.append(fluency(start + tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True)))
        assert case[name]["fluency"] == {"ngram_entropy": pytest.approx(mean(said))}


def test_what_has_no_such_results_is_refused(database, tmp_path):
    erase = database.edits.plan_erase("tiny", "P37", top=2).id
    with pytest.raises(EditError, match="gives no fact a new answer"):
        database.edits.export_easyedit(erase, tmp_path / "results.json")
    update = database.edits.plan_update("tiny", 1, "Rome", kndb.UpdateSettings(max_share=1)).id
    with pytest.raises(UsageError, match="says itself what it is for"):
        database.edits.export_easyedit(update, tmp_path / "results.json", fact=1, to="Rome")
    (tmp_path / "there.json").touch()
    with pytest.raises(UsageError, match="exists already"):
        database.edits.export_easyedit(update, tmp_path / "there.json")
    assert not (tmp_path / "results.json").exists()
