"""Whose answers flip, and what a model goes on to say, as a user asks for them."""

import csv
import io

import pytest

UPDATE = ("--to", "Tokyo", "--rule", "output", "--max-share", 1, "--lambda-old", 2, "--lambda-new", 6)
SMALL = ("--sample", 3)


@pytest.fixture
def france(use_ready, kndb_json):
    """Makes a database of a family ready, and gives the number of the fact that the capital of France is Paris."""

    def make(family="bert"):
        use_ready(family)
        return kndb_json("query", "facts", "--relation", "P36", "--subject", "France")[0]["id"]

    return make


def test_flips_are_named_in_every_format(kndb, kndb_json, france):
    kndb("edit", "update", "--model", "tiny", "--fact", france(), *UPDATE)
    flips = kndb_json("edit", "eval", 1, *SMALL)["measures"]["flips"]
    assert flips
    first = flips[0]
    plain = kndb("edit", "eval", 1, *SMALL)
    assert "name them with --list-flips" in plain.err
    assert "old_answer" not in plain.out
    table = kndb("edit", "eval", 1, *SMALL, "--list-flips")
    assert "Measures" in table.out
    assert "Flips" in table.out
    assert all(str(first[key]) in table.out for key in ("subject", "old_answer", "new_answer"))
    printed = kndb("edit", "eval", 1, *SMALL, "--list-flips", "--format", "csv").out
    rows = [(int(row["fact"]), row["new_answer"], int(row["prompts"])) for row in csv.DictReader(io.StringIO(printed))]
    assert rows == [(flip["fact"], flip["new_answer"], flip["prompts"]) for flip in flips]


def test_previews_name_them_when_asked(kndb, kndb_json, france):
    fact = france()
    words = ("edit", "update", "--model", "tiny", "--fact", fact, *UPDATE, "--preview", "--list-flips")
    found = kndb_json(*words)
    assert list(found) == ["answers", "collateral", "flips"]
    assert found["flips"]
    assert fact not in {flip["fact"] for flip in found["flips"]}
    assert "of 15 other facts asked have an answer that would flip" in kndb(*words).err
    erase = kndb_json("edit", "erase", "--model", "tiny", "--relation", "P36", "--preview", "--list-flips")
    assert list(erase) == ["answers", "collateral", "flips"]
    outcome = kndb("edit", "update", "--model", "tiny", "--fact", fact, *UPDATE, "--list-flips", code=2)
    assert "--list-flips needs --preview" in outcome.err


def test_continuations_stand_side_by_side(kndb, kndb_json, france):
    kndb("edit", "update", "--model", "tiny", "--fact", france("gpt2"), *UPDATE)
    words = ("edit", "eval", 1, *SMALL, "--generate", "--tokens", 4)
    made = kndb_json(*words)["measures"]["generated"]
    assert made["tokens"] == 4
    printed = kndb(*words, "--format", "csv").out
    rows = list(csv.DictReader(io.StringIO(printed)))
    assert [(row["prompt"], row["before"], row["after"]) for row in rows] == [
        (text["prompt"], text["before"], text["after"]) for text in made["texts"]
    ]
    table = kndb(*words)
    assert "Fluency of 4 tokens" in table.err
    assert "Continuations" in table.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--tokens", "3"), "--tokens needs --generate"),
        (("--generate", "--tokens", "0"), "--tokens must be at least 1 (got 0)"),
        (("--generate", "--list-flips", "--format", "csv"), "CSV prints one list"),
        (("--generate",), "a bert model only fills blanks"),
    ],
)
def test_what_is_refused(kndb, france, words, message):
    kndb("edit", "update", "--model", "tiny", "--fact", france(), *UPDATE)
    assert message in kndb("edit", "eval", 1, *words, code=2).err
