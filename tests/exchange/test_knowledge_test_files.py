"""Files of knowledge tests: what they may hold, and what is said of those that hold something else; JUnit's XML."""

from __future__ import annotations

import gzip
import json
from contextlib import suppress
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kndb.errors import InputError, OutputError, UsageError
from kndb.exchange import junit, knowledge_tests
from kndb.records.knowledge_tests import (
    ERROR,
    FAILED,
    PASSED,
    KnowledgeOutcome,
    KnowledgeRun,
    KnowledgeTest,
    PromptOutcome,
    as_fields,
    chosen_tests,
    require_distinct,
)

EVERYTHING = [
    KnowledgeTest("a", "The capital of France is [Y].", answers=("Paris",), refused=("Lyon", "Nice"), probability=0.5),
    KnowledgeTest("b", fact=3, prompts="held-out"),
    KnowledgeTest("c", relation="P36", subject="Italy", answers=("Rome", "Roma"), above=("Milan",), note="why not"),
    KnowledgeTest("line 4", "The capital of Spain is ", refused=("Lisbon",)),
]


def written(tmp_path, text, name="tests.jsonl"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_what_is_written_is_read_again(tmp_path):
    path = tmp_path / "tests.jsonl"
    knowledge_tests.write(path, EVERYTHING)
    assert knowledge_tests.read(path, None) == EVERYTHING
    packed = tmp_path / "tests.jsonl.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert knowledge_tests.read(packed, None) == EVERYTHING


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_holds_the_same(tmp_path, delimiter):
    rows = [list(knowledge_tests.FIELDS)]
    for test in EVERYTHING:
        fields = as_fields(test)
        cells = [fields.get(name, "") for name in knowledge_tests.FIELDS]
        rows.append([json.dumps(cell) if isinstance(cell, list) else str(cell) for cell in cells])
    quoted = [['"' + cell.replace('"', '""') + '"' for cell in row] for row in rows]
    path = written(tmp_path, "".join(delimiter.join(row) + "\r\n" for row in quoted), "tests.csv")
    assert knowledge_tests.read(path, delimiter) == EVERYTHING


def test_a_test_without_a_name_is_called_by_its_line(tmp_path):
    path = written(tmp_path, '\n{"fact": 1}\n\n{"fact": 2, "name": null}\n')
    assert [one.name for one in knowledge_tests.read(path, None)] == ["line 2", "line 4"]


BAD_LINES = {
    '{"prompt": "A [Y]"}': "'answer' is missing",
    '{"answer": "B"}': "'prompt' is missing",
    '{"relation": "P36", "answer": "B"}': "'prompt' is missing",
    '{"prompt": "A [Y] [MASK]", "answer": "B"}': "'prompt' has 2 blanks",
    '{"prompt": " ", "answer": "B"}': "'prompt' is empty",
    '{"prompt": "A [Y]", "answr": "B"}': "'answr' is no field of a test; did you mean 'answer'?",
    '{"prompt": "A [Y]", "answer": 7}': "'answer' must be text",
    '{"prompt": "A [Y]", "answer": []}': "'answer' must be a text or a list of texts",
    '{"prompt": "A [Y]", "answer": ["B", null]}': "'answer' must be a text or a list of texts",
    '{"prompt": "A [Y]", "answer": "\\ud800"}': "'answer' has half a surrogate pair",
    '{"prompt": "A [Y]", "answer": "B", "not": "B"}': "both have 'B'",
    '{"prompt": "A [Y]", "answer": "B", "above": " B"}': "both have 'B'",
    '{"prompt": "A [Y]", "answer": "B", "probability": 0}': "'probability' must be above 0",
    '{"prompt": "A [Y]", "answer": "B", "probability": 1.5}': "'probability' must be above 0 and at most 1",
    '{"prompt": "A [Y]", "answer": "B", "probability": NaN}': "'probability' must be a number",
    '{"prompt": "A [Y]", "answer": "B", "probability": true}': "'probability' must be a number",
    '{"prompt": "A [Y]", "not": "B", "probability": 0.5}': "'probability' is about 'answer'",
    '{"prompt": "A [Y]", "not": "B", "above": "C"}': "'above' is about 'answer'",
    '{"prompt": "A [Y]", "answer": "B", "fact": 1}': "'prompt' and 'fact' contradict",
    '{"prompt": "A [Y]", "answer": "B", "prompts": "all"}': "'prompts' says which of a fact's prompts",
    '{"fact": 1, "prompts": "some"}': "'prompts' must be one of training, held-out, all",
    '{"fact": 0}': "'fact' must be a fact's number",
    '{"fact": "1"}': "'fact' must be a fact's number",
    '{"fact": 1.0}': "'fact' must be a fact's number",
    '{"fact": 99999999999999999999}': "'fact' must be a fact's number",
    '{"fact": 1, "name": "a\\u001b[1m"}': "'name' must be text of 1 to 400 characters that can be printed",
    '{"fact": 1, "name": "' + "a" * 401 + '"}': "'name' must be text of 1 to 400 characters",
    '{"fact": 1, "name": 5}': "'name' must be text",
    "[1]": "each line must be one JSON object",
    "{": "not valid JSON",
    "[" * 100_000: "not valid JSON",
}


@pytest.mark.parametrize("line", BAD_LINES, ids=lambda line: line[:50])
def test_a_bad_line_is_named_with_its_field(tmp_path, line):
    path = written(tmp_path, '{"fact": 1}\n' + line + "\n")
    with pytest.raises(InputError) as error:
        knowledge_tests.read(path, None)
    assert str(error.value).startswith(f"{path}:2: ")
    assert BAD_LINES[line] in str(error.value)
    assert [one.line for one in error.value.rejected] == [2]


def test_all_bad_lines_are_named_and_a_name_stands_once(tmp_path):
    path = written(tmp_path, '{"fact": 1, "name": "x"}\n{"fact": 2, "name": "x"}\n{}\n')
    with pytest.raises(InputError, match="'name' 'x' is that of line 1 already; and 1 more") as error:
        knowledge_tests.read(path, None)
    assert [one.line for one in error.value.rejected] == [2, 3]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "there is no test in it"),
        ("prompt,answer\n", "there is no test in it"),
        ("prompt,anwser\nA [Y],B\n", "'anwser' is no field of a test; did you mean 'answer'?"),
        ("prompt,answer,answer\nA [Y],B,C\n", "stands twice in the header"),
        ("prompt,answer\nA [Y],B,C\n", ":2: it has 3 fields, and the header has 2"),
        ('prompt,answer\nA [Y],"[""B"", 5]"\n', ":2: 'answer' must be text"),
        ("prompt,answer,probability\nA [Y],B,much\n", ":2: 'probability' must be a number"),
        ('prompt,answer\nA [Y],"B\n', "not valid CSV"),
    ],
)
def test_bad_tables(tmp_path, text, said):
    with pytest.raises(InputError) as error:
        knowledge_tests.read(written(tmp_path, text, "tests.csv"), ",")
    assert said in str(error.value)


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_tests_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_bytes(content)
    for delimiter in (None, ","):
        with suppress(InputError):
            assert knowledge_tests.read(path, delimiter)


