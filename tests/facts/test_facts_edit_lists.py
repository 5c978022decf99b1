"""Lists of edits: what each format's fields become, and what is rejected."""

from __future__ import annotations

import copy
import json
import os
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kndb import facts
from kndb.errors import InputError
from kndb.facts.edit_lists import answers, worded
from kndb.facts.ripple_edits import _subject
from kndb.records.facts import (
    EvaluationPrompt,
    FactRecord,
    NeededAnswer,
    NeededEdit,
    RequestedEdit,
    TemplateRecord,
)

ZSRE = {
    "subject": "Lake Vänern",
    "src": "Which country is Lake Vänern in?",
    "pred": "Norway",
    "rephrase": "In what country does Lake Vänern lie?",
    "alt": "Finland",
    "answers": ["Sweden", "Kingdom of Sweden"],
    "loc": "nq question: what is the longest river of france",
    "loc_ans": "Loire",
    "cond": "Norway >> Finland || Which country is Lake Vänern in?",
}
KNOWEDIT = {
    "subject": "Lake Vänern",
    "prompt": "The country of Lake Vänern is",
    "target_new": "Norway",
    "ground_truth": ["Sweden"],
    "rephrase_prompt": "Which country is Lake Vänern in?",
    "portability": {
        "Subject_Aliasing": [{"prompt": "The country of Väner is", "ground_truth": [["Norway", "Norge"]]}],
        "Reasoning": [
            {"prompt": ["Its capital is", "Its king is"], "ground_truth": [["Oslo"], ["Harald", "Harald V"]]}
        ],
    },
    "locality": {
        "Relation_Specificity": [{"prompt": "The outflow of Lake Vänern is", "ground_truth": "Göta älv"}],
        "Forgetfulness": [{"prompt": "The country of Lake Vänern, not Norway, is", "ground_truth": ["Sweden"]}],
    },
}
EASYEDIT = {
    "case_id": 7,
    "subject": "Sweden",
    "prompt": "The capital of Sweden is",
    "target_new": "Oslo",
    "ground_truth": "Stockholm",
    "rephrase_prompt": "Sweden's seat of government is in",
    "locality_prompt": "The currency of Sweden is the",
    "locality_ground_truth": "krona",
}


def rewrite(subject, prompt, relation, old, new, question):
    return {
        "prompt": prompt,
        "relation_id": relation,
        "subject": subject,
        "target_true": {"str": old, "id": "Q1"},
        "target_new": {"str": new, "id": "Q2"},
        "question": question,
    }


MQUAKE = {
    "case_id": 3,
    "requested_rewrite": [
        rewrite("Uppsala", "{} is in", "P17", "Sweden", "Norway", "In which country is Uppsala?"),
        rewrite("Norway", "The capital of {} is", "P36", "Oslo", "Bergen", "What is the capital of Norway?"),
    ],
    "questions": ["What is the capital of Uppsala's country?"],
    "answer": "Stockholm",
    "answer_alias": [],
    "new_answer": "Bergen",
    "new_answer_alias": ["Bjørgvin"],
    "single_hops": [
        {"question": "In which country is Uppsala?", "cloze": "Uppsala is in", "answer": "Sweden", "answer_alias": []},
        {
            "question": "Sweden's capital?",
            "cloze": "Sweden's capital is",
            "answer": "Stockholm",
            "answer_alias": ["S."],
        },
    ],
    "new_single_hops": [
        {"question": "In which country is Uppsala?", "cloze": "Uppsala is in", "answer": "Norway", "answer_alias": []},
        {"question": "Norway's capital?", "cloze": "The capital of Norway is", "answer": "Bergen", "answer_alias": []},
    ],
}


def query(prompt, *answers, target_ids=("Q9",)):
    return {
        "prompt": prompt,
        "answers": [{"value": answer, "aliases": [f"{answer}!"]} for answer in answers],
        "query_type": "regular",
        "subject_id": "Q34",
        "relation": "CURRENCY",
        "target_ids": list(target_ids),
        "phrase": None,
    }


