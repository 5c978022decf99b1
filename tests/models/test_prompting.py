"""Prompts to token ids: where the blank is, which token the answer is, and why a prompt can't be asked."""

from __future__ import annotations

import pytest

from kndb.models.adapter import Blank
from kndb.models.prompting import EncodedPrompt, Encoder, Skipped
from kndb.records.skip_reasons import SKIP_REASONS

SEVERAL = "answer-of-several-tokens"


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


@pytest.mark.parametrize("single_token", [False, True])
def test_a_masked_answer_of_one_token(masked, word_tokenizer, single_token):
    encoded = masked.encode(7, "the capital is [Y].", "Paris", single_token=single_token)
    assert word_tokenizer.convert_ids_to_tokens(encoded.answer) == "Paris"
    assert masked.answer_token("Paris") == encoded.answer
    assert encoded.further == ()
    assert encoded.questions == (encoded,)
    assert encoded.answers == (encoded.answer,)


@pytest.mark.parametrize(
    ("answer", "tokens"),
    [
        ("Sofia", ["S", "##o", "##f", "##ia"]),
        ("a new city", ["a", "new", "city"]),
        ("new Sofia", ["new", "S", "##o", "##f", "##ia"]),
    ],
)
@pytest.mark.parametrize(
    ("before", "after"),
    [(["the", "capital", "is"], ["."]), ([], ["is", "a", "city"]), (["in"], [])],
    ids=["middle", "start", "end"],
)
def test_a_masked_answer_of_several_tokens(word_tokenizer, before, after, answer, tokens):
    """Each token has a mask of its own in one text, and is asked for there while the others stay masked."""
    encoder = Encoder(word_tokenizer, Blank.MASK, 12)
    text = " ".join([*before, "[Y]", *after])
    encoded = encoder.encode(7, text, answer)
    masks = ["[MASK]"] * len(tokens)
    shown = word_tokenizer.convert_tokens_to_ids(["[CLS]", *before, *masks, *after, "[SEP]"])
    answers = word_tokenizer.convert_tokens_to_ids(tokens)
    expected = [EncodedPrompt(7, tuple(shown), 1 + len(before) + n, token) for n, token in enumerate(answers)]
    assert encoded.further == tuple(expected[1:])
    assert encoded == EncodedPrompt(7, expected[0].ids, expected[0].position, expected[0].answer, (), encoded.further)
    assert [question.answer for question in encoded.questions] == list(encoded.answers) == answers
    assert reason(encoder.encode(7, text, answer, single_token=True)) == SEVERAL
    assert encoder.answer_token(answer) == SEVERAL


@pytest.mark.parametrize("single_token", [False, True])
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Berlin", "answer-not-in-vocabulary"),
        ("new Berlin", "answer-not-in-vocabulary"),
        ("", "answer-empty"),
        (" ", "answer-empty"),
    ],
)
def test_masked_answers_that_can_not_be_asked(masked, answer, expected, single_token):
    assert reason(masked.encode(7, "the capital is [Y].", answer, single_token=single_token)) == expected
    assert masked.answer_token(answer) == expected


@pytest.mark.parametrize("text", ["the [MASK] of France is [Y].", "[Y] [MASK]"])
def test_a_mask_in_the_text_itself(masked, text):
    assert reason(masked.encode(7, text, "Paris")) == "mask-token-in-text"


def test_masked_prompts_up_to_the_models_length(masked):
    fits = "a " * 7 + "[Y]"  # and [CLS], [SEP]: 10 tokens
    assert len(masked.encode(7, fits, "Paris").ids) == 10
    assert reason(masked.encode(7, "a " + fits, "Paris")) == "prompt-too-long"


def test_every_mask_of_an_answer_takes_a_position(masked):
    fits = "a " * 5 + "[Y]"  # three masks, [CLS] and [SEP]: 10 tokens
    assert len(masked.encode(7, fits, "a new city").ids) == 10
    assert reason(masked.encode(7, "a " + fits, "a new city")) == "prompt-too-long"
    assert reason(masked.encode(7, "a " + fits, "a new city", single_token=True)) == SEVERAL


