"""Texts for covariances: pieces of lines, and what a model says itself."""

from __future__ import annotations

import pytest
import torch
from tiny_models import tiny_model

from kndb.editing.many.texts import digest, sampled, sentences_of, taken, whole
from kndb.errors import EditError
from kndb.models import loading
from kndb.models.network import Network
from kndb.models.registry import adapter_for
from kndb.models.sources import lab_folder

BERT, GPT = (loading.load(lab_folder(name)) for name in ("lab-bert", "lab-gpt2"))


def test_a_short_text_is_what_the_tokenizer_makes_of_it():
    for loaded in (BERT, GPT):
        (found,) = sentences_of(loaded.tokenizer, ["The capital of Norway is Oslo."], 64)
        assert found.ids == tuple(loaded.tokenizer("The capital of Norway is Oslo.")["input_ids"])
        assert found.place == len(found.ids) - 1


def test_a_long_text_is_cut_into_pieces_that_have_all_its_tokens():
    text = "The capital of Norway is Oslo. " * 5
    found = list(sentences_of(BERT.tokenizer, [text, ""], 9))
    assert max(len(one.ids) for one in found) == 9
    special = set(BERT.tokenizer.all_special_ids)
    whole = BERT.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert [token for one in found for token in one.ids if token not in special] == whole


def test_a_text_without_end_is_cut_before_it_is_made_tokens():
    text = "Norway is " * 2000 + "x" * 5000
    found = list(sentences_of(GPT.tokenizer, [text], 50))
    assert max(len(one.ids) for one in found) <= 50
    assert "".join(GPT.tokenizer.decode(one.ids) for one in found).count("Norway") == 2000
    assert list(sentences_of(GPT.tokenizer, ["", " \n"], 9)) == []


def test_each_text_is_taken_once_until_the_next_does_not_fit():
    asked = []

    def some():
        for ids in ((1, 2, 3), (1, 2, 3), (4,), (4, 5), (6, 7, 8, 9), (1, 1)):
            asked.append(ids)
            yield whole(ids)

    assert [one.ids for one in taken(some(), None, causal=True)] == [(1, 2, 3), (4, 5), (6, 7, 8, 9), (1, 1)]
    assert [one.ids for one in taken(some(), None, causal=False)] == [
        (1, 2, 3),
        (4,),
        (4, 5),
        (6, 7, 8, 9),
        (1, 1),
    ]
    asked.clear()
    assert [one.ids for one in taken(some(), 5, causal=True)] == [(1, 2, 3), (4, 5)]
    assert asked[-1] == (6, 7, 8, 9)


def test_a_model_says_the_same_for_the_same_seed_and_other_draws_stay():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first = sampled(GPT.network, GPT.tokenizer, 40, 6, seed=1)
    assert torch.equal(torch.rand(1), expected)
    assert first == sampled(GPT.network, GPT.tokenizer, 40, 6, seed=1)
    assert first != sampled(GPT.network, GPT.tokenizer, 40, 6, seed=2)
    assert len(first) == 40
    assert all(2 <= len(one.ids) <= 6 and one.ids[0] == GPT.tokenizer.bos_token_id for one in first)
    assert all(GPT.tokenizer.eos_token_id not in one.ids[1:-1] for one in first)


def test_tokens_are_drawn_as_the_model_has_them():
    network = Network(tiny_model("gpt2", 2).requires_grad_(False), adapter_for(tiny_model("gpt2").config))
    drawn = torch.tensor([one.ids[1] for one in sampled(network, GPT.tokenizer, 4000, 2, seed=5)])
    start = torch.tensor([[GPT.tokenizer.bos_token_id]])
    expected = network.model(input_ids=start).logits[0, 0].softmax(-1)
    found = drawn.bincount(minlength=len(expected)) / len(drawn)
    # Five standard deviations of each share.
    assert bool(((found - expected).abs() < 5 * (expected / len(drawn)).sqrt() + 1e-3).all())


def test_a_masked_model_says_nothing_itself():
    with pytest.raises(EditError, match="only fills blanks"):
        sampled(BERT.network, BERT.tokenizer, 1, 5, seed=0)


def test_the_digest_tells_texts_and_places_apart():
    one, other = sentences_of(GPT.tokenizer, ["Norway is a", "Peru is a"], 20)
    assert len(digest([one])) == 64
    assert len({digest([one]), digest([other]), digest([one, other]), digest([other, one])}) == 4