def sentence(text, target):
    return {"prompt": text, "subject_id": "Q34", "relation": "CAPITAL", "target_id": target}


RIPPLE = {
    "example_type": "popular",
    "edit": {
        **sentence("The name of the capital city of Sweden is New Aros.", "Q2"),
        "original_fact": sentence("The name of the capital city of Sweden is New Holm.", "Q1"),
    },
    "Relation_Specificity": [
        {
            "test_queries": [query("The name of the currency of Sweden is", "krona")],
            "test_condition": "OR",
            "condition_queries": [query("The name of the currency of Sweden is", "krona")],
        }
    ],
    "Logical_Generalization": [],
    "Subject_Aliasing": [
        {"test_queries": [query("Sverige's capital is", "New Aros", target_ids=["Q2"])], "condition_queries": []}
    ],
    "Compositionality_I": [],
    "Compositionality_II": [],
    "Forgetfulness": [],
}


def read(write_json, record, expected):
    path = write_json("list.json", [record])
    (file,) = facts.read(path)
    assert file == facts.read(path, expected)[0]
    assert not file.rejected
    return file


def variant(record, **changed):
    """The record with some fields set, or removed where the value is `...`."""
    return {name: value for name, value in {**copy.deepcopy(record), **changed}.items() if value is not ...}


# --- relations that no list names -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "subject", "relation", "template"),
    [
        ("The capital of Sweden is", "Sweden", "The capital of [X] is", "The capital of [X] is [Y]"),
        ("Who is Ada's father?", "Ada", "Who is [X]'s father?", "Who is [X]'s father? [Y]"),
        ("Where is it?", "Sweden", "Where is it?", None),
        ("Is Rome in Rome?", "Rome", "Is Rome in Rome?", None),
        ("Which console is old?", "Sol", "Which console is old?", None),
        ("Is Rome Roman?", "Rome", "Is [X] Roman?", "Is [X] Roman? [Y]"),
        ("Is Rom Roman?", "Rom", "Is Rom Roman?", None),
        ("瑞典的首都是", "瑞典", "[X]的首都是", "[X]的首都是 [Y]"),
    ],
)
def test_a_relation_is_the_prompt_with_the_subjects_place(prompt, subject, relation, template):
    found = worded(prompt, subject)
    assert (found.relation, found.template, found.prompt) == (relation, template, f"{prompt} [Y]")
    if template is not None:
        assert facts.fill(template, subject) == found.prompt


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a", ("a",)),
        (["a", "b", "a"], ("a", "b")),
        ([["a", "b"], ["c"], [None, ""]], ("a", "b", "c")),
        (None, ()),
        ([], ()),
    ],
)
def test_answers_are_texts_or_lists_of_them(value, expected):
    assert answers(value, "ground_truth") == expected


def test_a_prompt_that_is_none_of_its_subject_is_written_out_and_no_template(write_json):
    file = read(write_json, variant(ZSRE, src="Which country is it in?"), "zsre")
    assert file.templates == ()
    assert file.facts[0].relation == "Which country is it in?"
    assert file.facts[0].prompts == ("Which country is it in? [Y]",)


# --- zsRE -----------------------------------------------------------------------------------------------


def test_zsre(write_json):
    file = read(write_json, ZSRE, "zsre")
    assert file.facts == (
        FactRecord(
            "Which country is [X] in?",
            "Lake Vänern",
            "Sweden",
            None,
            ("Which country is Lake Vänern in? [Y]",),
            (
                EvaluationPrompt("paraphrase", "rephrase", "In what country does Lake Vänern lie? [Y]"),
                EvaluationPrompt("locality", "loc", "nq question: what is the longest river of france [Y]", ("Loire",)),
            ),
            RequestedEdit(1, {"alt": "Finland", "answers": "Sweden"}),
        ),
    )
    assert file.templates == (TemplateRecord("Which country is [X] in?", "Which country is [X] in? [Y]"),)
    assert "Norway" not in repr(file)


