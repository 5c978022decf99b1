from __future__ import annotations

import pytest

from kndb import facts
from kndb.errors import InputError
from kndb.records.facts import FactRecord, TemplateRecord

PATTERNS = [
    {
        "pattern": "[X] is produced by [Y].",
        "lemma": "produce",
        "extended_lemma": "produce-by",
        "tense": "present",
    },
    {"pattern": "[Y] owns [X] .", "lemma": "own", "extended_lemma": "own", "tense": "present"},
]
FACTS = [
    {"sub_label": "Fiat Multipla", "obj_label": "Fiat", "uuid": "u-1"},
    {"sub_label": 'Volvo {} "V70"', "obj_label": "Volvo", "uuid": "u-2"},
]


@pytest.fixture
def pararel(write, tmp_path):
    root = "here/pararel/data/"
    write(root + "pattern_data/graphs_json/P176.jsonl", PATTERNS)
    write(root + "trex_lms_vocab/P176.jsonl", FACTS)
    write(root + "pattern_data/graphs_json/P127.jsonl", PATTERNS[1:])
    write(root + "trex_lms_vocab/P127.jsonl", FACTS[:1])
    return tmp_path / "here/pararel"


def test_one_file_per_relation_with_patterns_and_facts(pararel):
    p127, p176 = facts.read(pararel)
    assert p176.relations == {"P176": None}
    assert p176.source == str(pararel / "data/trex_lms_vocab/P176.jsonl")
    assert p176.templates == (
        TemplateRecord("P176", "[X] is produced by [Y]."),
        TemplateRecord("P176", "[Y] owns [X] ."),
    )
    assert p176.facts == (
        FactRecord("P176", "Fiat Multipla", "Fiat", "u-1"),
        FactRecord("P176", 'Volvo {} "V70"', "Volvo", "u-2"),
    )
    # The same fact in two files is two facts of two relations.
    assert p127.facts == (FactRecord("P127", "Fiat Multipla", "Fiat", "u-1"),)


@pytest.mark.parametrize("place", ["..", ".", "data"])
@pytest.mark.parametrize("input_format", ["auto", "pararel"])
def test_the_folders_are_found_from_above_and_directly(pararel, place, input_format):
    assert len(facts.read(pararel / place, input_format)) == 2


def test_both_folders_side_by_side(write, tmp_path):
    write("graphs_json/P176.jsonl", PATTERNS)
    write("trex_lms_vocab/P176.jsonl", FACTS)
    assert len(facts.read(tmp_path)) == 1


def test_a_relation_with_one_half_only(pararel):
    (pararel / "data/trex_lms_vocab/P127.jsonl").unlink()
    p127, _ = facts.read(pararel)
    assert (len(p127.facts), len(p127.templates)) == (0, 1)
    assert p127.source.endswith("graphs_json/P127.jsonl")


def test_a_missing_half_is_an_error(pararel):
    (pararel / "data/trex_lms_vocab").rename(pararel / "data/elsewhere")
    with pytest.raises(InputError, match=r"there is no folder trex_lms_vocab in it; give a folder that holds"):
        facts.read(pararel)


def test_two_copies_are_an_error(pararel, write):
    write("here/copy/trex_lms_vocab/P176.jsonl", FACTS)
    with pytest.raises(InputError, match=r"it has several folders trex_lms_vocab .*; give a folder with one copy"):
        facts.read(pararel.parent)


@pytest.mark.parametrize("part", ["data/trex_lms_vocab/P176.jsonl", "data/pattern_data/graphs_json/P176.jsonl"])
def test_half_a_relation_alone_is_refused(pararel, part):
    with pytest.raises(InputError, match=r"this is a single file, .* give a folder that holds"):
        facts.read(pararel / part)
    with pytest.raises(InputError, match=r"this is a single file, .* give a folder that holds"):
        facts.read((pararel / part).parent)


def test_bad_lines_name_their_own_file(pararel, write):
    root = "here/pararel/data/"
    patterns = write(root + "pattern_data/graphs_json/P176.jsonl", [PATTERNS[0], {"pattern": "[X] and [X]: [Y]"}])
    bad = [
        {"obj_label": "Fiat", "uuid": "u"},
        FACTS[0],
        {"sub_label": "a [Y]", "obj_label": "b", "uuid": "u"},
    ]
    lines = write(root + "trex_lms_vocab/P176.jsonl", bad)
    with pytest.raises(InputError) as caught:
        facts.read(pararel)
    message = str(caught.value)
    assert message.startswith(f"{patterns}:2: the pattern '[X] and [X]: [Y]' has 2 [X]; it must have exactly one")
    assert "2 further lines can't be used either" in message
    assert [(line.file, line.line) for line in caught.value.rejected] == [
        (str(patterns), 2),
        (str(lines), 1),
        (str(lines), 3),
    ]
    assert len(facts.read(pararel, relations=["P127"])) == 1
    _, p176 = facts.read(pararel, skip_invalid=True)
    assert (len(p176.facts), len(p176.templates), len(p176.rejected)) == (1, 1, 3)
