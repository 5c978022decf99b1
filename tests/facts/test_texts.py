"""Reading texts about facts: JSON lines and the paper's bags."""

import gzip
import json

import pytest

from kndb.errors import InputError, UsageError
from kndb.facts.texts import KINDS, FactName, NamedText, read_texts
from kndb.records.probes import TEXT_KINDS

PAIRS = {"P101": [["Ada", "mathematics"], ["Emmy", "algebra"]], "P36": [["France", "Paris"]]}
BAGS = [
    {"th_bags": ["Ada liked mathematics.", "mathematics was what Ada did"], "h_bags": ["Ada lived in London."]},
    {"th_bags": [], "h_bags": ["Emmy [MASK] here."]},
]
ADA, EMMY = (FactName(triple=("P101", *pair)) for pair in PAIRS["P101"])
FROM_BAGS = (
    NamedText(ADA, "head-and-tail", "Ada liked mathematics."),
    NamedText(ADA, "head-and-tail", "mathematics was what Ada did"),
    NamedText(ADA, "head", "Ada lived in London."),
    NamedText(EMMY, "head", "Emmy [Y] here."),
)
NAME = "final_distant_allbags_P101_new.json"


def write(path, value):
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def lines(tmp_path, *rows):
    return write(tmp_path / "texts.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows))


def test_the_kinds_are_those_of_the_findings():
    assert KINDS == TEXT_KINDS


def test_json_lines_name_facts_in_three_ways(tmp_path):
    path = lines(
        tmp_path,
        {"fact": 7, "kind": "head", "text": "Ada lived."},
        {"fact": "P101-Ada", "kind": "neither", "text": "It [MASK]."},
        {"fact": {"relation": "P101", "subject": "Ada", "object": "mathematics"}, "kind": "head-and-tail", "text": "x"},
    )
    (file,) = read_texts([path])
    assert not file.bags
    assert file.texts == (
        NamedText(FactName(number=7), "head", "Ada lived."),
        NamedText(FactName(external_id="P101-Ada"), "neither", "It [Y]."),
        NamedText(ADA, "head-and-tail", "x"),
    )


@pytest.mark.parametrize("place", ["bags", "."], ids=["pairs above", "pairs beside"])
def test_bags_find_their_pairs(tmp_path, place):
    write(tmp_path / "query_pairs.json", PAIRS)
    path = write(tmp_path / place / NAME, BAGS)
    (file,) = read_texts([path])
    assert (file.bags, file.texts) == (True, FROM_BAGS)


def test_bags_and_pairs_may_be_gzipped_and_named(tmp_path):
    pairs, path = tmp_path / "names.json.gz", tmp_path / f"{NAME}.gz"
    pairs.write_bytes(gzip.compress(json.dumps(PAIRS).encode()))
    path.write_bytes(gzip.compress(json.dumps(BAGS).encode()))
    (file,) = read_texts([path], pairs=pairs)
    assert file.texts == FROM_BAGS


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"fact": 1, "kind": "tail", "text": "x"}, "'kind' must be one of head-and-tail, head, neither (got 'tail')"),
        ({"fact": 1, "kind": "head"}, "the field 'text' is missing"),
        ({"kind": "head", "text": "x"}, "the field 'fact' is missing"),
        ({"fact": True, "kind": "head", "text": "x"}, "'fact' must be text (got true)"),
        ({"fact": {"relation": "P1"}, "kind": "head", "text": "x"}, "the field 'subject' is missing"),
        ({"fact": 1, "kind": "head", "text": "[Y] and [MASK]"}, "has 2 blanks"),
        ([1], "must be one JSON object"),
    ],
)
def test_a_line_that_cannot_be_used_stops_with_its_number(tmp_path, row, message):
    path = lines(tmp_path, {"fact": 1, "kind": "head", "text": "x"}, row, {"fact": 1, "kind": "head", "text": ""})
    with pytest.raises(InputError) as error:
        read_texts([path])
    assert f"{path}:2: " in str(error.value)
    assert message in str(error.value)
    assert [line.line for line in error.value.rejected] == [2, 3]


@pytest.mark.parametrize(
    ("name", "bags", "message"),
    [
        ("bags_P7.json", BAGS, "P7, the relation in this file's name, is not among the"),
        ("bags.json", BAGS, "the file's name holds no relation"),
        ("bags_P36_P101.json", BAGS, "holds several relations (P36, P101)"),
        (NAME, BAGS[:1], "it has 1 entries, and "),
        (
            NAME,
            [BAGS[0], {"th_bags": []}],
            ":2: a bag must be an object with 'th_bags' and 'h_bags' (got the fields th_bags)",
        ),
        (NAME, [BAGS[0], 3], ":2: a bag must be an object with 'th_bags' and 'h_bags' (got a number)"),
        (NAME, [BAGS[0], {"th_bags": "x", "h_bags": []}], "must be a list of texts"),
        (NAME, [{"th_bags": [], "h_bags": []}] * 2, "there is no text in it"),
    ],
)
def test_bags_that_do_not_fit(tmp_path, name, bags, message):
    write(tmp_path / "query_pairs.json", PAIRS)
    with pytest.raises(InputError) as error:
        read_texts([write(tmp_path / name, bags)])
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([], "it must be a JSON object of relations"),
        ({"P101": 3}, "'P101' must be a list of [head, tail] (got a number)"),
        ({"P101": [["Ada", "mathematics"], ["Emmy"]]}, "pair 2 of P101 must be [head, tail] (got a list of 1)"),
        ({"P101": [["Ada", 3]]}, "pair 1 of P101: 'tail' must be text (got a number)"),
        (None, "query_pairs.json, which names the facts of the bags, is neither beside it"),
    ],
)
def test_pairs_that_do_not_fit(tmp_path, pairs, message):
    if pairs is not None:
        write(tmp_path / "inner" / "query_pairs.json", pairs)
    with pytest.raises(InputError) as error:
        read_texts([write(tmp_path / "inner" / NAME, BAGS)])
    assert message in str(error.value)


def test_files_and_formats_that_there_are_not(tmp_path):
    path = lines(tmp_path, {"fact": 1, "kind": "head", "text": "x"})
    with pytest.raises(UsageError, match="input_format must be one of auto, jsonl, bags"):
        read_texts([path], "csv")
    with pytest.raises(UsageError, match="no file has bags"):
        read_texts([path], pairs=write(tmp_path / "query_pairs.json", PAIRS))
    for wrong, found in ((tmp_path, "a folder"), (tmp_path / "none", "no such file")):
        with pytest.raises(InputError, match=found):
            read_texts([wrong])
    for text, found in (("", "it is empty"), ("Ada", "begins with 'A'")):
        with pytest.raises(InputError, match=found):
            read_texts([write(tmp_path / "odd", text)])