def test_zsre_with_a_question_of_what_follows(write_json):
    follows = {"Recalled Relation": "(Finland, capital, Helsinki)", "New Question": "Its capital?", "New Answer": "H."}
    file = read(write_json, variant(ZSRE, portability=follows), "zsre")
    assert file.facts[0].evaluation[-1] == EvaluationPrompt(
        "portability", "New Question", "Its capital? [Y]", ("H.",), "Finland"
    )


def test_zsre_without_alt_has_one_new_answer(write_json):
    assert read(write_json, variant(ZSRE, alt=...), "zsre").facts[0].edit.answers == {"answers": "Sweden"}


# --- EasyEdit and KnowEdit ------------------------------------------------------------------------------


def test_easyedit(write_json):
    (fact,) = read(write_json, EASYEDIT, "easyedit").facts
    assert (fact.relation, fact.subject, fact.object) == ("The capital of [X] is", "Sweden", "Stockholm")
    assert (fact.external_id, fact.edit) == ("easyedit-7", RequestedEdit(1, {"target_new": "Oslo"}))
    assert fact.evaluation == (
        EvaluationPrompt("paraphrase", "rephrase_prompt", "Sweden's seat of government is in [Y]"),
        EvaluationPrompt("locality", "locality_prompt", "The currency of Sweden is the [Y]", ("krona",)),
    )


def test_knowedit(write_json):
    (fact,) = read(write_json, KNOWEDIT, "knowedit").facts
    assert (fact.object, fact.external_id) == ("Sweden", None)
    assert fact.evaluation == (
        EvaluationPrompt("paraphrase", "rephrase_prompt", "Which country is Lake Vänern in? [Y]"),
        EvaluationPrompt(
            "portability", "Subject_Aliasing", "The country of Väner is [Y]", ("Norway", "Norge"), "Norway"
        ),
        EvaluationPrompt("portability", "Reasoning", "Its capital is [Y]", ("Oslo",), "Norway"),
        EvaluationPrompt("portability", "Reasoning", "Its king is [Y]", ("Harald", "Harald V"), "Norway"),
        EvaluationPrompt("locality", "Relation_Specificity", "The outflow of Lake Vänern is [Y]", ("Göta älv",)),
        EvaluationPrompt(
            "locality", "Forgetfulness", "The country of Lake Vänern, not Norway, is [Y]", ("Sweden",), "Norway"
        ),
    )


def test_knowedit_of_new_facts_has_them_as_facts(write_json):
    (fact,) = read(write_json, variant(KNOWEDIT, ground_truth=...), "knowedit").facts
    assert (fact.object, fact.edit.answers) == ("Norway", {"target_new": "Norway"})


def test_wikibio_is_refused_with_the_reason(write_json):
    record = {"text": "A passage.", "labels": "A sentence.", "concept": "ada", "locality": {}}
    with pytest.raises(InputError, match=r":1: this is a record of WikiBio"):
        facts.read(write_json("list.json", [record]))


# --- MQuAKE ---------------------------------------------------------------------------------------------


def test_mquake(write_json):
    file = read(write_json, MQUAKE, "mquake")
    uppsala, norway = file.facts
    assert (uppsala.relation, uppsala.object, uppsala.external_id) == ("P17", "Sweden", "mquake-3-1")
    assert (norway.relation, norway.object, norway.external_id) == ("P36", "Oslo", "mquake-3-2")
    assert [fact.edit for fact in file.facts] == [
        RequestedEdit(1, {"target_new": "Norway"}),
        RequestedEdit(1, {"target_new": "Bergen"}),
    ]
    needs = (NeededEdit("P36", "Norway", "Bergen"),)
    right = ("Bergen", "Bjørgvin")
    assert uppsala.evaluation == (
        EvaluationPrompt("paraphrase", "question", "In which country is Uppsala? [Y]"),
        EvaluationPrompt(
            "portability", "questions", "What is the capital of Uppsala's country? [Y]", right, "Norway", needs
        ),
        EvaluationPrompt("portability", "new_single_hops", "Norway's capital? [Y]", ("Bergen",), "Norway", needs),
        EvaluationPrompt("locality", "single_hops", "Sweden's capital? [Y]", ("Stockholm", "S.")),
        EvaluationPrompt("locality", "single_hops", "Sweden's capital is [Y]", ("Stockholm", "S.")),
    )
    assert norway.evaluation[1].needs_edits == (NeededEdit("P17", "Uppsala", "Norway"),)
    assert file.templates == (
        TemplateRecord("P17", "[X] is in [Y]"),
        TemplateRecord("P36", "The capital of [X] is [Y]"),
    )


