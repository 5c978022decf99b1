"""`kndb model show --tokens`, `kndb model add --chat`, and answers told apart by `kndb ask`."""

import csv
import io

import pytest
from causal_tokenizers import save_chat_checkpoint

TEXT = "The capital is [Y]."


@pytest.fixture
def chatty(kndb, place):
    """A checkpoint with a chat template, registered twice."""
    folder = save_chat_checkpoint(place / "model")
    kndb("model", "add", folder, "--name", "plain")
    kndb("model", "add", folder, "--name", "chatty", "--chat")
    return folder


def test_tokens_as_a_table_as_json_and_as_csv(kndb, kndb_json, chatty):
    rows = kndb_json("model", "show", "plain", "--tokens", TEXT, "--answer", "Rome")
    assert [(row["part"], row["text"], row["kind"], row["reads"]) for row in rows] == [
        ("text", "The", "text", None),
        ("text", " capital", "text", None),
        ("text", " is", "text", 1),
        ("answer", " Rome", "answer", None),
    ]
    table = kndb("model", "show", "plain", "--tokens", TEXT, "--answer", "Rome").out.splitlines()
    assert table[0].split() == ["part", "position", "id", "token", "text", "kind", "reads"]
    assert "' Rome'" in table[-1]
    printed = kndb("model", "show", "plain", "--tokens", TEXT, "--answer", "Rome", "--format", "csv").out
    assert [row["text"] for row in csv.DictReader(io.StringIO(printed))] == [row["text"] for row in rows]
    broken = kndb("model", "show", "plain", "--tokens", "The capital:\n[Y]").out.splitlines()
    assert "'\\n'" in broken[-1]


def test_tokens_of_a_lab_model_take_no_store(kndb):
    assert "'[MASK]'" in kndb("model", "show", "lab-bert", "--tokens", "Paris is in [MASK].").out


def test_what_is_shown_of_a_chat(kndb, kndb_json, chatty):
    plain, wrapped = (kndb_json("model", "show", name) for name in ("plain", "chatty"))
    assert plain["chat_template"] is None
    assert len(wrapped["chat_template"]) == 64
    assert "chat template" not in kndb("model", "show", "plain").out
    assert "chat template" in kndb("model", "show", "chatty").out
    assert {row["source"] for row in kndb_json("model", "list")} == {str(chatty)}
    rows = kndb_json("model", "show", "chatty", "--tokens", "Is it Rome? It is [Y]")
    assert "".join(row["text"] for row in rows) == "<s>user\nIs it Rome?<|im_end|>\n<s>assistant\nIt is"


def test_refusals_name_the_option(kndb, chatty):
    assert "--answer goes with --tokens" in kndb("model", "show", "plain", "--answer", "Rome", code=2).err
    assert "can't be asked: the blank" in kndb("model", "show", "plain", "--tokens", "[Y] is it", code=2).err
    assert "kndb model show plain --tokens" in kndb("model", "show", "plain", "--tokens", "[Y] [Y]", code=2).err
    bert = kndb("model", "add", "lab-bert", "--chat", code=2).err
    assert bert.startswith("Error: --chat wraps prompts for causal language models, and a bert model fills blanks")
    assert "has no chat template" in kndb("model", "add", "lab-gpt2", "--chat", code=6).err
    assert "add --chat, or give another --name" in kndb("model", "add", chatty, "--name", "chatty", code=6).err
    assert (
        "leave --chat out, or give another --name"
        in kndb("model", "add", chatty, "--name", "plain", "--chat", code=6).err
    )


def test_answers_that_look_alike_stand_between_marks(kndb, kndb_json, chatty):
    """All of a table's do as soon as two look alike; none does otherwise."""
    every = kndb_json("ask", "--model", "plain", TEXT, "--top", 400)
    tokens = [row["token"] for row in every]
    assert len(set(tokens)) < len(tokens) == len({row["text"] for row in every})
    alike = kndb("ask", "--model", "plain", TEXT, "--top", 400).out
    assert all(f"\n'{text}' " in alike for text in (" Rome", "Rome"))
    first = kndb("ask", "--model", "plain", TEXT, "--top", 1).out.splitlines()
    assert first[0].split() == ["token", "probability"]
    assert not first[1].startswith("'")


def test_spellings_are_summed_up(kndb, kndb_json, chatty):
    every = kndb_json("ask", "--model", "plain", TEXT, "--top", 400)
    summed = kndb_json("ask", "--model", "plain", TEXT, "--top", 400, "--sum-alike")
    (rome,) = [row for row in summed if row["token"].casefold() == "rome"]
    parts = [row["probability"] for row in every if row["token"].casefold() == "rome"]
    assert (rome["spellings"], rome["probability"]) == (len(parts), pytest.approx(sum(parts)))
    assert len(parts) == 2
    assert kndb("ask", "--model", "plain", TEXT, "--sum-alike").out.splitlines()[0].split()[-1] == "spellings"
