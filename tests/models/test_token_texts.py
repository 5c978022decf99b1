"""What causal models are fed before a blank, by each kind of tokenizer: against what the tokenizer itself says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from causal_tokenizers import END, KINDS, START, TURN, WORDS_WITH_WHAT_PRECEDES, byte_level, with_byte_fallback
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

from kndb.models.adapter import Blank
from kndb.models.families.gpt2 import GPT2
from kndb.models.network import Network
from kndb.models.prompting import EncodedPrompt, Encoder, Skipped
from kndb.models.token_texts import WORDS, TokenTexts

ROOT = Path(__file__).parents[2]
EVERY = pytest.mark.parametrize("kind", KINDS)
MOST = 400
GAPS = ["", " ", "  ", "   ", "\n", "\n\n", "\t", " \n", "\n ", "\n  ", "\u3000", "\n\t", "\t "]
PARTS = ["The", "the", "Paris", "Rome", "is", "a", "capital", "assistant", "(", ".", "1", "首都是", *GAPS[1:]]
TEXTS = some.builds(
    lambda first, rest, gap: first + "".join(rest) + gap,
    some.sampled_from(["The", "Rome", "首"]),
    some.lists(some.sampled_from(PARTS), max_size=8),
    some.sampled_from(GAPS),
)
EXAMPLES = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, Any]:
    return {kind: make() for kind, make in KINDS.items()}


def read(tokenizer: Any, ids: tuple[int, ...]) -> str:
    """The text of what is fed, without what the tokenizer adds at its start."""
    start = tokenizer.bos_token_id
    text = tokenizer.decode(list(ids[1:] if ids[:1] == (start,) else ids), clean_up_tokenization_spaces=False)
    return str(text).removeprefix(" ")


def tokens_of(tokenizer: Any, text: str) -> tuple[int, ...]:
    """A text's tokens by the tokenizer itself, and the start if it adds one; never an end."""
    starts = tokenizer("Rome")["input_ids"][0] == tokenizer.bos_token_id
    plain = tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
    return ((tokenizer.bos_token_id,) if starts else ()) + plain


def fed(tokenizer: Any, before: str) -> tuple[int, ...]:
    encoded = Encoder(tokenizer, Blank.CUT, MOST).encode(7, f"{before}[Y].", None)
    assert isinstance(encoded, EncodedPrompt)
    assert encoded.position == len(encoded.ids) - 1
    return encoded.ids


def ends(tokenizer: Any, text: str, length: int) -> set[str]:
    """Where tokens of a text end, as the texts up to there, from a length on."""
    ids = tokens_of(tokenizer, text)
    stops = [read(tokenizer, ids[:stop]) for stop in range(len(ids))]
    return {one for one in stops if len(one) >= length}


@EVERY
@EXAMPLES
@given(before=TEXTS)
def test_what_is_fed_is_the_text_before_the_blank(tokenizers, kind, before):
    """Exactly; but one space at its end goes where no token of a word begins after it."""
    tokenizer = tokenizers[kind]
    ids = fed(tokenizer, before)
    found = read(tokenizer, ids)
    assert found == before or f"{found} " == before
    assert ids[-1] != tokenizer.eos_token_id
    shared = [ends(tokenizer, f"{before}{word}", len(before) - 1) for word in WORDS]
    if before.endswith(" ") and any(before not in one and before[:-1] in one for one in shared):
        assert found == before[:-1]
    elif any(before in one for one in shared):
        assert found == before


@EVERY
@EXAMPLES
@given(before=TEXTS, answer=some.sampled_from(["Paris", "Rome", "N", "巴黎", "東", "1", "the capital"]))
def test_prompt_and_answer_are_the_whole_texts_tokens(tokenizers, kind, before, answer):
    """What is fed is the same for every answer; and no tokenizer that appends an end makes answers merge."""
    tokenizer = tokenizers[kind]
    ids, whole = fed(tokenizer, before), tokens_of(tokenizer, f"{before}{answer}")
    encoded = Encoder(tokenizer, Blank.CUT, MOST).encode(7, f"{before}[Y]", answer)
    if whole[: len(ids)] == ids:
        assert isinstance(encoded, EncodedPrompt)
        assert (encoded.ids, encoded.answers) == (ids, whole[len(ids) :])
    else:
        assert encoded == Skipped(7, "answer-merges-with-prompt")


@EVERY
def test_ordinary_prompts_are_cut_before_their_space(tokenizers, kind):
    tokenizer = tokenizers[kind]
    ids = fed(tokenizer, "The capital of Rome is ")
    if kind == "letters":
        assert ids == tokens_of(tokenizer, "The capital of Rome is ")
    else:
        assert ids == tokens_of(tokenizer, "The capital of Rome is")


