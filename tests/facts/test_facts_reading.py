"""`read` as a whole: the choice of format and of relations, and the errors it raises."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kndb import facts
from kndb.errors import InputError, UsageError

LINES = [
    {"relation": "P36", "relation_label": "capital", "subject": "Peru", "object": "Lima"},
    {"relation": "P36", "template": "[X]: [Y]"},
    {"relation": "P1376", "relation_label": "capital of", "subject": "Lima", "object": "Peru"},
    {"relation": "P30", "relation_label": "continent", "subject": "Peru", "object": "America"},
]


def test_formats():
    edit_lists = {"counterfact", "easyedit", "knowedit", "mquake", "ripple-edits", "zsre"}
    data_sets = {"bags", "bear", "kamel", "lama", "lama-sentences", "mlama", "mpararel", "pararel", "popqa"}
    assert edit_lists | data_sets | {"csv", "json", "jsonl"} == set(facts.FORMATS[1:])
    assert ("auto", *sorted(facts.FORMATS[1:])) == facts.FORMATS


def test_unknown_format(write):
    with pytest.raises(UsageError, match=r"input_format must be one of auto, bags, .*got 'xml'"):
        facts.read(write("facts.jsonl", LINES), "xml")


def test_missing_path(tmp_path):
    with pytest.raises(InputError, match=r"absent: there is no such file or folder"):
        facts.read(tmp_path / "absent")


@pytest.mark.parametrize(
    ("content", "input_format", "name"),
    [
        (json.dumps(LINES[0]), "jsonl", "facts.txt"),
        ("relation,subject,object\nP36,Peru,Lima\n", "csv", "facts.txt"),
        ('"subject","relation","object"\nPeru,P36,Lima\n', "csv", "facts"),
        ('[[["[MASK] is big", "Rome", "P1(x)"]]]', "bags", "data.txt"),
    ],
)
def test_content_decides_and_not_the_name(write, content, input_format, name):
    path = write(name, content)
    found = facts.read(path)
    assert len(found[0].facts) == 1
    assert found == facts.read(path, input_format)


def test_a_broken_first_line_does_not_hide_the_format(write):
    path = write("facts.txt", '{"relation": \n' + json.dumps(LINES[0]))
    with pytest.raises(InputError, match=r":1: not valid JSON"):
        facts.read(path)


@pytest.mark.parametrize(
    ("name", "content", "seen"),
    [
        ("a.txt", "Lorem ipsum", "text that begins 'Lorem ipsum'"),
        ("a.json", "", "nothing"),
        ("a.jsonl", '{"src": "q", "alt": "a"}\n', "JSON objects with the fields alt, src"),
        ("a.json", '[{"src": "q", "alt": "a"}]', "a JSON list of objects with the fields src, alt"),
        ("a.json", "[]", "JSON that begins '[]'"),
        ("a.json", "{\n", "no line with a JSON object"),
    ],
)
def test_failed_detection_says_what_was_seen_and_tried(write, name, content, seen):
    path = write(name, content)
    with pytest.raises(InputError) as caught:
        facts.read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: it holds {seen}. That is none of the formats that are read: own lists (csv, ")
    assert all(name in message for name in facts.FORMATS[1:])
    assert message.endswith("What each looks like: kndb.page_text('formats')")


@pytest.mark.parametrize("names", [[], ["README.md", "list.json"]])
def test_folder_with_nothing_readable(write, tmp_path, names):
    (tmp_path / "empty").mkdir()
    for name in names:
        write(f"empty/{name}", "text")
    seen = ", ".join(names) or "nothing"
    with pytest.raises(InputError, match=rf"empty: it holds {seen}\. That is none"):
        facts.read(tmp_path / "empty")


@pytest.mark.parametrize("input_format", ["bags", "counterfact"])
def test_folder_for_a_format_of_one_file(tmp_path, input_format):
    with pytest.raises(InputError, match=rf"this is a folder, and {input_format} is one file"):
        facts.read(tmp_path, input_format)


def test_folder_without_files_of_the_format(write, tmp_path):
    write("facts.jsonl", LINES)
    with pytest.raises(InputError, match=r"there is no file whose name ends in \.csv or \.tsv in this folder"):
        facts.read(tmp_path, "csv")


def test_folder_with_lama_and_pararel_below(write, tmp_path):
    write("TREx/P36.jsonl", [{"predicate_id": "P36", "sub_label": "Peru", "obj_label": "Lima", "uuid": "u"}])
    write("p/graphs_json/P36.jsonl", [{"pattern": "[X]: [Y]", "lemma": "x"}])
    with pytest.raises(InputError, match="lama and pararel are both in this folder; give the folder of one of them"):
        facts.read(tmp_path)


def test_folder_with_three_data_sets_below(write, tmp_path):
    write("TREx/P36.jsonl", [{"predicate_id": "P36", "sub_label": "Peru", "obj_label": "Lima", "uuid": "u"}])
    write("p/graphs_json/P36.jsonl", [{"pattern": "[X]: [Y]", "lemma": "x"}])
    write("BEAR/metadata_relations.json", "{}")
    write("BEAR/P36.jsonl", [{"sub_label": "Peru"}])
    with pytest.raises(InputError, match="lama, bear and pararel are all in this folder; give the folder of one of"):
        facts.read(tmp_path)


def test_json_files_beside_own_lists_are_named(write, tmp_path):
    write("facts.jsonl", LINES)
    assert facts.passed_over(tmp_path) == []
    path = write("more.json", "[]")
    write("below/other.json", "[]")
    assert facts.passed_over(tmp_path) == [path]
    assert facts.passed_over(path) == facts.passed_over(tmp_path, "jsonl") == []


def test_own_lists_are_not_hidden_by_a_data_set_below(write, tmp_path):
    write(
        "TREx/P36.jsonl",
        [{"predicate_id": "P36", "sub_label": "Chad", "obj_label": "N'Djamena", "uuid": "u"}],
    )
    write("facts.jsonl", LINES)
    assert [fact.subject for file in facts.read(tmp_path) for fact in file.facts] == ["Peru", "Lima", "Peru"]


@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff"])
def test_file_without_any_fact(write, content):
    with pytest.raises(InputError, match="there is no fact and no template in it"):
        facts.read(write("facts.jsonl", content))


def test_choice_of_relations(write):
    (file,) = facts.read(write("facts.jsonl", LINES), relations=["P36", "P30"])
    assert file.relations == {"P36": "capital", "P30": "continent"}
    assert [fact.relation for fact in file.facts] == ["P36", "P30"]
    assert len(file.templates) == 1


def test_files_of_other_relations_are_left_out_with_their_bad_lines(write, tmp_path):
    write("a.jsonl", LINES[:1])
    write("b.jsonl", [LINES[3], {"relation": "P30"}])
    assert len(facts.read(tmp_path, relations=["P36"])) == 1
    with pytest.raises(InputError, match=r"b\.jsonl:2: "):
        facts.read(tmp_path, relations=["P30"])


@pytest.mark.parametrize(
    ("wanted", "nearest"),
    [("P3", "P30 (continent), P36 (capital)"), ("Capital", "P36 (capital), P1376 (capital of)")],
)
def test_unknown_relation_names_the_nearest(write, wanted, nearest):
    path = write("facts.jsonl", LINES)
    with pytest.raises(InputError) as caught:
        facts.read(path, relations=["P36", wanted])
    assert str(caught.value).startswith(f"relations=[{wanted!r}]: {path} does not have this relation; ")
    assert f"the nearest there: {nearest}" in str(caught.value)


def test_a_relation_whose_only_line_is_bad_is_not_called_unknown(write):
    path = write("facts.jsonl", [*LINES, {"relation": "P50", "subject": "Emma"}])
    with pytest.raises(InputError, match=r":5: the field 'object' is missing \(given: relation, subject\)"):
        facts.read(path, relations=["P50"])


@pytest.mark.parametrize(("count", "further"), [(1, ""), (2, " 1 further line can't"), (4, " 3 further lines can't")])
def test_the_error_counts_all_bad_lines_and_carries_them(write, count, further):
    path = write("facts.jsonl", [LINES[0], *[{"relation": "P36", "subject": ""}] * count])
    with pytest.raises(InputError) as caught:
        facts.read(path)
    message = str(caught.value)
    first = f"{path}:2: 'subject' is empty; it must be text."
    used = f"{further} be used either." if further else ""
    assert message == f"{first}{used} To skip such lines, give skip_invalid=True"
    assert [line.line for line in caught.value.rejected] == list(range(2, 2 + count))


def test_a_file_of_bad_lines_only_comes_back_with_all_of_them(write):
    (file,) = facts.read(write("facts.jsonl", [{"relation": ""}] * 3), skip_invalid=True)
    assert (len(file.facts), len(file.rejected), file.relations) == (0, 3, {})


def test_names_of_relations_are_shared_by_nothing_but_the_file(write):
    path = write("facts.jsonl", LINES)
    (file,) = facts.read(path)
    named = {fact.relation for fact in file.facts} | {template.relation for template in file.templates}
    assert named == set(file.relations)


SOUND = {
    "jsonl": json.dumps(LINES[0]) + "\n" + json.dumps(LINES[1]) + "\n",
    "csv": 'relation,subject,object,template\nP36,"Peru, or ""so""",Lima,\nP36,,,[X]: [Y]\n',
    "lama": json.dumps({"predicate_id": "P36", "sub_label": "Peru", "obj_label": "Lima", "uuid": "u"}),
    "bags": json.dumps([[["[MASK] is big", "Rome", "P1(x)"]]]),
    "counterfact": json.dumps(
        [
            {
                "case_id": 1,
                "requested_rewrite": {
                    "prompt": "{} is in",
                    "relation_id": "P17",
                    "subject": "Rome",
                    "target_true": {"str": "Italy"},
                },
                "paraphrase_prompts": ["Rome lies in"],
            }
        ]
    ),
}


