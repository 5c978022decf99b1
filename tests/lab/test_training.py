"""Training: a tiny model learns a tiny list, the same one each time; and its checkpoint is an ordinary one."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from tiny_models import down_projections

from kndb.errors import UsageError
from kndb.lab.card import write_checkpoint
from kndb.lab.corpus import build_corpus
from kndb.lab.train import TrainingSettings, train
from kndb.models.acceptance import describe
from kndb.models.fingerprint import fingerprint
from kndb.models.loading import load
from kndb.models.prompting import Encoder
from kndb.records.facts import FactRecord, TemplateRecord

FAMILIES = pytest.mark.parametrize("family", ["bert", "gpt2"])


def accuracy(model, encoder: Encoder, examples) -> float:
    """The share of answers that come first, by single runs of the whole model."""
    right = 0
    for example in examples:
        prompt = encoder.encode(0, example.text, example.answer)
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([prompt.ids])).logits[0, prompt.position]
        right += int(logits.argmax()) == prompt.answer
    return right / len(examples)


def same_weights(left, right) -> bool:
    pairs = zip(left.model.state_dict().items(), right.model.state_dict().items(), strict=True)
    return all(name == other and torch.equal(tensor, tensor2) for (name, tensor), (other, tensor2) in pairs)


@FAMILIES
def test_a_tiny_model_learns_a_tiny_list(tiny_corpus, tiny_settings, family, tmp_path):
    steps = []
    trained = train(tiny_corpus, tiny_settings(family, epochs=250), lambda *step: steps.append(step))
    training = [example for example in tiny_corpus.examples if not example.held_out]
    held_out = [example for example in tiny_corpus.examples if example.held_out]
    assert trained.scores.training >= 0.95
    assert (trained.scores.training_prompts, trained.scores.held_out_prompts, trained.scores.skipped) == (24, 8, 0)
    assert [step[:2] for step in steps] == [(number + 1, 250) for number in range(250)]
    assert steps[-1][2] < 0.6 * steps[0][2]
    assert not trained.model.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in trained.model.modules())

    write_checkpoint(trained, tiny_corpus, tmp_path / "made", own=False)
    loaded = load(tmp_path / "made")
    assert accuracy(loaded.model, loaded.encoder, training) == trained.scores.training
    assert accuracy(loaded.model, loaded.encoder, held_out) == trained.scores.held_out


@FAMILIES
def test_the_seed_decides_everything(tiny_corpus, tiny_settings, family):
    torch.manual_seed(1)
    first = train(tiny_corpus, tiny_settings(family))
    torch.manual_seed(2)
    torch.rand(7)
    assert same_weights(train(tiny_corpus, tiny_settings(family)), first)
    assert not same_weights(train(tiny_corpus, tiny_settings(family, seed=1)), first)


@FAMILIES
def test_held_out_prompts_are_not_trained_on(tiny_corpus, tiny_settings, family):
    """Other answers in the held-out prompts give the same weights: nothing of them reaches the training."""
    answers = [example.answer for example in tiny_corpus.examples if example.held_out]
    swapped = iter(answers[1:] + answers[:1])
    other = replace(
        tiny_corpus,
        examples=tuple(
            replace(example, answer=next(swapped)) if example.held_out else example for example in tiny_corpus.examples
        ),
    )
    assert other != tiny_corpus
    first, second = train(tiny_corpus, tiny_settings(family)), train(other, tiny_settings(family))
    assert first.tokenizer.get_vocab() == second.tokenizer.get_vocab()
    assert same_weights(first, second)


@FAMILIES
def test_sizes_are_the_settings(tiny_corpus, tiny_settings, family, tmp_path):
    trained = train(tiny_corpus, tiny_settings(family, epochs=1))
    write_checkpoint(trained, tiny_corpus, tmp_path / "made", own=False)
    found = describe(tmp_path / "made")
    assert (found.family, found.layers, found.neurons) == (family, 2, 64)
    assert {tuple(sorted(module.weight.shape)) for module in down_projections(trained.model)} == {(32, 64)}
    assert trained.model.config.vocab_size == len(trained.tokenizer) <= 400
    summary = trained.summary()
    assert (summary["family"], summary["epochs"], summary["layers"]) == (family, 1, 2)
    assert summary["training_prompts"] == 24


def test_a_list_without_held_out_templates(tiny_list, tiny_settings):
    file = replace(tiny_list, templates=tuple(t for t in tiny_list.templates if not t.held_out))
    scores = train(build_corpus([file]), tiny_settings("gpt2", epochs=1)).scores
    assert math.isnan(scores.held_out)
    assert scores.held_out_prompts == 0


def test_prompts_that_can_not_be_asked_are_counted(tiny_list, tiny_settings):
    file = replace(tiny_list, facts=(*tiny_list.facts, FactRecord("P1", "Ida", "New York")))
    scores = train(build_corpus([file]), tiny_settings("bert", epochs=1)).scores
    assert (scores.training_prompts, scores.held_out_prompts, scores.skipped) == (24, 8, 4)


def test_a_list_of_which_nothing_can_be_asked(tiny_list, tiny_settings):
    answers = replace(tiny_list, facts=(FactRecord("P1", "Ida", "New York"),))
    with pytest.raises(UsageError, match="answer of one token; use shorter answers"):
        train(build_corpus([answers]), tiny_settings("bert", epochs=1))
    blank_first = replace(tiny_list, templates=(TemplateRecord("P1", "[Y] is where [X] lives."),))
    with pytest.raises(UsageError, match="no prompt of this list"):
        train(build_corpus([blank_first]), tiny_settings("gpt2", epochs=1))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"family": "t5"}, "family must be one of bert, gpt2 .got 't5'"),
        ({"family": "bert", "width": 30, "heads": 4}, "30 .*4 heads"),
    ],
)
def test_settings_that_make_no_sense(values, message):
    with pytest.raises(UsageError, match=message):
        TrainingSettings(**values)


@FAMILIES
def test_a_checkpoint_is_replaced_as_a_whole(tiny_corpus, tiny_settings, family, tmp_path):
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "old-file").write_text("of an older checkpoint")
    trained = train(tiny_corpus, tiny_settings(family, epochs=1))
    write_checkpoint(trained, tiny_corpus, folder, own=False)
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
    names = {path.name for path in folder.iterdir()}
    assert names >= {"README.md", "config.json", "model.safetensors", "tokenizer.json"}
    assert "old-file" not in names
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert f"kndb lab train --family {family} --out made --epochs 1 --seed 0" in card
    assert "8 facts" in card
    before = fingerprint(folder)
    write_checkpoint(trained, tiny_corpus, folder, own=False)
    assert fingerprint(folder) == before