@EVERY
@pytest.mark.parametrize("before", ["The capital is ", "assistant\n", "The\n\n", "Rome is  ", "The (", "The\t"])
def test_the_probability_of_an_answer_is_the_models_own(tokenizers, kind, before):
    """Kndb's numbers at what it feeds are those of a plain forward pass over the text that one would write down."""
    tokenizer = tokenizers[kind]
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(tokenizer), n_positions=60, n_embd=16, n_layer=2, n_head=2)
    model = GPT2LMHeadModel(config).double().eval()
    encoded = Encoder(tokenizer, Blank.CUT, 60).encode(0, f"{before}[Y]", "Paris")
    assert isinstance(encoded, EncodedPrompt), encoded
    whole = tokens_of(tokenizer, f"{before}Paris")
    with torch.no_grad():
        rows = model(input_ids=torch.tensor([whole])).logits[0].log_softmax(-1)
        of_text = sum(float(rows[place - 1, whole[place]]) for place in range(len(encoded.ids), len(whole)))
        from kndb.models.answers import answer_logits

        own = answer_logits(Network(model, GPT2), encoded.questions).log_softmax(-1)
    of_kndb = sum(float(row[question.answer]) for row, question in zip(own, encoded.questions, strict=True))
    assert of_kndb == pytest.approx(of_text, rel=1e-9)


# --- single cases --------------------------------------------------------------------------------------------


def pieces(tokenizer: Any, ids: tuple[int, ...]) -> list[str]:
    return list(tokenizer.convert_ids_to_tokens(list(ids)))


def test_a_line_break_stays_and_the_answer_has_none():
    tokenizer = byte_level((START,), (END,))
    encoded = Encoder(tokenizer, Blank.CUT, MOST).encode(0, "<|im_end|>assistant\n[Y]", "Paris")
    assert pieces(tokenizer, encoded.ids)[-1] == "Ċ"
    assert pieces(tokenizer, encoded.answers) == ["Paris"]


def test_line_breaks_are_cut_as_they_are_before_a_word():
    """At a text's end two are one token, before a word they are two."""
    tokenizer = byte_level()
    alone, before_word = tokens_of(tokenizer, "Rome\n\n"), tokens_of(tokenizer, "Rome\n\nParis")
    assert pieces(tokenizer, alone)[-1] == "ĊĊ"
    assert pieces(tokenizer, before_word)[-3:] == ["Ċ", "Ċ", "Paris"]
    assert fed(tokenizer, "Rome\n\n") == before_word[:-1]


def test_which_space_of_two_belongs_to_the_answer():
    joined = byte_level()
    assert pieces(joined, fed(joined, "Rome  "))[-1] == "Ġ"
    # Here two spaces are one token, and a word after them has none.
    apart = with_byte_fallback()
    assert pieces(apart, fed(apart, "Rome  ")) == ["▁Rome", "▁▁"]
    encoded = Encoder(apart, Blank.CUT, MOST).encode(0, "Rome  [Y]", "Paris")
    assert pieces(apart, encoded.answers) == ["Paris"]


def test_a_tab_stays_even_where_words_would_take_it():
    tokenizer = byte_level(split=WORDS_WITH_WHAT_PRECEDES)
    assert read(tokenizer, fed(tokenizer, "Rome is\t")) == "Rome is\t"


def test_bytes_of_an_answer():
    tokenizer = with_byte_fallback((START,))
    encoded = Encoder(tokenizer, Blank.CUT, MOST).encode(0, "Rome is ([Y]", "東")
    assert pieces(tokenizer, encoded.answers) == ["<0xE6>", "<0x9D>", "<0xB1>"]
    spaced = Encoder(tokenizer, Blank.CUT, MOST).encode(0, "Rome is [Y]", "東")
    assert pieces(tokenizer, spaced.answers) == ["▁", "<0xE6>", "<0x9D>", "<0xB1>"]


def test_a_start_that_the_text_has_itself_is_not_doubled():
    tokenizer = byte_level((START,), (END,))
    assert fed(tokenizer, "<s>Rome is ") == fed(tokenizer, "Rome is ")
    assert fed(tokenizer, "<|im_end|>Rome is ")[0] == tokenizer.bos_token_id


@EVERY
def test_what_a_tokenizer_adds(tokenizers, kind):
    tokenizer = tokenizers[kind]
    start, end = TokenTexts(tokenizer).added
    assert (*start, *tokenizer("Rome", add_special_tokens=False)["input_ids"], *end) == tuple(
        tokenizer("Rome")["input_ids"]
    )
    assert bool(end) == ("end" in kind)


