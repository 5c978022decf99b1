"""What a registered model is fed: the same to every command; and what it answers, told apart and summed up."""

from __future__ import annotations

import json
import math

import pytest
import torch
from causal_tokenizers import START, save_chat_checkpoint
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import kndb
from kndb.errors import ModelError, UsageError
from kndb.sentences import with_blank_at_end

ASKED = "user\nWhat is in Paris?<|im_end|>\n"
FACTS = [
    {"relation": "R", "template": f"{START}{ASKED}{START}assistant\n[X] is [Y]"},
    {"relation": "R", "template": "Who is in [X]?\n\t[Y]."},
    {"relation": "R", "subject": "Rome", "object": "Paris"},
    {"relation": "R", "subject": "The<|im_end|>", "object": "the capital"},
]


@pytest.fixture
def database(tmp_path):
    folder = save_chat_checkpoint(tmp_path / "model")
    (tmp_path / "facts.jsonl").write_text("".join(json.dumps(one) + "\n" for one in FACTS), encoding="utf-8")
    with kndb.open(tmp_path / "kndb.db") as opened:
        opened.models.add(str(folder), "plain")
        opened.models.add(str(folder), "chatty", chat=True)
        opened.facts.ingest([tmp_path / "facts.jsonl"])
        yield opened


@pytest.fixture
def model(database, tmp_path):
    """The checkpoint as transformers reads it: ids to probabilities over the next token."""
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model").double().eval()

    def probabilities(ids):
        with torch.no_grad():
            return loaded(torch.tensor([list(ids)])).logits[0, -1].softmax(-1)

    return probabilities


@pytest.fixture
def tokenizer(tmp_path, database):
    return AutoTokenizer.from_pretrained(tmp_path / "model")


BY_HAND = f"{START}{ASKED}{START}assistant\nRome is"
WRITTEN = {
    "plain": {f"{BY_HAND} [Y]": BY_HAND, "Who is in Rome?\n\t[Y].": "Who is in Rome?\n\t"},
    "chatty": {
        f"{BY_HAND} [Y]": f"{START}user\n{BY_HAND}<|im_end|>\n{START}assistant\n",
        "Who is in Rome?\n\t[Y].": f"{START}user\nWho is in Rome?<|im_end|>\n{START}assistant\n",
    },
}
"""What one would write down for each prompt."""


@pytest.mark.parametrize("name", WRITTEN)
def test_attribution_ask_and_tokens_are_of_one_text(database, model, tokenizer, name, sql):
    """Attribution's probability, and that of `ask`, are a plain model's after the text that one would write down."""
    report = database.attribution.run(name)
    assert report.skipped == {"special-token-in-fact": 2}
    of_prompts = "FROM prompt_result AS one JOIN prompt ON prompt.id = one.prompt_id WHERE one.skipped IS NULL"
    stored = dict(sql(database, f"SELECT prompt.text, one.probability {of_prompts}"))
    assert stored.keys() == WRITTEN[name].keys()
    for text, written in WRITTEN[name].items():
        expected = model(tokenizer(written)["input_ids"])
        answer = "ĠParis" if written.endswith("is") else "Paris"
        probability = float(expected[tokenizer.convert_tokens_to_ids(answer)])
        assert stored[text] == pytest.approx(probability, rel=1e-4)
        first, *_ = database.models.ask(name, text, top=1)
        assert (first.id, first.probability) == (int(expected.argmax()), pytest.approx(float(expected.max()), rel=1e-4))
        fed = database.models.tokens(name, text, "Paris")
        assert "".join(one.text for one in fed if one.part == "text") == written
        assert [one.token for one in fed if one.part == "answer"] == [answer]


def test_a_chats_run_says_so_in_its_settings(database):
    runs = {name: database.attribution.run(name).run for name in ("plain", "chatty")}
    template = database.models.get("chatty").chat_template
    assert "chat_template" not in runs["plain"].settings
    assert runs["chatty"].settings == {**runs["plain"].settings, "chat_template": template}
    again = database.attribution.run("chatty")
    assert (again.run.id, again.resumed, again.attributed) == (runs["chatty"].id, True, 0)


def test_a_new_answers_token_is_the_one_that_stands_in_the_prompts(database):
    """After a line break an answer has no space."""
    from kndb.database.edits.aim import answer_token
    from kndb.store.facts import prompts

    with database.store.reading() as connection:
        found = prompts(connection, fact_ids=[1])
    version = database.models.load("chatty")
    (spaced, bare) = (version.tokenizer.convert_tokens_to_ids(one) for one in ("ĠRome", "Rome"))
    assert answer_token(version, "Rome") == spaced
    assert answer_token(version, "Rome", [one for one in found if "Who" in one.text]) == bare
    assert answer_token(database.models.load("plain"), "Rome", found[:1]) == spaced


