"""PopQA, Google-RE, ConceptNet, BEAR and KAMEL: what is read of them, and how they are told apart."""

from __future__ import annotations

import json

import pytest

from kndb import facts
from kndb.errors import InputError, UsageError
from kndb.records.facts import FactRecord, TemplateRecord

LABELS = {"sub_label": "Sweden", "obj_label": "Stockholm"}
POPQA_HEADER = (
    "id\tsubj\tprop\tobj\tsubj_id\tprop_id\tobj_id\ts_aliases\to_aliases\ts_uri\to_uri\ts_wiki_title\to_wiki_title\t"
    "s_pop\to_pop\tquestion\tpossible_answers\n"
)


def popqa_row(number, subject, prop, answer, question, answers):
    cell = json.dumps(answers).replace('"', '""')
    return f'{number}\t{subject}\t{prop}\t{answer}\t1\t2\t3\t[]\t[]\tu\tu\tt\tt\t9\t9\t{question}\t"{cell}"\n'


# --- PopQA ------------------------------------------------------------------------------------------------------


def test_popqa(write):
    text = POPQA_HEADER
    text += popqa_row(7, "Sweden", "capital", "Stockholm", "What is the capital of Sweden?", ["Stockholm", "Sthlm"])
    text += popqa_row(8, "Norway", "capital", "Oslo", "What is the capital of Norway?", ["Oslo"])
    (file,) = facts.read(write("popQA.tsv", text))
    assert file.relations == {"capital": None}
    assert file.templates == (TemplateRecord("capital", "What is the capital of [X]? [Y]"),)
    assert file.facts == (
        FactRecord("capital", "Sweden", "Stockholm", "popqa-7"),
        FactRecord("capital", "Sweden", "Sthlm"),
        FactRecord("capital", "Norway", "Oslo", "popqa-8"),
    )


@pytest.mark.parametrize("question", ["Whose capital is it?", "Is Sweden the Sweden of the north?"])
def test_a_question_that_does_not_name_the_subject_once_belongs_to_its_facts(write, question):
    text = POPQA_HEADER + popqa_row(7, "Sweden", "capital", "Stockholm", question, ["Stockholm", "Sthlm"])
    (file,) = facts.read(write("popQA.tsv", text))
    assert file.templates == ()
    assert [(fact.object, fact.prompts) for fact in file.facts] == [
        ("Stockholm", (f"{question} [Y]",)),
        ("Sthlm", (f"{question} [Y]",)),
    ]


def test_popqa_that_is_cut_or_lacks_a_column(write):
    sound = popqa_row(7, "Sweden", "capital", "Stockholm", "What is the capital of Sweden?", ["Stockholm"])
    path = write("popQA.tsv", POPQA_HEADER + sound + "8\tNorway\tcapital")
    with pytest.raises(InputError, match=r"popQA\.tsv:3: it has 3 fields, and the header has 17"):
        facts.read(path)
    path = write("popQA.tsv", POPQA_HEADER.replace("\tquestion", "\tquery") + sound)
    with pytest.raises(
        InputError, match=r"popQA\.tsv:1: the header must have id, subj, prop, obj, question, possible_a"
    ):
        facts.read(path)
    path = write("popQA.tsv", POPQA_HEADER + sound.replace('"[""Stockholm""]"', "Stockholm"))
    with pytest.raises(InputError, match=r"popQA\.tsv:2: 'possible_answers' must be a JSON list of texts"):
        facts.read(path)


# --- Google-RE and ConceptNet -------------------------------------------------------------------------------------


def test_google_re(write):
    record = {
        "pred": "/location/country/capital_city", "sub": "/m/0d0vqn", "obj": "/m/06mxs", "evidences": [],
        "judgments": [], "sub_w": None, **LABELS, "obj_aliases": [], "uuid": "g-1",
        "masked_sentences": ["The capital of Sweden is [MASK] ."],
    }  # fmt: skip
    (file,) = facts.read(write("capital_test.jsonl", [record]))
    assert file.relations == {"/location/country/capital_city": "capital city"}
    assert file.templates == ()
    prompts = ("The capital of Sweden is [Y] .",)
    assert file.facts == (FactRecord("/location/country/capital_city", "Sweden", "Stockholm", "g-1", prompts),)


