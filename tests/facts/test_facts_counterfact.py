from __future__ import annotations

import copy

import pytest

from kndb import facts
from kndb.errors import InputError
from kndb.records.facts import FactRecord, TemplateRecord

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
EASYEDIT = {
    "case_id": 0,
    "prompt": "The mother tongue of Danielle Darrieux is",
    "target_new": "English",
    "subject": "Danielle Darrieux",
    "ground_truth": "French",
    "rephrase_prompt": "Danielle Darrieux, a native",
    "locality_prompt": "The mother tongue of Léon Blum is",
    "locality_ground_truth": "French",
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
    assert file.facts == (
        FactRecord(
            "P103",
            "Danielle Darrieux",
            "French",
            "counterfact-0",
            (
                "The mother tongue of Danielle Darrieux is [Y]",
                "Hm. Danielle Darrieux, a native [Y]",
                "Danielle Darrieux spoke the language [Y]",
            ),
        ),
    )
    assert file.templates == (TemplateRecord("P103", "The mother tongue of [X] is [Y]"),)
    assert file.relations == {"P103": None}
    assert all(facts.blank_is_last(prompt) for prompt in file.facts[0].prompts)


def test_nothing_of_the_false_target_or_the_other_prompts_is_read(write_json):
    (file,) = facts.read(write_json("counterfact.json", [RECORD]))
    for absent in ("English", "Blum", "Tolkien", "'s mother tongue"):
        assert absent not in repr(file)


def test_a_subject_with_braces_goes_in_by_position(write_json):
    (file,) = facts.read(write_json("counterfact.json", [variant("requested_rewrite.subject", "C{} {0}")]))
    assert file.facts[0].prompts[0] == "The mother tongue of C{} {0} is [Y]"


def test_a_template_shared_by_records_comes_once(write_json):
    other = variant("requested_rewrite.subject", "Léon Blum")
    (file,) = facts.read(write_json("counterfact.json", [RECORD, other]))
    assert (len(file.facts), len(file.templates)) == (2, 1)


def test_paraphrases_may_be_missing(write_json):
    (file,) = facts.read(write_json("counterfact.json", [variant("paraphrase_prompts", ...)]))
    assert len(file.facts[0].prompts) == 1


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
    (variant("paraphrase_prompts", "text"), "'paraphrase_prompts' must be a list of texts (got text)"),
    (variant("paraphrase_prompts", [3]), "'paraphrase_prompts' must be text (got a number)"),
    (variant("paraphrase_prompts", ["a [Y]"]), "the paraphrase 'a [Y]' has [Y] in it"),
    ("text", "each record must be an object of CounterFact (got text)"),
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


@pytest.mark.parametrize("input_format", ["auto", "counterfact"])
def test_easyedit_is_recognised_and_refused(write_json, input_format):
    path = write_json("counterfact-edit.json", [EASYEDIT])
    with pytest.raises(InputError) as caught:
        facts.read(path, input_format, skip_invalid=True)
    assert str(caught.value).startswith(f"{path}: this is EasyEdit's flat CounterFact (fields prompt, target_new, g")
    assert "give a JSON list of CounterFact records with case_id, requested_rewrite" in str(caught.value)


def test_easyedit_as_json_lines_is_refused(write):
    with pytest.raises(InputError, match="this is EasyEdit's flat CounterFact"):
        facts.read(write("edit.jsonl", [EASYEDIT]))


def test_counterfact_as_json_lines_is_refused(write):
    path = write("counterfact.jsonl", [RECORD, RECORD])
    with pytest.raises(InputError, match=r":2: not valid JSON .*: the file must be a JSON list of CounterFact records"):
        facts.read(path)