def test_a_case_of_mquake_with_a_bad_edit_adds_nothing(write_json):
    bad = copy.deepcopy(MQUAKE)
    del bad["requested_rewrite"][1]["target_new"]
    (file,) = facts.read(write_json("list.json", [bad, MQUAKE]), skip_invalid=True)
    assert [line.line for line in file.rejected] == [1]
    assert len(file.facts) == 2


# --- RippleEdits ----------------------------------------------------------------------------------------


def test_ripple_edits(write_json):
    file = read(write_json, RIPPLE, "ripple-edits")
    (fact,) = file.facts
    # Both objects begin with New: the sentence ends with its verb.
    assert (fact.relation, fact.subject, fact.object) == ("CAPITAL", "Sweden", "New Holm")
    assert fact.edit == RequestedEdit(1, {"target": "New Aros"})
    assert file.templates == (TemplateRecord("CAPITAL", "The name of the capital city of [X] is [Y]"),)
    currency = "The name of the currency of Sweden is [Y]"
    assert fact.evaluation == (
        EvaluationPrompt(
            "locality",
            "Relation_Specificity",
            currency,
            ("krona", "krona!"),
            needs_answers=(NeededAnswer(currency, ("krona", "krona!")),),
        ),
        EvaluationPrompt(
            "portability", "Subject_Aliasing", "Sverige's capital is [Y]", ("New Aros", "New Aros!"), "New Aros"
        ),
    )


def test_ripple_edits_of_new_facts_have_their_target_from_a_test(write_json):
    record = copy.deepcopy(RIPPLE)
    del record["edit"]["original_fact"]
    (fact,) = read(write_json, record, "ripple-edits").facts
    assert (fact.subject, fact.object, fact.edit.answers) == ("Sweden", "New Aros", {"target": "New Aros"})
    record["Subject_Aliasing"] = []
    with pytest.raises(InputError, match="no fact from before, and no test names its target"):
        facts.read(write_json("list.json", [record]))


@pytest.mark.parametrize(
    ("begin", "relation", "subject"),
    [
        ("The name of the country of citizenship of Ada of Rome is", "COUNTRY_OF_CITIZENSHIP", "Ada of Rome"),
        ("The gender of Ada is", "SEX_OR_GENDER", "Ada"),
        ("The names of the siblings of Ada are", "SIBLING", "Ada"),
        ("Part II is followed by", "FOLLOWED_BY", "Part II"),
        ("The name of the country which Rome is associated with is", "COUNTRY", "Rome"),
        ("The name of the currency in Rome is", "CURRENCY", "Rome"),
        ("The eye colour of Ada", "EYE_COLOR", None),
    ],
)
def test_subjects_of_ripple_edits_are_read_where_the_form_leaves_no_doubt(begin, relation, subject):
    assert _subject(begin, relation) == subject


def test_ripple_edits_without_a_subject_are_written_out(write_json):
    record = copy.deepcopy(RIPPLE)
    for edit in (record["edit"], record["edit"]["original_fact"]):
        edit["prompt"] = edit["prompt"].replace("The name of the capital city of Sweden", "Sweden's seat")
    file = read(write_json, record, "ripple-edits")
    (fact,) = file.facts
    assert (fact.subject, fact.object, fact.prompts) == (None, "New Holm", ("Sweden's seat is [Y]",))
    assert fact.external_id == "ripple-edits-Q34-CAPITAL-Q1"
    assert file.templates == ()


# --- what is rejected -----------------------------------------------------------------------------------