def test_conceptnet_whose_sentences_do_not_hold_the_subject(write):
    records = [
        {"masked_sentences": ["You cross a [MASK]."], "negated": "", "obj": "lake", "obj_label": "lake",
         "pred": "UsedFor", "sub": "boat", "sub_label": "boat", "uuid": "c-1"},
        {"masked_sentences": ["You row on a [MASK]."], "obj_label": "lake", "pred": "UsedFor", "sub": "oar",
         "uuid": "c-2"},
        {"masked_sentences": ["Swans like a [MASK]."], "obj_label": "lake", "pred": "Desires", "uuid": "c-3"},
    ]  # fmt: skip
    (file,) = facts.read(write("test.jsonl", records))
    assert file.relations == {"UsedFor": None, "Desires": None}
    assert [(fact.subject, fact.external_id, fact.prompts) for fact in file.facts] == [
        ("boat", "c-1", ("You cross a [Y].",)),
        ("oar", "c-2", ("You row on a [Y].",)),
        (None, "c-3", ("Swans like a [Y].",)),
    ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"masked_sentences": ["[MASK] is in [MASK]."]}, "has 2 [MASK]; it must have exactly one"),
        ({"masked_sentences": ["It is there."]}, "has no [MASK]; it must have exactly one"),
        ({"masked_sentences": []}, "'masked_sentences' is an empty list; it must have at least one text"),
        ({"masked_sentences": "[MASK]"}, "'masked_sentences' must be a list of texts (got text)"),
        ({"pred": None}, "'pred' must be text (got null)"),
        ({"sub": "/m/0d0vqn", "sub_label": None, "uuid": None}, "'sub_label' must be text (got null)"),
    ],
)
def test_masked_sentences_that_cannot_be_used(write, change, reason):
    record = {"pred": "UsedFor", **LABELS, "uuid": "u", "masked_sentences": ["It is [MASK]."]}
    path = write("test.jsonl", [record, {**record, **change}])
    with pytest.raises(InputError) as caught:
        facts.read(path)
    assert f"{path}:2: " in str(caught.value)
    assert reason in str(caught.value)
    assert len(facts.read(path, skip_invalid=True)[0].facts) == 1


# --- BEAR ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def bear(write, tmp_path):
    templates = {
        "templates": ["The capital of [X] is [Y].", "[Y] is the capital of [X]."],
        "answer_space_labels": ["Oslo"],
    }
    write("BEAR/metadata_relations.json", json.dumps({"P36": templates, "P37": {"templates": ["[X] speaks [Y]."]}}))
    rows = [
        {"sub_id": "Q34", **LABELS, "sub_aliases": ["SE"], "obj_id": "Q1754", "answer_idx": 0},
        {
            "sub_id": "Q20",
            "sub_label": "Norway",
            "sub_aliases": [],
            "obj_id": "Q585",
            "obj_label": "Oslo",
            "answer_idx": 1,
        },
    ]
    write("BEAR/P36.jsonl", rows)
    write("BEAR/P37.jsonl", [{**rows[0], "obj_label": "Swedish"}])
    write("README.md", "BEAR")
    return tmp_path


@pytest.mark.parametrize("place", [".", "BEAR"])
@pytest.mark.parametrize("input_format", ["auto", "bear"])
def test_bear(bear, place, input_format):
    metadata, capitals, languages = facts.read(bear / place, input_format)
    assert [(template.relation, template.text) for template in metadata.templates] == [
        ("P36", "The capital of [X] is [Y]."),
        ("P36", "[Y] is the capital of [X]."),
        ("P37", "[X] speaks [Y]."),
    ]
    assert capitals.facts == (
        FactRecord("P36", "Sweden", "Stockholm", "bear-P36-Q34"),
        FactRecord("P36", "Norway", "Oslo", "bear-P36-Q20"),
    )
    assert languages.facts == (FactRecord("P37", "Sweden", "Swedish", "bear-P37-Q34"),)


def test_one_file_of_bear_has_its_templates(bear):
    metadata, capitals = facts.read(bear / "BEAR/P36.jsonl")
    assert set(metadata.relations) == {"P36"}
    assert len(capitals.facts) == 2


def test_two_copies_of_bear(bear, write):
    write("BEAR-big/metadata_relations.json", "{}")
    with pytest.raises(InputError, match=r"several folders have a metadata_relations\.json \(.*BEAR.*BEAR-big\)"):
        facts.read(bear)


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ('{"P36": {"templates": ["[X]"]}}', r"metadata_relations\.json:1: the template '\[X\]' has no \[Y\]"),
        ('{"P36": {"templates": []}}', r":1: 'templates' is an empty list"),
        ('{"P36": []}', r":1: 'P36' must be an object \(got a list\)"),
        ("[]", r"it must be a JSON object from each relation to its templates.* \(got a list\)"),
        ("{", r"metadata_relations\.json:1: not valid JSON"),
    ],
)
def test_bear_whose_metadata_are_broken(bear, write, metadata, reason):
    write("BEAR/metadata_relations.json", metadata)
    with pytest.raises(InputError, match=reason):
        facts.read(bear)


