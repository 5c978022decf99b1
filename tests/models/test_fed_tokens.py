"""What a model is fed, as people see it: the encoder's tokens, each with what it is there for."""

from __future__ import annotations

from typing import Any

import pytest
from causal_tokenizers import END, START, TURN, byte_level
from masked_families import SENTINEL, TOKENIZERS

from kndb.models.adapter import Blank
from kndb.models.chat import ChatFrame
from kndb.models.fed_tokens import fed_tokens
from kndb.models.prompting import Encoder, Skipped
from kndb.records.models import FedToken

MOST = 200


def rows(encoder: Encoder, text: str, answer: str | None = None) -> list[FedToken]:
    found = fed_tokens(encoder, text, answer)
    assert not isinstance(found, Skipped)
    return found


def column(found: list[FedToken], name: str, part: str | None = None) -> list[Any]:
    return [getattr(one, name) for one in found if part in (None, one.part)]


@pytest.mark.parametrize("answer", [None, "Paris", "Sofia"])
@pytest.mark.parametrize("kind", [kind for kind in TOKENIZERS if kind != "sentinels"])
def test_a_masked_model(kind, answer):
    tokenizer = TOKENIZERS[kind]()
    encoder = Encoder(tokenizer, Blank.MASK, MOST)
    found = rows(encoder, "The capital is [Y].", answer)
    encoded = encoder.encode(0, "The capital is [Y].", answer)
    count = len(encoded.answers)
    assert tuple(column(found, "id", "text")) == encoded.ids
    assert column(found, "position", "text") == [*range(len(encoded.ids))]
    assert column(found, "token", "text") == tokenizer.convert_ids_to_tokens(encoded.ids)
    kinds = column(found, "kind", "text")
    assert (kinds[0], kinds[-1]) == ("added", "added")
    assert kinds[1:-1].count("blank") == count
    assert kinds[1:-1].count("text") == len(encoded.ids) - 2 - count
    assert [one.reads for one in found if one.kind == "blank"] == [*range(1, count + 1)]
    if answer is not None:
        assert tuple(column(found, "id", "answer")) == encoded.answers
        assert column(found, "position", "answer") == [question.position for question in encoded.questions]
        assert column(found, "reads", "answer") == [None] * count


def test_a_causal_model():
    tokenizer = byte_level((START,), (END,))
    encoder = Encoder(tokenizer, Blank.CUT, MOST)
    found = rows(encoder, f"{TURN}The\n[Y]", "Rom")
    assert column(found, "part") == ["text"] * 4 + ["answer"] * (len(found) - 4)
    assert column(found, "kind", "text") == ["added", "special", "text", "text"]
    assert column(found, "text", "text") == [START, TURN, "The", "\n"]
    assert "".join(column(found, "text", "answer")) == "Rom"
    count = len(found) - 4
    assert count > 1
    # The last token of what is fed reads the first of the answer, which reads the second, and so on.
    assert column(found, "reads") == [None, None, None, *range(1, count + 1), None]
    assert column(found, "position") == [0, 1, 2, 3, *range(4, 4 + count)]
    assert column(rows(encoder, "<s>The [Y]"), "kind") == ["special", "text"]


def test_an_encoder_decoder():
    tokenizer = TOKENIZERS["sentinels"]()
    encoder = Encoder(tokenizer, Blank.SENTINEL, MOST)
    found = rows(encoder, "The capital is [Y].", "Sofia")
    assert column(found, "kind", "encoder")[-1] == "added"
    assert column(found, "token", "encoder")[3] == SENTINEL
    assert column(found, "kind", "encoder")[3] == "blank"
    assert column(found, "kind", "decoder") == ["added", "blank"]
    assert column(found, "reads", "decoder") == [None, 1]
    assert column(found, "reads", "answer") == [2, 3, None]
    assert column(found, "text", "answer") == [" S", "of", "ia"]


@pytest.mark.parametrize(
    ("text", "said", "begun"), [("The capital is [Y]", "The capital is", ""), ("The? In [Y]", "The?", "In")]
)
def test_a_chat(text, said, begun):
    tokenizer = byte_level()
    encoder = Encoder(tokenizer, Blank.CUT, MOST, chat=ChatFrame("<s>user\n", "<|im_end|>\n<s>assistant\n"))
    found = rows(encoder, text, "Paris")
    fed = [one for one in found if one.part == "text"]
    assert "".join(one.text for one in fed if one.kind == "text") == f"{said}{begun}"
    assert "".join(one.text for one in fed) == f"<s>user\n{said}<|im_end|>\n<s>assistant\n{begun}"
    assert column(found, "text", "answer") == [" Paris" if begun else "Paris"]


def test_what_can_not_be_asked():
    encoder = Encoder(byte_level(), Blank.CUT, MOST)
    assert fed_tokens(encoder, "[Y] is it", None) == Skipped(0, "blank-not-last")


def test_a_line_says_what_a_token_is():
    assert repr(FedToken("text", 3, 7, "Ġis", " is", "text", 1)) == (
        "FedToken(text 3, 7, ' is', text, reads token 1 of the answer)"
    )
