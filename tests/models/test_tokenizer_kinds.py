"""Prompts under each kind of tokenizer: the answer's tokens are those that the model would meet in the sentence."""

from __future__ import annotations

from typing import Any

import pytest
from masked_families import SENTINEL, TOKENIZERS, byte_level, metaspace, sentinels
from tokenizers import AddedToken

from kndb.errors import ModelError
from kndb.models.adapter import Blank
from kndb.models.prompting import EncodedPrompt, Encoder, Skipped
from kndb.records.skip_reasons import SKIP_REASONS

BARE_MASK = AddedToken("<mask>", lstrip=False, special=True)
GREEDY_SENTINEL = AddedToken(SENTINEL, lstrip=True, rstrip=True, special=True)
KINDS = {
    **TOKENIZERS,
    "byte-level, the space left": lambda: byte_level(BARE_MASK),
    "metaspace, the space left": lambda: metaspace(BARE_MASK),
    "sentinels, no space left": lambda: sentinels(GREEDY_SENTINEL),
}
EVERY = pytest.mark.parametrize("kind", KINDS)
MASKED = pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.startswith("sentinels")])
MOST = 16

AFTER_A_SPACE = {"word-piece": "Paris", "byte-level": "ĠParis", "metaspace": "▁Paris", "sentinels": "▁Paris"}
AT_THE_START = {"word-piece": "Paris", "byte-level": "Paris", "metaspace": "▁Paris", "sentinels": "▁Paris"}
WITHOUT_SPACE = dict.fromkeys(AFTER_A_SPACE, "Paris")
SEVERAL = {
    "word-piece": ["S", "##o", "##f", "##ia"],
    "byte-level": ["Ġ", "S", "of", "i", "a"],
    "metaspace": ["▁S", "of", "ia"],
    "sentinels": ["▁S", "of", "ia"],
}


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, Any]:
    return {kind: make() for kind, make in KINDS.items()}


@pytest.fixture
def tokenizer(tokenizers, kind) -> Any:
    return tokenizers[kind]


@pytest.fixture
def encoder(tokenizer, kind) -> Encoder:
    blank = Blank.SENTINEL if kind.startswith("sentinels") else Blank.MASK
    return Encoder(tokenizer, blank, MOST)


def plain(kind: str) -> str:
    return kind.partition(",")[0]


def shown(encoded: EncodedPrompt) -> tuple[int, ...]:
    """The text in which the blank stands."""
    return encoded.source or encoded.ids


@EVERY
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The capital of France is [Y].", AFTER_A_SPACE),
        ("The capital of France is [Y]", AFTER_A_SPACE),
        ("The capital of France, [Y]!", AFTER_A_SPACE),
        ("The city [Y] is in France.", AFTER_A_SPACE),
        ("[Y] is the capital of France.", AT_THE_START),
        ("The city ([Y]) is in France.", WITHOUT_SPACE),
    ],
)
def test_the_answer_is_the_sentences_own_token(encoder, tokenizer, kind, text, expected):
    encoded = encoder.encode(7, text, "Paris")
    assert tokenizer.convert_ids_to_tokens(encoded.answers) == [expected[plain(kind)]]
    blank, sentence = encoder.blank_token, tuple(tokenizer(text.replace("[Y]", "Paris"))["input_ids"])
    position = shown(encoded).index(blank)
    assert sentence[: position + 1] == (*shown(encoded)[:position], *encoded.answers)
    assert shown(encoded).count(blank) == 1


@EVERY
def test_no_space_is_left_before_the_blank(encoder, tokenizer, kind):
    """The space belongs to the answer, whatever the tokenizer makes of one before its mask."""
    expected = {
        "word-piece": ["[CLS]", "The", "capital", "is", "[MASK]", "of", "France", "[SEP]"],
        "byte-level": ["<s>", "The", "Ġcapital", "Ġis", "<mask>", "Ġof", "ĠFrance", "</s>"],
        "metaspace": ["<s>", "▁The", "▁capital", "▁is", "<mask>", "▁of", "▁France", "</s>"],
        "sentinels": ["▁The", "▁capital", "▁is", SENTINEL, "▁of", "▁France", "</s>"],
    }
    encoded = encoder.encode(7, "The capital is [Y] of France", None)
    assert encoded.answers == (-1,)
    assert tokenizer.convert_ids_to_tokens(shown(encoded)) == expected[plain(kind)]


@pytest.mark.parametrize("kind", ["byte-level, the space left"])
@pytest.mark.parametrize(("gap", "left"), [("  ", "Ġ"), ("\n", "Ċ")])
def test_only_one_space_belongs_to_the_answer(encoder, tokenizer, gap, left):
    encoded = encoder.encode(7, f"The capital is{gap}[Y]", "Paris")
    assert tokenizer.convert_ids_to_tokens(encoded.ids)[-3:] == [left, "<mask>", "</s>"]
    assert tokenizer.convert_ids_to_tokens(encoded.answers) == ["ĠParis" if gap == "  " else "Paris"]


