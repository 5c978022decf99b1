from __future__ import annotations

import pytest

from kndb import facts
from kndb.errors import InputError
from kndb.records.facts import FactRecord, TemplateRecord

RELATIONS = [
    {
        "relation": "P19",
        "template": "[X] was born in [Y] .",
        "label": "place of birth",
        "description": "d",
        "type": "N-1",
    },
    {
        "relation": "P36",
        "template": "The capital of [X] is [Y] .",
        "label": "capital",
        "description": "d",
        "type": "1-1",
    },
]


def fact(relation, subject, answer, uuid):
    return {
        "uuid": uuid,
        "obj_uri": "Q1",
        "obj_label": answer,
        "sub_uri": "Q2",
        "sub_label": subject,
        "predicate_id": relation,
        "evidences": [{"sub_surface": subject, "obj_surface": answer, "masked_sentence": f"{subject} [MASK]."}],
    }


@pytest.fixture
def lama(write, tmp_path):
    write("LAMA/data/relations.jsonl", RELATIONS)
    write(
        "LAMA/data/TREx/P19.jsonl",
        [fact("P19", "Cicero", "Arpinum", "u-1"), fact("P19", "Dante", "Florence", "u-2")],
    )
    write("LAMA/data/TREx/P36.jsonl", [fact("P36", "Peru", "Lima", "u-3")])
    write("LAMA/data/Google_RE/date_of_birth_test.jsonl", [{"pred": "x", "sub_label": "a", "obj_label": "b"}])
    write("LAMA/data/Squad/test.jsonl", [{"id": "x"}])
    return tmp_path / "LAMA"


@pytest.mark.parametrize("place", [".", "data", "data/TREx"])
@pytest.mark.parametrize("input_format", ["auto", "lama"])
def test_templates_and_facts_from_any_of_its_folders(lama, place, input_format):
    templates, p19, p36 = facts.read(lama / place, input_format)
    assert templates.relations == {"P19": "place of birth", "P36": "capital"}
    assert templates.templates == (
        TemplateRecord("P19", "[X] was born in [Y] ."),
        TemplateRecord("P36", "The capital of [X] is [Y] ."),
    )
    assert templates.facts == ()
    assert p19.relations == {"P19": "place of birth"}
    assert p19.facts == (
        FactRecord("P19", "Cicero", "Arpinum", "u-1"),
        FactRecord("P19", "Dante", "Florence", "u-2"),
    )
    assert p36.facts == (FactRecord("P36", "Peru", "Lima", "u-3"),)


def test_relations_beside_the_facts(write, tmp_path):
    write("relations.jsonl", RELATIONS)
    write("P36.jsonl", [fact("P36", "Peru", "Lima", "u-3")])
    assert [len(file.templates) for file in facts.read(tmp_path)] == [2, 0]


def test_paths_stay_as_the_user_gave_them(lama, monkeypatch):
    monkeypatch.chdir(lama / "data/TREx")
    from pathlib import Path

    assert [file.source for file in facts.read(Path())] == ["../relations.jsonl", "P19.jsonl", "P36.jsonl"]


def test_one_file_of_facts_brings_its_own_template(lama):
    templates, p36 = facts.read(lama / "data/TREx/P36.jsonl")
    assert [template.relation for template in templates.templates] == ["P36"]
    assert p36.relations == {"P36": "capital"}


def test_the_file_of_relations_alone(lama):
    (templates,) = facts.read(lama / "data/relations.jsonl")
    assert len(templates.templates) == 2
    assert templates.relations["P36"] == "capital"


def test_facts_without_a_file_of_relations(lama):
    (lama / "data/relations.jsonl").unlink()
    p19, _ = facts.read(lama)
    assert p19.relations == {"P19": None}
    assert p19.templates == ()


def test_evidences_are_no_prompts(lama):
    assert all(fact.prompts == () for file in facts.read(lama) for fact in file.facts)


def test_choice_of_relations(lama):
    templates, p36 = facts.read(lama, relations=["P36"])
    assert templates.relations == {"P36": "capital"}
    assert [template.relation for template in templates.templates] == ["P36"]
    assert [fact.subject for fact in p36.facts] == ["Peru"]


def test_bad_lines(lama, write):
    bad = [
        fact("P36", "", "Lima", "u"),
        fact("P36", "Peru", "Lima", "u"),
        {"sub_label": "Peru", "obj_label": "Lima"},
    ]
    path = write("LAMA/data/TREx/P36.jsonl", bad)
    relations = write("LAMA/data/relations.jsonl", [{"relation": "P36", "label": "capital"}, RELATIONS[0]])
    with pytest.raises(InputError) as caught:
        facts.read(lama)
    assert str(caught.value).startswith(
        f"{relations}:1: the field 'template' is missing (given: relation, label). 2 further lines"
    )
    assert [(line.file, line.line, line.reason) for line in caught.value.rejected[1:]] == [
        (str(path), 1, "'sub_label' is empty; it must be text"),
        (str(path), 3, "the field 'predicate_id' is missing (given: sub_label, obj_label)"),
    ]
    assert sum(len(file.facts) for file in facts.read(lama, skip_invalid=True)) == 3


def test_two_folders_of_facts_are_an_error(lama, write):
    write("LAMA/data/TREx_UHN/P36.jsonl", [fact("P36", "Peru", "Lima", "u-3")])
    with pytest.raises(
        InputError, match=r"several folders have files of facts \(.*TREx, .*TREx_UHN\); give one of them"
    ):
        facts.read(lama)


def test_a_folder_without_facts_is_an_error(write, tmp_path):
    write("relations.jsonl", RELATIONS)
    with pytest.raises(InputError, match=r"there is no file of facts, such as LAMA's P17.jsonl"):
        facts.read(tmp_path, "lama")