# --- answers -----------------------------------------------------------------------------------------------------


def test_answers_that_look_alike(database, model, tokenizer):
    every = database.models.ask("plain", "The capital is [Y]", top=len(tokenizer))
    assert len(every) == len(tokenizer)
    romes = {one.text: one for one in every if one.token == "Rome"}
    assert romes.keys() == {"Rome", " Rome"}
    expected = model(tokenizer("The capital is")["input_ids"])
    for text, one in romes.items():
        assert one.id == tokenizer.convert_tokens_to_ids(text.replace(" ", "Ġ"))
        assert one.probability == pytest.approx(float(expected[one.id]), rel=1e-4)
    assert sorted(map(repr, romes.values())) == sorted(
        f"Answer({one.text!r}, {one.probability:.4g})" for one in romes.values()
    )


def test_sums_over_spellings(database, model, tokenizer):
    """Over the whole vocabulary, by hand; the most probable spelling stands for all."""
    expected = model(tokenizer("The capital is")["input_ids"])
    sums: dict[str, list[float]] = {}
    for token in range(len(tokenizer)):
        text = tokenizer.decode([token])
        key = str(token) if "\ufffd" in text else text.strip().casefold() or text
        sums.setdefault(key, []).append(float(expected[token]))
    summed = database.models.ask("plain", "The capital is [Y]", top=len(tokenizer), sum_alike=True)
    assert len(summed) == len(sums)
    assert math.fsum(one.probability for one in summed) == pytest.approx(1, abs=1e-5)
    assert [one.probability for one in summed] == sorted((one.probability for one in summed), reverse=True)
    (the,) = [one for one in summed if one.token.casefold() == "the"]
    assert the.spellings == len(sums["the"]) > 2
    assert the.probability == pytest.approx(sum(sums["the"]), rel=1e-4)
    first = max(("the", "The", " the", " The"), key=lambda text: float(expected[tokenizer.encode(text)[0]]))
    assert (the.text, the.id) == (first, tokenizer.encode(first)[0])


@pytest.mark.parametrize("value", [math.nan, math.inf], ids=str)
def test_probabilities_that_are_no_numbers(database, tmp_path, monkeypatch, value):
    """Registering refuses such weights; a dtype or an edit may still make such numbers."""
    monkeypatch.setattr("kndb.models.acceptance._require_finite", lambda path, header: None)
    folder = save_chat_checkpoint(tmp_path / "spoiled", seed=1)
    tensors = load_file(folder / "model.safetensors")
    tensors["transformer.h.1.mlp.c_proj.weight"][0, 0] = value
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    database.models.add(str(folder), "spoiled")
    message = r"spoiled gives probabilities that are not numbers \(NaN or infinity\): its weights hold .*version='base'"
    with pytest.raises(ModelError, match=message):
        database.models.ask("spoiled", "The capital is [Y]")
    for known_only in (False, True):
        with pytest.raises(ModelError, match=message):
            database.attribution.run("spoiled", known_only=known_only)


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("The capital is", "The capital is [Y]"),
        ("The capital is ", "The capital is [Y]"),
        ("assistant\n", "assistant\n[Y]"),
        ("The capital (", "The capital ([Y]"),
        ("首都是", "首都是[Y]"),
        ("首都：", "首都：[Y]"),
        ("수도는", "수도는 [Y]"),
        ("It is 「", "It is 「[Y]"),
    ],
)
def test_a_text_that_just_ends(database, text, asked):
    """For a causal model, the blank may be left out."""
    assert database.models.tokens("plain", text, "Paris") == database.models.tokens("plain", asked, "Paris")
    assert with_blank_at_end(text) == asked


# --- tokens that can't be shown ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "answer", "message"),
    [
        ("[Y] is it", None, "can't be asked: the blank is not the end"),
        ("It [Y] is [Y]", None, "has 2 blanks"),
        ("It is [Y]", " ", "can't be asked for ' ': the answer is empty"),
        ("It is [Y]", "</s>", "holds the text of a special token"),
    ],
)
def test_what_can_not_be_shown(database, text, answer, message):
    with pytest.raises(UsageError, match=message):
        database.models.tokens("plain", text, answer)
