"""Prompts to token ids: where the blank is, which token the answer is, and why a prompt can't be asked."""

from __future__ import annotations

import pytest

from kndb.models.adapter import Blank
from kndb.models.prompting import SKIP_REASONS, EncodedPrompt, Encoder, Skipped


@pytest.fixture
def masked(word_tokenizer):
    return Encoder(word_tokenizer, Blank.MASK, 10)


@pytest.fixture
def causal(byte_tokenizer):
    return Encoder(byte_tokenizer, Blank.CUT, 24)


def reason(encoded) -> str:
    assert isinstance(encoded, Skipped)
    assert encoded.prompt_id == 7
    assert encoded.reason in SKIP_REASONS
    return encoded.reason


# --- masked --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("the capital of France is [Y].", 6),
        ("[Y] is the capital of France", 1),
        ("in [Y], France", 2),
        ("is [Y]", 2),
        ("[Y]", 1),
    ],
)
def test_the_mask_stands_at_the_blank(masked, word_tokenizer, text, position):
    encoded = masked.encode(7, text, "Paris")
    assert encoded.prompt_id == 7
    assert encoded.position == position
    assert encoded.ids[position] == word_tokenizer.mask_token_id
    assert encoded.ids.count(word_tokenizer.mask_token_id) == 1
    assert (encoded.ids[0], encoded.ids[-1]) == (word_tokenizer.cls_token_id, word_tokenizer.sep_token_id)
    assert word_tokenizer.convert_ids_to_tokens(encoded.answer) == "Paris"
    words = word_tokenizer.convert_ids_to_tokens(encoded.ids)[1:-1]
    assert words[position - 1] == "[MASK]"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Paris", "Paris"),
        ("Sofia", "answer-of-several-tokens"),  # S ##o ##f ##ia
        ("a new city", "answer-of-several-tokens"),
        ("Berlin", "answer-not-in-vocabulary"),
        ("new Berlin", "answer-not-in-vocabulary"),
        ("", "answer-not-in-vocabulary"),
    ],
)
def test_masked_answers(masked, word_tokenizer, answer, expected):
    encoded = masked.encode(7, "the capital is [Y].", answer)
    if expected == "Paris":
        assert word_tokenizer.convert_ids_to_tokens(encoded.answer) == "Paris"
        assert masked.answer_token(answer) == encoded.answer
    else:
        assert reason(encoded) == expected
        assert masked.answer_token(answer) == expected


@pytest.mark.parametrize("text", ["the [MASK] of France is [Y].", "[Y] [MASK]"])
def test_a_mask_in_the_text_itself(masked, text):
    assert reason(masked.encode(7, text, "Paris")) == "mask-token-in-text"


def test_masked_prompts_up_to_the_models_length(masked):
    fits = "a " * 7 + "[Y]"  # and [CLS], [SEP]: 10 tokens
    assert len(masked.encode(7, fits, "Paris").ids) == 10
    assert reason(masked.encode(7, "a " + fits, "Paris")) == "prompt-too-long"


def test_an_open_answer(masked, causal):
    for encoder in (masked, causal):
        encoded = encoder.encode(7, "the capital of France is [Y].", None)
        assert isinstance(encoded, EncodedPrompt)
        assert encoded.answer == -1


# --- causal --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["", ".", "?", " .", '."', "!)", "…"])
def test_the_text_is_cut_at_the_blank(causal, byte_tokenizer, end):
    encoded = causal.encode(7, f"The capital of France is [Y]{end}", "Paris")
    assert byte_tokenizer.decode(encoded.ids) == "The capital of France is"
    assert encoded.position == len(encoded.ids) - 1
    assert byte_tokenizer.decode([encoded.answer]) == " Paris"  # the space belongs to the answer
    assert byte_tokenizer.convert_ids_to_tokens(encoded.answer) == "ĠParis"


@pytest.mark.parametrize("text", ["[Y] is the capital of France", "In [Y] there is a city.", "is [Y] new", "is [Y] 1."])
def test_a_blank_that_is_not_last(causal, text):
    assert reason(causal.encode(7, text, "Paris")) == "blank-not-last"


@pytest.mark.parametrize("text", ["[Y]", " [Y].", "\t[Y]"])
def test_nothing_before_the_blank(causal, text):
    assert reason(causal.encode(7, text, "Paris")) == "nothing-before-blank"


@pytest.mark.parametrize("answer", ["Paris", "Rome"])
def test_causal_answers(causal, byte_tokenizer, answer):
    encoded = causal.encode(7, "The capital is [Y]", answer)
    assert byte_tokenizer.decode([encoded.answer]) == f" {answer}"
    assert causal.answer_token(answer) == encoded.answer


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Sofia", "answer-of-several-tokens"),
        ("Paris Rome", "answer-of-several-tokens"),
        ("", "answer-not-in-vocabulary"),
        (" ", "answer-not-in-vocabulary"),
    ],
)
def test_causal_answers_that_are_not_one_token(causal, answer, expected):
    assert reason(causal.encode(7, "The capital is [Y]", answer)) == expected
    assert causal.answer_token(answer) == expected


def test_the_answer_is_what_the_whole_text_has_beyond_the_prefix(causal, byte_tokenizer):
    """Without a space between, the answer's first letters may belong to the last token of the prefix."""
    encoded = causal.encode(7, "(Par[Y]", "is")
    whole = tuple(byte_tokenizer("(Paris")["input_ids"])
    prefix = tuple(byte_tokenizer("(Par")["input_ids"])
    if whole[: len(prefix)] == prefix and len(whole) == len(prefix) + 1:
        assert encoded.answer == whole[-1]
    else:
        assert reason(encoded) == "answer-of-several-tokens"
    quoted = causal.encode(7, "The city of '[Y]'", "Paris")
    tokens = byte_tokenizer("The city of 'Paris")["input_ids"]
    if isinstance(quoted, EncodedPrompt):
        assert [*quoted.ids, quoted.answer] == tokens
    else:
        assert len(tokens) != len(byte_tokenizer("The city of '")["input_ids"]) + 1


def test_causal_prompts_up_to_the_models_length(causal, byte_tokenizer):
    text = " is" * 24
    assert len(byte_tokenizer(text)["input_ids"]) == 24
    assert len(causal.encode(7, text + " [Y]", "Paris").ids) == 24
    assert reason(causal.encode(7, " is" + text + " [Y]", "Paris")) == "prompt-too-long"


def test_byte_level_answers_in_any_script(causal):
    assert reason(causal.encode(7, "The capital is [Y]", "東京")) == "answer-of-several-tokens"
