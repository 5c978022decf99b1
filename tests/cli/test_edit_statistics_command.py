"""`kndb edit statistics`: counting, listing, deleting, and what is refused."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest


@pytest.fixture
def counted(use_ready, kndb):
    """The words of the command, for a model of which statistics of layer 0 are kept."""
    use_ready()
    words = ("edit", "statistics", "--model", "tiny")
    kndb(*words, "--layers", 0, "--max-tokens", 300)
    return words


def test_it_counts_lists_and_deletes(kndb, kndb_json, counted):
    assert kndb("edit", "statistics", "--list").out.splitlines()[0].split() == [
        *("model", "layer", "state", "source", "texts", "tokens", "rank", "condition", "size")
    ]
    (row,) = kndb_json("edit", "statistics", "--list", "--model", "tiny")
    assert (row["layer"], row["state"], row["source"], row["neurons"]) == (0, "complete", "facts", 64)
    assert row["texts"] == row["done"]
    assert Path(row["file"]).stat().st_size == row["size"]
    assert Path(row["file"]).parent.name == "kndb.statistics"
    both = kndb_json(*counted, "--layers", "1", "--max-tokens", 300)
    assert [one["layer"] for one in both] == [1]
    (deleted,) = csv.DictReader(io.StringIO(kndb(*counted, "--delete", "--layers", 0, "--format", "csv").out))
    assert deleted["file"] == row["file"]
    assert [one["layer"] for one in kndb_json("edit", "statistics", "--list")] == [1]
    assert "Deleted statistics in 1 file." in kndb(*counted, "--delete").err
    assert "No statistics are kept; count some with: kndb edit statistics --model NAME" in (
        kndb("edit", "statistics", "--list").err
    )


def test_few_tokens_are_warned_of_with_what_to_do(kndb, use_ready):
    use_ready()
    told = kndb("edit", "statistics", "--model", "tiny", "--layers", 0, "--max-tokens", 40).err
    assert "of 64 dimensions; edits by so few harm other facts more" in told
    assert "Count more texts: --max-tokens 1280 --replace." in told


def test_all_layers_of_a_file_of_texts(kndb, kndb_json, use_ready, place):
    use_ready("gpt2")
    (place / "texts.txt").write_text("Paris is the capital of France .\n" * 3, encoding="utf-8")
    rows = kndb_json("edit", "statistics", "--model", "tiny", "--layers", "all", "--texts", "texts.txt")
    assert [(one["layer"], one["source"], one["texts"]) for one in rows] == [
        (0, "texts texts.txt", 1),
        (1, "texts texts.txt", 1),
    ]
    told = kndb("edit", "statistics", "--model", "tiny", "--layers", "0", "--self-sampled", 3, code=2).err
    assert "other texts (texts texts.txt) are kept; replace them with --replace" in told
    rows = kndb_json("edit", "statistics", "--model", "tiny", "--layers", "0", "--self-sampled", 3, "--replace")
    assert [one["source"] for one in rows] == ["self-sampled"]


def test_a_damaged_file_is_named_with_what_removes_it(kndb, kndb_json, counted):
    (row,) = kndb_json("edit", "statistics", "--list")
    path = Path(row["file"])
    path.write_bytes(path.read_bytes()[:-3])
    told = kndb(*counted, "--layers", 0, code=8).err
    remedy = "delete it with: kndb edit statistics --delete --model tiny --layers 0, then count again"
    assert remedy in told
    assert "statistics of tiny" in kndb("db", "check", code=4).err
    listed = kndb("edit", "statistics", "--list")
    assert "damaged" in listed.out
    assert "Layer 0 of tiny is damaged" in listed.err
    kndb("edit", "statistics", "--delete", "--model", "tiny", "--layers", 0)
    kndb("db", "check")


def test_a_backup_has_no_statistics(kndb, counted, place):
    kndb("db", "backup", "copy.db")
    assert not (place / "copy.statistics").exists()
    assert "No statistics are kept" in kndb("edit", "statistics", "--list", "--db", "copy.db").err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "--model must name a registered model"),
        (("--list", "--delete"), "--list and --delete can't both be given"),
        (("--list", "--seed", "1"), "--seed is of a count, and --list counts nothing"),
        (("--model", "tiny", "--delete", "--replace"), "--replace is of a count, and --delete counts nothing"),
        (("--model", "tiny", "--from-facts", "--self-sampled", "1"), "three sources of texts"),
        (("--model", "tiny", "--texts", "x", "--self-sampled", "1"), "--texts and --self-sampled are two sources"),
        (("--model", "tiny", "--layers", "none"), "--layers must be numbers and ranges"),
        (("--model", "tiny", "--most-memory", "5"), "allow more with --most-memory"),
        (("--model", "tiny", "--layers", "7"), "--layers must be from 0 to 1 for model tiny (got 7)"),
        (("--model", "tiny", "--delete", "--layers", "1"), "no statistics of layer 1 of model tiny are kept"),
    ],
)
def test_what_makes_no_sense_is_refused(kndb, use_ready, words, message):
    use_ready()
    assert message in kndb("edit", "statistics", *words, code=2).err
