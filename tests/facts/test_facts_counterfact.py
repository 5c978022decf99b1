from __future__ import annotations

import copy
import json

import pytest

from kndb import facts
from kndb.errors import InputError
from kndb.records.facts import EvaluationPrompt, RequestedEdit, TemplateRecord

RECORD = {
    "case_id": 0,
    "pararel_idx": 2796,
    "requested_rewrite": {
        "prompt": "The mother tongue of {} is",
        "relation_id": "P103",
        "target_new": {"str": "English", "id": "Q1860"},
        "target_true": {"str": "French", "id": "Q150"},
        "subject": "Danielle Darrieux",
    },
    "paraphrase_prompts": ["Hm. Danielle Darrieux, a native ", "Danielle Darrieux spoke the language"],
    "neighborhood_prompts": ["The mother tongue of Léon Blum is"],
    "attribute_prompts": ["J.R.R. Tolkien is a native speaker of"],
    "generation_prompts": ["Danielle Darrieux's mother tongue is"],
}


def variant(place, value):
    """The record with the field at a dotted place set, or removed where the value is `...`."""
    record = copy.deepcopy(RECORD)
    *above, last = place.split(".")
    inner = record
    for name in above:
        inner = inner[name]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return record


def test_true_fact_prompts_and_template(write_json):
    (file,) = facts.read(write_json("counterfact.json", [RECORD]))
    (fact,) = file.facts
    assert (fact.relation, fact.subject, fact.object, fact.external_id, fact.prompts) == (
        "P103",
        "Danielle Darrieux",
        "French",
        "counterfact-0",
        ("The mother tongue of Danielle Darrieux is [Y]",),
    )
    assert fact.edit == RequestedEdit(1, {"target_new": "English"})
    assert file.templates == (TemplateRecord("P103", "The mother tongue of [X] is [Y]"),)
    assert file.relations == {"P103": None}


def test_all_other_prompts_only_evaluate(write_json):
    (file,) = facts.read(write_json("counterfact.json", [RECORD]))
    assert file.facts[0].evaluation == (
        EvaluationPrompt("paraphrase", "paraphrase_prompts", "Hm. Danielle Darrieux, a native [Y]"),
        EvaluationPrompt("paraphrase", "paraphrase_prompts", "Danielle Darrieux spoke the language [Y]"),
        EvaluationPrompt("neighbourhood", "neighborhood_prompts", "The mother tongue of Léon Blum is [Y]", ("French",)),
        EvaluationPrompt("attribute", "attribute_prompts", "J.R.R. Tolkien is a native speaker of [Y]", ("English",)),
        EvaluationPrompt("generation", "generation_prompts", "Danielle Darrieux's mother tongue is"),
    )


def test_without_new_answer_nothing_is_asked_of_it(write_json):
    (file,) = facts.read(write_json("counterfact.json", [variant("requested_rewrite.target_new", ...)]))
    assert file.facts[0].edit is None
    assert "attribute" not in {prompt.kind for prompt in file.facts[0].evaluation}


def test_a_subject_with_braces_goes_in_by_position(write_json):
    (file,) = facts.read(write_json("counterfact.json", [variant("requested_rewrite.subject", "C{} {0}")]))
    assert file.facts[0].prompts[0] == "The mother tongue of C{} {0} is [Y]"


def test_a_template_shared_by_records_comes_once(write_json):
    other = variant("requested_rewrite.subject", "Léon Blum")
    (file,) = facts.read(write_json("counterfact.json", [RECORD, other]))
    assert (len(file.facts), len(file.templates)) == (2, 1)


def test_paraphrases_may_be_missing(write_json):
    (file,) = facts.read(write_json("counterfact.json", [variant("paraphrase_prompts", ...)]))
    assert "paraphrase" not in {prompt.kind for prompt in file.facts[0].evaluation}


BAD = [
    (variant("case_id", ...), "'case_id' is missing; it must be a number"),
    (variant("requested_rewrite", "text"), "'requested_rewrite' must be an object (got text)"),
    (variant("requested_rewrite.subject", " "), "'subject' is empty; it must be text"),
    (variant("requested_rewrite.subject", "[Y]"), "'subject' has [Y] in it; a subject can't have"),
    (
        variant("requested_rewrite.relation_id", ...),
        "the field 'relation_id' is missing (given: prompt, target_new, target_true, subject)",
    ),
    (
        variant("requested_rewrite.target_true", ...),
        "the field 'target_true' is missing (given: prompt, relation_id, target_new, subject)",
    ),
    (variant("requested_rewrite.target_true.str", 5), "'str' must be text (got a number)"),
    (
        variant("requested_rewrite.prompt", "The mother tongue is"),
        "the prompt 'The mother tongue is' has no {}; it must have exactly one",
    ),
    (
        variant("requested_rewrite.prompt", "{} and {}"),
        "the prompt '{} and {}' has 2 {}; it must have exactly one",
    ),
    (variant("requested_rewrite.prompt", "{} is [Y]"), "the prompt '{} is [Y]' has [Y] in it"),
    (variant("paraphrase_prompts", 5), "'paraphrase_prompts' must be a list of texts (got a number)"),
    (variant("generation_prompts", ["a [X]"]), "the generation_prompts 'a [X]' has [X] in it"),
    (variant("paraphrase_prompts", [3]), "'paraphrase_prompts' must be text (got a number)"),
    (variant("paraphrase_prompts", ["a [Y]"]), "the paraphrase_prompts 'a [Y]' has [Y] in it"),
    ("text", "each item must be an object (got text)"),
]


@pytest.mark.parametrize(("bad", "reason"), BAD, ids=[reason for _, reason in BAD])
def test_a_bad_record_is_rejected_by_its_number(write_json, bad, reason):
    path = write_json("counterfact.json", [RECORD, bad, RECORD])
    with pytest.raises(InputError) as caught:
        facts.read(path)
    assert str(caught.value).startswith(f"{path}:2: {reason}")
    (file,) = facts.read(path, skip_invalid=True)
    assert len(file.facts) == 2
    assert [line.line for line in file.rejected] == [2]


def test_counterfact_as_json_lines_is_read_as_the_list_is(write, write_json):
    (lines,) = facts.read(write("counterfact.jsonl", [RECORD, RECORD]))
    (whole,) = facts.read(write_json("counterfact.json", [RECORD, RECORD]))
    assert (lines.facts, lines.templates) == (whole.facts, whole.templates)
    path = write("bad.jsonl", [RECORD, {"case_id": 3}])
    with pytest.raises(InputError, match=r"bad\.jsonl:2: the field 'requested_rewrite' is missing"):
        facts.read(path)


def test_an_object_over_several_lines_is_no_list(tmp_path):
    path = tmp_path / "one.json"
    path.write_text(json.dumps(RECORD, indent=1), encoding="utf-8")
    with pytest.raises(InputError, match=r"must be a JSON list of CounterFact records .* \(got an object\)"):
        facts.read(path, "counterfact")
