from __future__ import annotations

import hashlib
import json

import pytest

from kndb import facts
from kndb.errors import InputError
from kndb.records.facts import FactRecord

BAG = [
    ["Rome is the capital of [MASK].", "Italy", "P1376(capital of)"],
    ["[MASK]'s capital, Rome.", "Italy", "P1376(capital of)"],
]
PROMPTS = ("Rome is the capital of [Y].", "[Y]'s capital, Rome.")


def identifier(*parts):
    text = json.dumps(list(parts), ensure_ascii=False)
    return "bag-" + hashlib.sha256(text.encode()).hexdigest()[:16]


def test_a_bag_is_a_fact_without_a_named_subject(write_json):
    (file,) = facts.read(write_json("data.json", [BAG]))
    expected = identifier("P1376", "Italy", *sorted(PROMPTS))
    assert file.facts == (FactRecord("P1376", None, "Italy", expected, PROMPTS),)
    assert file.relations == {"P1376": "capital of"}
    assert file.templates == ()


def test_the_identifier_does_not_hang_on_the_order_of_prompts(write_json):
    (file,) = facts.read(write_json("data.json", [BAG, BAG[::-1], [BAG[0]]]))
    first, second, third = [fact.external_id for fact in file.facts]
    assert first == second != third


@pytest.mark.parametrize(
    ("text", "relations"),
    [
        ("P36(capital)", {"P36": "capital"}),
        (" P36 ( capital (of state) ) ", {"P36": "capital (of state)"}),
        ("P36", {"P36": None}),
        ("P36()", {"P36": None}),
        ("(capital)", {"(capital)": None}),
    ],
)
def test_key_and_label_of_the_relation(write_json, text, relations):
    (file,) = facts.read(write_json("data.json", [[["[MASK] is big.", "Rome", text]]]))
    assert file.relations == relations


def changed(entry, **changes):
    prompt, answer, relation = entry
    return [changes.get("prompt", prompt), changes.get("answer", answer), changes.get("relation", relation)]


BAD = [
    (
        [BAG[0], changed(BAG[1], answer="Peru")],
        "a bag has one answer, and this one has 'Italy' and 'Peru'",
    ),
    (
        [BAG[0], changed(BAG[1], relation="P36(capital)")],
        "a bag has one relation, and this one has 'P1376(capital of)' and 'P36(capital)'",
    ),
    (
        [changed(BAG[0], prompt="Rome is here.")],
        "the prompt 'Rome is here.' has no [MASK]; it must have exactly one",
    ),
    (
        [BAG[1], changed(BAG[0], prompt="[MASK] [MASK]")],
        "the prompt '[MASK] [MASK]' has 2 [MASK]; it must have exactly one",
    ),
    ([changed(BAG[0], prompt="[Y] is [MASK]")], "the prompt '[Y] is [MASK]' has [Y] in it"),
    ([changed(BAG[0], answer="")], "'answer' is empty; it must be text"),
    ([changed(BAG[0], relation=None)], "'relation' must be text (got null)"),
    ([BAG[0][:2]], "each entry of a bag must be [prompt, answer, relation] (got a list of 2)"),
    (["text"], "each entry of a bag must be [prompt, answer, relation] (got text)"),
    ([], "a bag must be a list of [prompt, answer, relation] (got an empty bag)"),
    ({"a": 1}, "a bag must be a list of [prompt, answer, relation] (got an object)"),
]


@pytest.mark.parametrize(("bad", "reason"), BAD, ids=[reason for _, reason in BAD])
def test_a_bad_bag_is_rejected_by_its_number(write_json, bad, reason):
    path = write_json("data.json", [BAG, BAG, bad, BAG])
    with pytest.raises(InputError) as caught:
        facts.read(path)
    assert str(caught.value).startswith(f"{path}:3: {reason}")
    (file,) = facts.read(path, skip_invalid=True)
    assert len(file.facts) == 3
    assert [line.line for line in file.rejected] == [3]


def test_no_list_is_an_error(write_json):
    path = write_json("data.json", {"bags": [BAG]})
    with pytest.raises(InputError, match=r"it must be a JSON list of bags, .* \(got an object\)"):
        facts.read(path, "bags", skip_invalid=True)