# --- KAMEL --------------------------------------------------------------------------------------------------------


@pytest.fixture
def kamel(write, tmp_path):
    write("question-templates.csv", "P36, What is the capital of [S]?\nP37, What does [S] speak?")
    capitals = {"index": [1, 2, 3], "sub_label": "South Africa", "obj_label": ["Pretoria", "Cape Town", "Bloemfontein"]}
    write("data/KAMEL/P36/train.jsonl", [{"index": [4], "sub_label": "Sweden", "obj_label": ["Stockholm"]}])
    write("data/KAMEL/P36/dev.jsonl", [capitals])
    write("data/KAMEL/P37/test.jsonl", [{"index": [9], "sub_label": "Sweden", "obj_label": ["Swedish"]}])
    return tmp_path


@pytest.mark.parametrize("place", [".", "data", "data/KAMEL"])
@pytest.mark.parametrize("input_format", ["auto", "kamel"])
def test_kamel(kamel, place, input_format):
    questions, dev, train, test = facts.read(kamel / place, input_format)
    assert [(template.relation, template.text) for template in questions.templates] == [
        ("P36", "What is the capital of [X]? [Y]"),
        ("P37", "What does [X] speak? [Y]"),
    ]
    assert dev.facts == (
        FactRecord("P36", "South Africa", "Pretoria", "kamel-P36-1"),
        FactRecord("P36", "South Africa", "Cape Town", "kamel-P36-2"),
        FactRecord("P36", "South Africa", "Bloemfontein", "kamel-P36-3"),
    )
    assert train.facts == (FactRecord("P36", "Sweden", "Stockholm", "kamel-P36-4"),)
    assert test.facts == (FactRecord("P37", "Sweden", "Swedish", "kamel-P37-9"),)


@pytest.mark.parametrize("place", ["data/KAMEL/P37", "data/KAMEL/P37/test.jsonl"])
def test_one_relation_of_kamel(kamel, place):
    questions, test = facts.read(kamel / place)
    assert questions.relations == {"P37": None}
    assert len(test.facts) == 1


def test_a_file_of_kamel_in_no_folder_of_a_relation(kamel, write):
    path = write("dev.jsonl", [{"index": [1], "sub_label": "Sweden", "obj_label": ["Stockholm"]}])
    with pytest.raises(InputError, match=r"dev\.jsonl: KAMEL's facts name no relation; the file must lie in a folder"):
        facts.read(path)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("P36, Which?", r"question-templates\.csv:1: the question 'Which\?' has no \[S\]"),
        ("P36, a, b [S]?", r":1: a line must be a relation, a comma and a question with \[S\] \(got 3 fields\)"),
        ('P36, "[S]', r":1: not valid CSV"),
    ],
)
def test_questions_that_cannot_be_used(kamel, write, line, reason):
    write("question-templates.csv", line)
    with pytest.raises(InputError, match=reason):
        facts.read(kamel)


# --- telling them apart -------------------------------------------------------------------------------------------

ALIKE = {
    "lama": {**LABELS, "predicate_id": "P36", "sub_uri": "Q34", "obj_uri": "Q1754", "uuid": "u"},
    "lama-sentences": {**LABELS, "pred": "capital", "sub": "x", "uuid": "u", "masked_sentences": ["It is [MASK]."]},
    "bear": {**LABELS, "sub_id": "Q34", "sub_aliases": [], "obj_id": "Q1754", "answer_idx": 0},
    "kamel": {"sub_label": "Sweden", "index": [1], "obj_label": ["Stockholm"]},
}


@pytest.mark.parametrize("name", ALIKE)
def test_files_that_look_alike_are_told_apart(write, name):
    path = write("P36/P36.jsonl", [ALIKE[name]])
    assert facts.read(path) == facts.read(path, name)


@pytest.mark.parametrize(
    ("record", "who"),
    [
        ({**LABELS, "uuid": "u"}, "ParaRel has patterns and facts in two files"),
        ({**LABELS, "sub_uri": "Q34", "obj_uri": "Q1754", "lineid": 1}, "templates and facts are in several"),
        ({"pattern": "[X]: [Y]", "lemma": "be"}, "ParaRel has patterns and facts in two files"),
        ({"pattern": "[X]: [Y]", "checked-by-human": True}, "templates and facts are in several"),
    ],
)
def test_a_half_of_a_list_is_refused(write, record, who):
    with pytest.raises(InputError, match=who):
        facts.read(write("P36.jsonl", [record]))


def test_languages_of_lists_that_have_none(bear):
    with pytest.raises(
        UsageError, match=r"languages=\['de'\] is for lists that are sorted by language \(mlama and mpararel\)"
    ):
        facts.read(bear, languages=["de"])
