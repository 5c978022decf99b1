"""The lab's tokenizers: answers of one word are one token, and any text can be encoded."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kndb.lab.tokenizers import byte_pair, wordpiece
from kndb.lab.train import TrainingSettings
from kndb.models.adapter import Blank
from kndb.models.prompting import EncodedPrompt, Encoder

ANY_TEXT = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def words(own_corpus):
    return wordpiece(own_corpus, TrainingSettings("bert").vocabulary)


@pytest.fixture(scope="module")
def bytes_(own_corpus):
    return byte_pair(own_corpus, TrainingSettings("gpt2").vocabulary)


def one_word_answers(corpus) -> list[str]:
    answers = sorted({example.answer for example in corpus.examples if example.answer.isalnum()})
    assert len(answers) > 100
    return answers


def test_one_word_answers_are_one_token_of_wordpiece(own_corpus, words):
    for answer in one_word_answers(own_corpus):
        assert words.tokenize(answer) == [answer]


def test_one_word_answers_are_one_token_of_byte_pairs(own_corpus, bytes_):
    for answer in one_word_answers(own_corpus):
        (token,) = bytes_(f" {answer}")["input_ids"]
        assert bytes_.decode([token]) == f" {answer}"


@pytest.mark.parametrize(("blank", "name"), [(Blank.MASK, "words"), (Blank.CUT, "bytes_")])
def test_every_prompt_of_the_own_list_can_be_asked(own_corpus, request, blank, name):
    encoder = Encoder(request.getfixturevalue(name), blank, 64)
    prompts = own_corpus.usable(blank)[::7]
    encoded = [encoder.encode(0, example.text, example.answer) for example in prompts]
    assert len(encoded) > 1000
    assert all(isinstance(prompt, EncodedPrompt) for prompt in encoded)


def test_sizes(own_corpus, words, bytes_):
    assert len(words) <= TrainingSettings("bert").vocabulary
    assert len(bytes_) <= TrainingSettings("gpt2").vocabulary
    assert words.convert_ids_to_tokens(range(5)) == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert words.mask_token_id == 4
    assert bytes_.convert_ids_to_tokens(0) == "<|endoftext|>"


def test_known_characters_are_never_unknown(own_corpus, words):
    texts = {example.text.replace("[Y]", example.answer) for example in own_corpus.examples}
    for character in sorted(set().union(*texts)):
        if not character.isspace():
            assert words.unk_token_id not in words(f"x{character}")["input_ids"]


@ANY_TEXT
@given(text=st.text())
def test_byte_pairs_spell_any_text(bytes_, text):
    ids = bytes_(text, add_special_tokens=False)["input_ids"]
    assert bytes_.backend_tokenizer.decode(ids, skip_special_tokens=False) == text


@ANY_TEXT
@given(text=st.text())
def test_wordpiece_takes_any_text(words, text):
    ids = words(text)["input_ids"]
    assert (ids[0], ids[-1]) == (words.cls_token_id, words.sep_token_id)
    assert all(0 <= token < len(words) for token in ids)


def test_the_same_corpus_gives_the_same_tokenizer(tiny_corpus):
    for make in (wordpiece, byte_pair):
        first, second = (make(tiny_corpus, 400).backend_tokenizer.to_str() for _ in range(2))
        assert first == second


def test_answers_come_before_frequent_words_where_room_is_short(tiny_corpus):
    tokenizer = wordpiece(tiny_corpus, 10)
    for example in tiny_corpus.examples:
        assert tokenizer.tokenize(example.answer) == [example.answer]
    assert len(tokenizer.tokenize("lives")) > 1