BAD = [
    (variant(ZSRE, answers=[]), "'answers' is missing or empty; it must be a list of texts"),
    (variant(ZSRE, subject=3), "'subject' must be text (got a number)"),
    (variant(ZSRE, src="Is [X] in?"), "the prompt 'Is [X] in?' has [X] in it"),
    (variant(ZSRE, portability=[]), "'portability' must be an object (got a list)"),
    (variant(KNOWEDIT, target_new=None), "'target_new' must be text (got null)"),
    (variant(KNOWEDIT, portability={"a": ["text"]}), "'a' must be an object (got text)"),
    (variant(KNOWEDIT, ground_truth=[[["deep"]]]), "'ground_truth' must be text (got a list)"),
    (variant(MQUAKE, case_id=...), "'case_id' is missing; it must be a number"),
    (variant(MQUAKE, requested_rewrite=[]), "'requested_rewrite' is missing or empty; it must be a list of edits"),
    (variant(MQUAKE, requested_rewrite=[{}]), "the field 'subject' is missing"),
    (variant(MQUAKE, new_single_hops=["text"]), "'new_single_hops' must be an object (got text)"),
    (variant(RIPPLE, edit={}), "the field 'relation' is missing (given: no fields)"),
    (variant(RIPPLE, Forgetfulness={}), "'Forgetfulness' must be a list (got an object)"),
    (
        variant(RIPPLE, edit={**RIPPLE["edit"], "prompt": "Rome is Aros."}),
        "the sentences 'The name of the capital city of Sweden is New Holm' and 'Rome is Aros' don't differ just",
    ),
]


@pytest.mark.parametrize(("bad", "reason"), BAD, ids=[reason for _, reason in BAD])
def test_a_bad_record_is_rejected_by_its_number(write_json, bad, reason):
    with pytest.raises(InputError) as caught:
        facts.read(write_json("list.json", [bad]))
    assert f"list.json:1: {reason}" in str(caught.value)


SAMPLES = {"zsre": ZSRE, "knowedit": KNOWEDIT, "easyedit": EASYEDIT, "mquake": MQUAKE, "ripple-edits": RIPPLE}
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.text("a[XY]{} \0\ud800", max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["prompt", "str", "a"]), inner),
    max_leaves=6,
)


def damaged(record, data):
    """The record with something else at one place of it, however deep."""
    if isinstance(record, dict) and record and data.draw(st.booleans()):
        name = data.draw(st.sampled_from(sorted(record)))
        return {**record, name: damaged(record[name], data)}
    if isinstance(record, list) and record and data.draw(st.booleans()):
        place = data.draw(st.integers(0, len(record) - 1))
        return [*record[:place], damaged(record[place], data), *record[place + 1 :]]
    return data.draw(ANYTHING)


def test_empty_groups_of_knowedit_are_none(write_json):
    (empty,) = read(write_json, variant(KNOWEDIT, portability=[], locality=[]), "knowedit").facts
    (without,) = read(write_json, variant(KNOWEDIT, portability=None, locality=None), "knowedit").facts
    assert empty == without


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(SAMPLES)), st.data())
def test_whatever_stands_in_a_record_is_read_or_rejected(name, data):
    bad = damaged(SAMPLES[name], data)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "list.json")
        path.write_text(json.dumps([SAMPLES[name], bad]), encoding="utf-8")
        (file,) = facts.read(path, name, skip_invalid=True)
    assert {line.line for line in file.rejected} <= {2}
    for fact in file.facts:
        assert fact.edit.answers
        for prompt in fact.evaluation:
            assert prompt.text.count("[Y]") == 1
            assert prompt.text.encode("utf-8")


@pytest.mark.parametrize("record", SAMPLES.values(), ids=SAMPLES)
def test_as_json_lines_they_are_read_as_the_list_is(write, write_json, record):
    (lines,) = facts.read(write("list.jsonl", [record, record]))
    (whole,) = facts.read(write_json("list.json", [record, record]))
    assert (lines.facts, lines.templates, lines.rejected) == (whole.facts, whole.templates, whole.rejected)


def test_through_a_pipe_a_list_is_read_in_the_format_that_is_named(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_text, args=(json.dumps([ZSRE]),))
    writer.start()
    (file,) = facts.read(path, "zsre")
    writer.join()
    assert len(file.facts) == 1