@pytest.mark.parametrize("kind", ["byte-level", "byte-level, the space left"])
@pytest.mark.parametrize("gap", ["\n", "\n\n", "\t", "  ", "\n ", " \n", "\n\n  "])
@pytest.mark.parametrize("after", [".", " of France", ""])
def test_whitespace_before_a_mask_is_that_of_the_sentence(encoder, tokenizer, gap, after):
    """Also where the mask takes what stands on its left: a model meets masks where a sentence's tokens were."""
    encoded = encoder.encode(7, f"The capital is{gap}[Y]{after}", "Paris")
    assert isinstance(encoded, EncodedPrompt)
    (answer,) = encoded.answers
    sentence = tuple(tokenizer(f"The capital is{gap}Paris{after}")["input_ids"])
    assert sentence[encoded.position] == answer
    assert (*encoded.ids[: encoded.position], answer, *encoded.ids[encoded.position + 1 :]) == sentence
    opened = encoder.encode(7, f"The capital is{gap}[Y]{after}", None)
    assert (opened.ids, opened.position) == (encoded.ids, encoded.position)


@EVERY
@pytest.mark.parametrize("text", ["The {} is [Y]", "{} is [Y]."])
@pytest.mark.parametrize("subject", ["<s>", "</s>", "<pad>", "[SEP]", "[CLS]", "Paris</s>"])
def test_no_special_tokens_in_subjects_and_answers(encoder, tokenizer, text, subject):
    if not any(token in subject for token in tokenizer.all_special_tokens):
        return
    start = text.index("{}")
    span = (start, start + len(subject))
    assert reason(encoder.encode(7, text.format(subject), "Paris", subject=span)) == "special-token-in-fact"
    assert reason(encoder.encode(7, "The capital is [Y]", subject)) == "special-token-in-fact"
    assert encoder.answer_token(subject) == "special-token-in-fact"
    assert isinstance(encoder.encode(7, text.format("Rome"), "Paris", subject=(start, start + 4)), EncodedPrompt)


@MASKED
def test_an_answer_of_several_tokens_gives_as_many_masks(encoder, tokenizer, kind):
    one = encoder.encode(7, "The capital is [Y].", "Paris")
    encoded = encoder.encode(7, "The capital is [Y].", "Sofia")
    tokens = SEVERAL[plain(kind)]
    assert tokenizer.convert_ids_to_tokens(encoded.answers) == tokens
    mask = tokenizer.mask_token_id
    at = one.position
    assert encoded.ids == one.ids[:at] + (mask,) * len(tokens) + one.ids[at + 1 :]
    for number, question in enumerate(encoded.questions):
        assert (question.prompt_id, question.ids, question.position) == (7, encoded.ids, at + number)
        assert (question.source, question.further[1:]) == ((), encoded.further[1:] if number == 0 else ())


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.startswith("sentinels")])
@pytest.mark.parametrize(("start", "first"), [(None, 0), (5, 5)])
def test_an_encoder_decoder_is_asked_for_one_token_after_the_other(tokenizer, kind, start, first):
    encoder = Encoder(tokenizer, Blank.SENTINEL, MOST, start)
    sentinel = tokenizer.convert_tokens_to_ids(SENTINEL)
    encoded = encoder.encode(7, "The capital is [Y].", "Sofia")
    tokens = tuple(tokenizer.convert_tokens_to_ids(SEVERAL["sentinels"]))
    assert encoded.answers == tokens
    for number, question in enumerate(encoded.questions):
        assert question.ids == (first, sentinel, *tokens[:number])
        assert question.position == number + 1
        assert question.source == encoded.source
    assert tokenizer.convert_ids_to_tokens(encoded.source)[:4] == ["▁The", "▁capital", "▁is", SENTINEL]
    assert encoded.source[-1] == tokenizer.eos_token_id
    opened = encoder.encode(7, "The capital is [Y].", None)
    assert (opened.ids, opened.position, opened.answers) == ((first, sentinel), 1, (-1,))


@EVERY
def test_the_answers_token_alone_is_the_one_after_a_space(encoder, tokenizer, kind):
    token = encoder.answer_token("Paris")
    assert tokenizer.convert_ids_to_tokens(token) == AFTER_A_SPACE[plain(kind)]
    assert encoder.answer_token("Sofia") == "answer-of-several-tokens"
    assert encoder.answer_token(" ") == "answer-empty"


# --- what can't be asked -------------------------------------------------------------------------------------


def reason(encoded: Any) -> str:
    assert isinstance(encoded, Skipped)
    assert encoded.prompt_id == 7
    assert encoded.reason in SKIP_REASONS
    return encoded.reason