def test_an_open_answer(masked, causal):
    for encoder in (masked, causal):
        encoded = encoder.encode(7, "the capital of France is [Y].", None)
        assert isinstance(encoded, EncodedPrompt)
        assert encoded.answers == (-1,)


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


@pytest.mark.parametrize("answer", ["Sofia", "Paris Rome", "東京"])
def test_a_causal_answer_of_several_tokens(byte_tokenizer, answer):
    """Each token is asked for after the prompt and the tokens before it."""
    encoder = Encoder(byte_tokenizer, Blank.CUT, 24)
    encoded = encoder.encode(7, "The capital is [Y].", answer)
    prefix = tuple(byte_tokenizer("The capital is")["input_ids"])
    whole = tuple(byte_tokenizer(f"The capital is {answer}")["input_ids"])
    assert whole[: len(prefix)] == prefix
    assert len(whole) > len(prefix) + 1
    expected = [EncodedPrompt(7, whole[:stop], stop - 1, whole[stop]) for stop in range(len(prefix), len(whole))]
    assert encoded.further == tuple(expected[1:])
    assert encoded == EncodedPrompt(7, prefix, len(prefix) - 1, whole[len(prefix)], (), encoded.further)
    assert byte_tokenizer.decode(list(encoded.answers)) == f" {answer}"
    assert reason(encoder.encode(7, "The capital is [Y].", answer, single_token=True)) == SEVERAL
    assert encoder.answer_token(answer) == SEVERAL


@pytest.mark.parametrize("single_token", [False, True])
@pytest.mark.parametrize("answer", ["", " ", "\t"])
def test_an_empty_causal_answer(causal, answer, single_token):
    assert reason(causal.encode(7, "The capital is [Y]", answer, single_token=single_token)) == "answer-empty"
    assert causal.answer_token(answer) == "answer-empty"


@pytest.mark.parametrize("single_token", [False, True])
@pytest.mark.parametrize(("before", "answer"), [("(Par", "is"), ("The capital is Pari", "s")])
def test_an_answer_that_merges_with_the_prompt(causal, byte_tokenizer, before, answer, single_token):
    """Without a space between, the answer's first letters belong to the last token of the prefix."""
    prefix, whole = (byte_tokenizer(text)["input_ids"] for text in (before, before + answer))
    assert whole[: len(prefix)] != prefix
    assert reason(causal.encode(7, f"{before}[Y]", answer, single_token=single_token)) == "answer-merges-with-prompt"


@pytest.mark.parametrize(("before", "answer"), [("The city of '", "Paris"), ("in X", "anadu")])
def test_the_answer_is_what_the_whole_text_has_beyond_the_prefix(causal, byte_tokenizer, before, answer):
    """Without a space between, it has no space either."""
    encoded = causal.encode(7, f"{before}[Y]", answer)
    whole = byte_tokenizer(before + answer)["input_ids"]
    assert list(encoded.ids) == byte_tokenizer(before)["input_ids"]
    assert [*encoded.ids, *encoded.answers] == whole
    assert byte_tokenizer.decode(list(encoded.answers)) == answer


def test_causal_prompts_up_to_the_models_length(causal, byte_tokenizer):
    text = " is" * 24
    assert len(byte_tokenizer(text)["input_ids"]) == 24
    assert len(causal.encode(7, text + " [Y]", "Paris").ids) == 24
    assert reason(causal.encode(7, " is" + text + " [Y]", "Paris")) == "prompt-too-long"


def test_the_last_question_of_an_answer_has_to_fit(byte_tokenizer):
    """The answer's last token is never shown: it is asked for after those before it."""
    tokens = len(byte_tokenizer(" Sofia")["input_ids"])
    text = " is" * 8 + " [Y]"
    longest = 8 + tokens - 1
    encoded = Encoder(byte_tokenizer, Blank.CUT, longest).encode(7, text, "Sofia")
    assert [len(question.ids) for question in encoded.questions] == list(range(8, longest + 1))
    short = Encoder(byte_tokenizer, Blank.CUT, longest - 1)
    assert reason(short.encode(7, text, "Sofia")) == "prompt-too-long"
    assert reason(short.encode(7, text, "Sofia", single_token=True)) == SEVERAL
