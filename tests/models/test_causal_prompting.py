"""Prompts for causal models with the kinds of tokenizers that they have, all made here."""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from kndb.models.adapter import Blank
from kndb.models.prompting import EncodedPrompt, Encoder, Skipped
from kndb.records.skip_reasons import SKIP_REASONS

TEXT = [
    "The capital of France is Paris.",
    "The capital of Italy is Rome.",
    "Rome is in Italy",
    "They speak French and Italian.",
] * 10
SPACE = "▁"
SPECIAL = ["<unk>", "<s>", "</s>"]


def in_llamas_way(tokenizer: Tokenizer) -> Any:
    """A start token before every text, as Llama, Mistral and Gemma have it."""
    start = tokenizer.token_to_id("<s>")
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", start)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


@pytest.fixture(scope="module")
def metaspace() -> Any:
    """Words that bring their space as a mark, and unknown characters."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    trainer = trainers.BpeTrainer(vocab_size=100, special_tokens=SPECIAL, show_progress=False)
    tokenizer.train_from_iterator(TEXT, trainer)
    return in_llamas_way(tokenizer)


@pytest.fixture(scope="module")
def byte_level() -> Any:
    """Bytes, of which every text consists; no start token, as GPT-NeoX, BLOOM and Qwen have it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=340, special_tokens=["<|end|>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|end|>", eos_token="<|end|>")


@pytest.fixture(params=["metaspace", "byte_level"])
def tokenizer(request) -> Any:
    return request.getfixturevalue(request.param)


@pytest.fixture
def encoder(tokenizer) -> Encoder:
    return Encoder(tokenizer, Blank.CUT, 12)


def across_words(*merged: str) -> Any:
    """A tokenizer that sees no word boundaries: single characters, and what is merged from them in turn."""
    pairs = ["▁ i", "▁i s", "P a", "r i", "ri s", "Pa ris", "▁ Paris", *merged]
    merges = [(first, second) for first, second in map(str.split, pairs)]
    tokens = [*SPECIAL, *sorted(set(f"{SPACE}abcdefghijklmnopqrstuvwxyzPFR")), *("".join(pair) for pair in merges)]
    tokenizer = Tokenizer(
        models.BPE(vocab={token: number for number, token in enumerate(tokens)}, merges=merges, unk_token="<unk>")
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
    return in_llamas_way(tokenizer)


def reason(encoded: EncodedPrompt | Skipped) -> str:
    assert isinstance(encoded, Skipped)
    assert encoded.prompt_id == 7
    assert encoded.reason in SKIP_REASONS
    return encoded.reason


def tokens_of(tokenizer: Any, ids: tuple[int, ...]) -> list[str]:
    return [token.replace("Ġ", SPACE) for token in tokenizer.convert_ids_to_tokens(list(ids))]


@pytest.mark.parametrize("end", ["", ".", " ?", '."'])
def test_the_text_is_cut_and_the_space_belongs_to_the_answer(encoder, tokenizer, end):
    encoded = encoder.encode(7, f"The capital of France is [Y]{end}", "Rome")
    assert encoded.ids == tuple(tokenizer("The capital of France is")["input_ids"])
    assert encoded.position == len(encoded.ids) - 1
    assert tokens_of(tokenizer, encoded.answers) == [f"{SPACE}Rome"]
    assert encoded.further == ()
    assert encoder.answer_token("Rome") == encoded.answer


def test_a_start_token_comes_first(metaspace):
    encoded = Encoder(metaspace, Blank.CUT, 12).encode(7, "Rome is in [Y]", "Italy")
    assert tokens_of(metaspace, encoded.ids) == ["<s>", "▁Rome", "▁is", "▁in"]


@pytest.mark.parametrize("answer", ["Parma", "Rome and Paris", "Italian French"])
def test_an_answer_of_several_tokens_is_several_questions(encoder, tokenizer, answer):
    encoded = encoder.encode(7, "The capital is [Y].", answer)
    assert len(encoded.questions) > 1
    whole = tuple(tokenizer(f"The capital is {answer}")["input_ids"])
    assert encoded.ids + encoded.answers == whole
    for number, question in enumerate(encoded.questions):
        assert question.prompt_id == 7
        assert question.ids == whole[: len(encoded.ids) + number]
        assert question.position == len(question.ids) - 1
        assert question.answer == whole[len(question.ids)]
        assert number == 0 or question.further == ()
    assert tokens_of(tokenizer, encoded.answers)[0].startswith(SPACE)
    assert reason(encoder.encode(7, "The capital is [Y].", answer, single_token=True)) == "answer-of-several-tokens"
    assert encoder.answer_token(answer) == "answer-of-several-tokens"


@pytest.mark.parametrize(
    ("text", "answer", "expected"),
    [
        ("They live in Par[Y]", "is", "answer-merges-with-prompt"),
        ("The capital is [Y]", "", "answer-empty"),
        ("The capital is [Y]", " \t", "answer-empty"),
        ("[Y] is the capital", "Rome", "blank-not-last"),
        ("The capital [Y] is in Italy", "Rome", "blank-not-last"),
        ("[Y].", "Rome", "nothing-before-blank"),
        (" [Y]", "Rome", "nothing-before-blank"),
        ("The capital of Italy is" + " Rome" * 9 + " [Y]", "Rome", "prompt-too-long"),
    ],
)
def test_prompts_that_cannot_be_asked(encoder, text, answer, expected):
    assert reason(encoder.encode(7, text, answer)) == expected


def test_the_last_question_has_to_fit_too(encoder, tokenizer):
    text = "Rome is in"
    text += " Italy" * (12 - len(tokenizer(text)["input_ids"]))
    assert len(encoder.encode(7, f"{text} [Y]", "Rome").ids) == 12
    assert reason(encoder.encode(7, f"{text} [Y]", "Rome and Paris")) == "prompt-too-long"
    assert reason(encoder.encode(7, f"{text} Italy [Y]", "Rome")) == "prompt-too-long"
    assert reason(encoder.encode(7, f"{text} Italy [Y]", None)) == "prompt-too-long"


def test_an_open_answer_is_one_question(encoder, tokenizer):
    encoded = encoder.encode(7, "Rome is in [Y].", None)
    assert encoded.ids == tuple(tokenizer("Rome is in")["input_ids"])
    assert encoded.answers == (-1,)


@pytest.mark.parametrize("answer", ["東京", "Rome 東"])
def test_unknown_characters(metaspace, byte_level, answer):
    assert reason(Encoder(metaspace, Blank.CUT, 40).encode(7, "Rome is in [Y]", answer)) == "answer-not-in-vocabulary"
    encoded = Encoder(byte_level, Blank.CUT, 40).encode(7, "Rome is in [Y]", answer)
    assert byte_level.decode(encoded.answers) == f" {answer}"


def test_merges_across_words():
    apart = Encoder(across_words(), Blank.CUT, 20)
    encoded = apart.encode(7, "a is [Y]", "Paris")
    assert encoded.ids + encoded.answers == tuple(across_words()("a is Paris")["input_ids"])
    assert len(encoded.questions) == 1
    merging = Encoder(across_words("▁is ▁Paris"), Blank.CUT, 20)
    assert reason(merging.encode(7, "a is [Y]", "Paris")) == "answer-merges-with-prompt"
    assert isinstance(merging.encode(7, "a is in [Y]", "Paris"), EncodedPrompt)