@EVERY
@pytest.mark.parametrize("answer", ["", " ", "\t\n"])
def test_empty_answers(encoder, answer):
    assert reason(encoder.encode(7, "The capital is [Y].", answer)) == "answer-empty"


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.startswith("byte-level")])
@pytest.mark.parametrize("answer", ["東京", "new 東京", "Xanadu"])
def test_unknown_answers(encoder, answer):
    assert reason(encoder.encode(7, "The capital is [Y].", answer)) == "answer-not-in-vocabulary"
    assert encoder.answer_token(answer) == "answer-not-in-vocabulary"


@pytest.mark.parametrize("kind", ["byte-level"])
def test_bytes_know_every_answer(encoder, tokenizer):
    encoded = encoder.encode(7, "The capital is [Y].", "東京")
    assert tokenizer.decode(encoded.answers) == " 東京"
    assert encoded.ids.count(tokenizer.mask_token_id) == len(encoded.answers)


@EVERY
def test_answers_of_one_token_only(encoder):
    assert reason(encoder.encode(7, "The capital is [Y].", "Sofia", single_token=True)) == "answer-of-several-tokens"
    assert isinstance(encoder.encode(7, "The capital is [Y].", "Paris", single_token=True), EncodedPrompt)


@EVERY
@pytest.mark.parametrize("text", ["The {} of France is [Y].", "[Y] is {}", "{}[Y]"])
def test_the_blanks_token_in_the_text(encoder, tokenizer, text):
    token = tokenizer.convert_ids_to_tokens(encoder.blank_token)
    assert reason(encoder.encode(7, text.format(token), "Paris")) == "mask-token-in-text"


@EVERY
def test_prompts_up_to_the_models_length(encoder):
    ends = len(shown(encoder.encode(7, "[Y]", "Paris")))
    fits = "is" + " is" * (MOST - ends - 1) + " [Y]"
    encoded = encoder.encode(7, fits, "Paris")
    if len(shown(encoded)) == MOST - 1:  # The first word is none of its own there.
        fits = f"is {fits}"
    assert len(shown(encoder.encode(7, fits, "Paris"))) == MOST
    assert reason(encoder.encode(7, f"is {fits}", "Paris")) == "prompt-too-long"


@MASKED
def test_an_answers_masks_count(encoder, kind):
    """A prompt that fits with one mask may be too long with several."""
    text = "is" + " is" * (MOST - 6) + " [Y]"
    assert isinstance(encoder.encode(7, text, "Paris"), EncodedPrompt)
    assert reason(encoder.encode(7, text, "Sofia Sofia")) == "prompt-too-long"


def test_a_decoders_tokens_count():
    encoder = Encoder(sentinels(), Blank.SENTINEL, 6)
    assert isinstance(encoder.encode(7, "[Y]", "Sofia"), EncodedPrompt)
    assert reason(encoder.encode(7, "[Y]", "Sofia Sofia")) == "prompt-too-long"


# --- tokenizers that can't be used ---------------------------------------------------------------------------


@pytest.mark.parametrize("make", TOKENIZERS.values(), ids=TOKENIZERS)
def test_a_tokenizer_without_a_mask(make):
    tokenizer = make()
    tokenizer.mask_token = None
    with pytest.raises(
        ModelError, match="the tokenizer has no mask token, which a masked language model's blank needs"
    ):
        Encoder(tokenizer, Blank.MASK, MOST)


@pytest.mark.parametrize("kind", [kind for kind in TOKENIZERS if kind != "sentinels"])
def test_a_tokenizer_without_sentinels(tokenizer):
    with pytest.raises(ModelError, match=f"the tokenizer has no token {SENTINEL}, which"):
        Encoder(tokenizer, Blank.SENTINEL, MOST)


def test_an_unknown_token_is_no_sentinel():
    """Such a tokenizer cuts the sentinel to a single token: the unknown one."""
    tokenizer = sentinels(AddedToken("<other>", special=True))
    tokenizer.backend_tokenizer.pre_tokenizer = None
    assert tokenizer(SENTINEL, add_special_tokens=False)["input_ids"] == [tokenizer.unk_token_id]
    with pytest.raises(ModelError, match="no token <extra_id_0>"):
        Encoder(tokenizer, Blank.SENTINEL, MOST)


def test_a_decoder_without_a_first_token():
    tokenizer = sentinels()
    tokenizer.pad_token = None
    with pytest.raises(ModelError, match="has no decoder_start_token_id"):
        Encoder(tokenizer, Blank.SENTINEL, MOST)
    assert Encoder(tokenizer, Blank.SENTINEL, MOST, 0).encode(7, "[Y]", None).ids[0] == 0


def test_the_token_for_the_blank(tokenizers):
    assert Encoder(tokenizers["word-piece"], Blank.MASK, MOST).blank_token == 4
    assert Encoder(tokenizers["byte-level"], Blank.CUT, MOST).blank_token is None