def test_tests_are_chosen_by_name():
    assert [one.name for one in chosen_tests(EVERYTHING, ["c", "a"])] == ["a", "c"]
    assert chosen_tests(EVERYTHING, []) == EVERYTHING
    with pytest.raises(UsageError, match="there is no test 'line 5'; did you mean 'line 4'"):
        chosen_tests(EVERYTHING, ["line 5"])
    with pytest.raises(UsageError, match="no test in the list"):
        require_distinct([])
    with pytest.raises(UsageError, match="two tests are called 'b'"):
        require_distinct([EVERYTHING[1], EVERYTHING[1]])


# --- JUnit ----------------------------------------------------------------------------------------------


def run_of(*outcomes):
    return KnowledgeRun("model", "v0123456789abcdef", "base", outcomes)


def test_the_xml_has_every_test_once(tmp_path):
    failed = (PromptOutcome("A [Y]", PASSED), PromptOutcome("B [Y]", FAILED, "answers 'x' (1), not 'y'"))
    run = run_of(
        KnowledgeOutcome(EVERYTHING[0], PASSED, (PromptOutcome("A [Y]", PASSED),)),
        KnowledgeOutcome(EVERYTHING[1], FAILED, failed, "answers 'x' (1), not 'y'"),
        KnowledgeOutcome(EVERYTHING[2], ERROR, (), "no such fact <here> & there"),
    )
    path = tmp_path / "out.xml"
    junit.write(path, [run, run])
    root = ElementTree.parse(path).getroot()
    assert (root.tag, root.attrib) == ("testsuites", {"tests": "6", "failures": "2", "errors": "2", "skipped": "0"})
    for suite in root:
        assert suite.attrib["name"] == "model v0123456789abcdef"
        assert [case.attrib["name"] for case in suite] == ["a", "b", "c"]
        assert [[found.tag for found in case] for case in suite] == [[], ["failure"], ["error"]]
        assert suite[2][0].attrib["message"] == "no such fact <here> & there"
        assert "B [Y]: answers 'x' (1), not 'y'" in suite[1][0].text
        assert "A [Y]" not in suite[1][0].text


@settings(max_examples=30, deadline=None)
@given(st.text(st.characters(), max_size=40))
def test_any_text_makes_sound_xml_and_what_xml_holds_stays(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.xml"
    junit.write(path, [run_of(KnowledgeOutcome(EVERYTHING[0], FAILED, (), text))])
    message = ElementTree.parse(path).getroot()[0][0][0].attrib["message"]
    assert message == junit.clean(text)
    if text.isprintable() and not any("\ufffd" < one < "\U00010000" for one in text):
        assert message == text


def test_what_xml_has_not_is_written_out():
    assert junit.clean("a\x1b[1m\0\ufffe\ud800é\n") == "a\\x1b[1m\\x00\\ufffe\\ud800é\n"


def test_xml_that_can_not_be_written_leaves_nothing(tmp_path):
    with pytest.raises(OutputError):
        junit.write(tmp_path / "none" / "out.xml", [run_of()])
    assert list(tmp_path.iterdir()) == []