@EVERY
def test_the_exact_text_of_each_token(tokenizers, kind):
    """Tokens that look alike have texts of their own, and together they are the sentence."""
    tokenizer = tokenizers[kind]
    texts = TokenTexts(tokenizer)
    ids = texts.bare("The capital is Rome (Rome)")
    assert "".join(texts.exact(ids)).strip() == "The capital is Rome (Rome)"
    if kind != "letters":
        alike = [one for one in texts.exact(ids) if one.strip() == "Rome"]
        assert alike == [" Rome", "Rome"] or kind.startswith("byte fallback")
    (part,) = texts.exact(texts.bare("(東")[1:2])
    assert part != "�"


def test_a_text_that_a_tokenizer_has_no_tokens_for(tokenizers):
    """Some tokenizers have neither bytes nor an unknown token, and raise an error."""
    encoder = Encoder(tokenizers["unigram"], Blank.CUT, MOST)
    assert encoder.encode(7, "The ☃ is [Y]", "Rome") == Skipped(7, "text-not-in-vocabulary")
    assert encoder.encode(7, "The capital is [Y]", "☃") == Skipped(7, "text-not-in-vocabulary")
    assert encoder.answer_token("☃") == "answer-not-in-vocabulary"


# --- special tokens ------------------------------------------------------------------------------------------


@EVERY
@pytest.mark.parametrize("subject", [TURN, "a</s>a", "<s>", "Rome<|im_end|>"])
def test_a_subject_is_no_special_token(tokenizers, kind, subject):
    encoder = Encoder(tokenizers[kind], Blank.CUT, MOST)
    text = f"The {subject} is [Y]"
    span = (4, 4 + len(subject))
    assert encoder.encode(7, text, "Paris", subject=span) == Skipped(7, "special-token-in-fact")
    assert encoder.encode(7, text, None, subject=span) == Skipped(7, "special-token-in-fact")
    # Whoever writes the template may mean it.
    special = tokenizers[kind].convert_tokens_to_ids(TURN)
    templated = encoder.encode(7, f"The {TURN}Rome is [Y]", "Paris", subject=(14, 18))
    assert special in templated.ids


def test_a_subject_that_makes_a_special_token_with_its_template():
    encoder = Encoder(byte_level(), Blank.CUT, MOST)
    assert encoder.encode(7, "<|im_end|> is [Y]", "Rome", subject=(4, 10)) == Skipped(7, "special-token-in-fact")
    assert isinstance(encoder.encode(7, "<|im_end|>im_end is [Y]", "Rome", subject=(10, 16)), EncodedPrompt)


@EVERY
@pytest.mark.parametrize("answer", [TURN, "Paris</s>", "<s>"])
def test_an_answer_is_no_special_token(tokenizers, kind, answer):
    encoder = Encoder(tokenizers[kind], Blank.CUT, MOST)
    assert encoder.encode(7, "The capital is [Y]", answer) == Skipped(7, "special-token-in-fact")
    assert encoder.answer_token(answer) == "special-token-in-fact"


# --- ordinary prompts --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shipped() -> list[tuple[str, str]]:
    """Every template of the shipped facts, filled with a few of its facts, with the answers."""
    found = []
    for path in sorted((ROOT / "data" / "facts").glob("*.jsonl")):
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        facts = [row for row in rows if "subject" in row][:4]
        for template in [row["template"] for row in rows if "template" in row]:
            found += [(template.replace("[X]", fact["subject"]), fact["object"]) for fact in facts]
    return found


def test_the_lab_models_are_fed_what_they_always_were(shipped):
    """Results of older stores stay those of the same tokens."""
    masked, causal = (AutoTokenizer.from_pretrained(ROOT / "data" / name) for name in ("lab-bert", "lab-gpt2"))
    of_mask, of_cut = Encoder(masked, Blank.MASK, MOST), Encoder(causal, Blank.CUT, MOST)
    asked = 0
    for text, answer in shipped:
        encoded = of_mask.encode(0, text, answer)
        ids = masked(text.replace(" [Y]", "[Y]").replace("[Y]", "[MASK]"))["input_ids"]
        place = ids.index(masked.mask_token_id)
        answers = masked(answer, add_special_tokens=False)["input_ids"]
        assert list(encoded.ids) == [*ids[:place], *[ids[place]] * len(answers), *ids[place + 1 :]]
        assert list(encoded.answers) == answers
        cut = of_cut.encode(0, text, answer)
        before, blank, after = text.partition(" [Y]")
        if blank and not after.strip(" ."):
            asked += 1
            assert list(cut.ids) == causal(before)["input_ids"]
            assert [*cut.ids, *cut.answers] == causal(f"{before} {answer}")["input_ids"]
        else:
            assert isinstance(cut, Skipped)
    assert asked > len(shipped) / 2 > 200