def outcome(path, input_format, skip_invalid):
    """What `read` returns, or the message of its InputError; any other error passes."""
    try:
        return facts.read(path, input_format, skip_invalid=skip_invalid), None
    except InputError as error:
        return [], str(error)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    input_format=st.sampled_from(sorted(SOUND)),
    auto=st.booleans(),
    place=st.floats(0, 1),
    removed=st.integers(0, 12),
    inserted=st.binary(max_size=6) | st.sampled_from([b'"', b"[Y]", b"null", b"\n", b"[", b"{}", b"\x1f\x8b"]),
)
def test_damage_anywhere_gives_facts_or_an_input_error(tmp_path, input_format, auto, place, removed, inserted):
    data = SOUND[input_format].encode()
    start = round(place * len(data))
    path = tmp_path / "list"
    path.write_bytes(data[:start] + inserted + data[start + removed :])
    for skip_invalid in (False, True):
        files, message = outcome(path, "auto" if auto else input_format, skip_invalid)
        assert message is None or str(path) in message
        for file in files:
            assert skip_invalid or not file.rejected
            for template in file.templates:
                assert (template.text.count("[X]"), template.text.count("[Y]")) == (1, 1)
            for fact in file.facts:
                assert fact.object.strip() == fact.object != ""
                assert all(prompt.count("[Y]") == 1 for prompt in fact.prompts)


@pytest.mark.parametrize("input_format", sorted(SOUND))
def test_the_undamaged_lists_are_sound(write, input_format):
    path = write("list", SOUND[input_format])
    files = facts.read(path)
    assert files == facts.read(path, input_format)
    assert sum(len(file.facts) for file in files) == 1


def test_bad_lines_of_a_file_without_any_sound_relation_are_not_lost(write, tmp_path):
    write("a.jsonl", LINES[:1])
    write("b.jsonl", [{"relation": "P36", "subject": ""}])
    with pytest.raises(InputError, match=r"b\.jsonl:1: 'subject' is empty"):
        facts.read(tmp_path, relations=["P36"])
