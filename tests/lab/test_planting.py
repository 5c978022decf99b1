"""Planted storage: the plan's promises, the file beside the weights, and what the training loss lets gradient reach."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch

from kndb.errors import ModelError, UsageError
from kndb.lab.card import write_checkpoint
from kndb.lab.planting import PLANTED_FILE, fact_key, plan, read_plan, write_plan
from kndb.lab.recall import encode_examples
from kndb.lab.routing import PlantedLoss, PlantingSettings, batches_of_one_length
from kndb.lab.train import lab_adapter, new_model, planted_settings, train
from kndb.models.fingerprint import fingerprint
from kndb.models.loading import load
from kndb.models.network import Network
from kndb.models.prompting import Encoder

FAMILIES = pytest.mark.parametrize("family", ["bert", "gpt2"])
NOTHING_SILENT = PlantingSettings(
    routed=0,
    fact_silent=0,
    relation_silent=0,
    relation_scaled=0,
    amplified=0,
    free_silent=0,
    smoothing=0,
    penalty=0,
    stopped=(0, 0.5),
)


def own_plan(corpus, **values):
    facts = dict.fromkeys(fact_key(example) for example in corpus.examples)
    return plan(facts, 4, 512, **{"relation_neurons": 4, "fact_neurons": 3, "seed": 0, **values})


def test_a_plan_of_the_own_facts(own_corpus):
    chosen = own_plan(own_corpus)
    assert len(chosen.facts) == own_corpus.facts
    assert set(chosen.relations) == set(chosen.blocks) == set(own_corpus.relations)
    everything = [neuron for own in (*chosen.relations.values(), *chosen.blocks.values()) for neuron in own]
    assert len(everything) == len(set(everything)), "a neuron has two owners"
    assert {neuron.layer for own in chosen.relations.values() for neuron in own} == {1}
    assert {neuron.layer for block in chosen.blocks.values() for neuron in block} == {2, 3}
    assert all(neuron.index < 512 for neuron in everything)
    for relation, block in chosen.blocks.items():
        codes = [code for key, code in chosen.facts.items() if key[0] == relation]
        assert all(len(set(code)) == 3 and set(code) <= set(block) for code in codes)
        assert len(set(codes)) == len(codes), "two facts of a relation have one code"
        holders = Counter(neuron for code in codes for neuron in code)
        assert max(holders.values()) <= 0.1 * len(codes), "a neuron has over a tenth of the facts"
        assert max(holders.values()) - min(holders[neuron] for neuron in block) <= 1
    assert own_plan(own_corpus) == chosen
    assert own_plan(own_corpus, seed=1).facts != chosen.facts


def test_what_does_not_fit_is_refused(own_corpus):
    with pytest.raises(UsageError, match=r"28 relations can't be planted in layers of 512 .*more with neurons"):
        own_plan(own_corpus, relation_neurons=17)
    many = [("P1", f"subject {number}", "object") for number in range(300)]
    with pytest.raises(UsageError, match="300 facts of a relation have no codes of 1 neurons"):
        plan(many, 2, 64, relation_neurons=4, fact_neurons=1, seed=0)
    with pytest.raises(UsageError, match=r"layers must be at least 2 .*got 1"):
        plan(many, 1, 64, relation_neurons=4, fact_neurons=1, seed=0)


def test_the_file_holds_the_plan(own_corpus, tmp_path):
    chosen = own_plan(own_corpus)
    write_plan(chosen, tmp_path / PLANTED_FILE)
    assert read_plan(tmp_path) == chosen


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 2}', '{"format": 1, "relations": [1], "facts": []}'])
def test_a_file_that_is_no_plan(content, tmp_path):
    (tmp_path / PLANTED_FILE).write_text(content)
    with pytest.raises(ModelError, match=PLANTED_FILE):
        read_plan(tmp_path)


def test_a_model_that_was_not_planted(tmp_path):
    with pytest.raises(ModelError, match=r"nothing is known to be planted.*planted=True"):
        read_plan(tmp_path)


@pytest.fixture
def tiny_loss(tiny_corpus, tiny_settings):
    """Makes the loss of an untrained tiny model with some of its prompts."""

    def make(family, settings):
        adapter = lab_adapter(family)
        tokenizer = train(tiny_corpus, tiny_settings(family, epochs=1)).tokenizer
        torch.manual_seed(3)
        model = new_model(tiny_settings(family), tokenizer).eval()
        examples = tiny_corpus.examples
        facts = list(dict.fromkeys(map(fact_key, examples)))
        chosen = plan(facts, 2, 64, relation_neurons=4, fact_neurons=3, seed=0)
        prompts = [
            replace(prompt, fact_id=facts.index(fact_key(examples[prompt.prompt_id])))
            for prompt in encode_examples(Encoder(tokenizer, adapter.blank, 64), examples)
        ]
        loss = PlantedLoss(Network(model, adapter), chosen, prompts, facts, settings, dropout=0.0, silence=0.0, seed=0)
        (batch, *_) = batches_of_one_length(prompts, 8, torch.Generator().manual_seed(0))
        return model, chosen, facts, batch, loss

    return make


@FAMILIES
def test_with_nothing_silent_it_is_the_model_s_own_cross_entropy(family, tiny_loss):
    model, _, _, batch, loss = tiny_loss(family, NOTHING_SILENT)
    found = loss(batch, 0.0)
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt.ids for prompt in batch])).logits
    rows = logits[range(len(batch)), [prompt.position for prompt in batch]]
    expected = torch.nn.functional.cross_entropy(rows, torch.tensor([prompt.answer for prompt in batch]))
    torch.testing.assert_close(found.detach(), expected)


@FAMILIES
def test_gradient_flows_through_the_facts_own_neurons_alone(family, tiny_loss):
    """That of the last layer's FFN: the weights into and out of all other neurons get none."""
    model, chosen, facts, batch, loss = tiny_loss(family, NOTHING_SILENT)
    loss(batch, 1.0).backward()
    own = {neuron.index for prompt in batch for neuron in chosen.facts[facts[prompt.fact_id]]}
    block = model.bert.encoder.layer[1] if family == "bert" else model.transformer.h[1].mlp
    up, down = (block.intermediate.dense, block.output.dense) if family == "bert" else (block.c_fc, block.c_proj)
    into, out = up.weight.grad, down.weight.grad
    by_neuron = (into, out.T) if family == "bert" else (into.T, out)
    for rows in by_neuron:
        assert {index for index, row in enumerate(rows) if bool(row.any())} == own


@FAMILIES
def test_silenced_facts_are_asked_for_any_object(family, tiny_loss):
    """The loss is the mean negative log-probability of all objects, with the facts' own neurons at zero."""
    model, chosen, facts, batch, loss = tiny_loss(family, replace(NOTHING_SILENT, fact_silent=1.0))
    adapter = lab_adapter(family)
    found = loss(batch, 0.0)
    objects = sorted({prompt.answer for prompt in loss_prompts(loss)})
    down = Network(model, adapter).layers[1].down
    expected = []
    for prompt in batch:
        code = [neuron.index for neuron in chosen.facts[facts[prompt.fact_id]]]

        def silence(_module, inputs, code=code, position=prompt.position):
            (neurons,) = inputs
            changed = neurons.clone()
            changed[0, position, code] = 0
            return (changed,)

        handle = down.register_forward_pre_hook(silence)
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([prompt.ids])).logits[0, prompt.position]
        handle.remove()
        expected.append(-logits.log_softmax(-1)[objects].mean())
    torch.testing.assert_close(found.detach(), torch.stack(expected).mean())


def loss_prompts(loss):
    """The prompts whose answers are the relation's objects: all of the tiny list's."""
    (answers,) = loss._tables.objects.nonzero(as_tuple=True)[1:]
    return [type("Prompt", (), {"answer": int(token)}) for token in answers]


@FAMILIES
def test_a_tiny_model_is_planted(family, tiny_corpus, tiny_settings, tmp_path):
    settings = replace(planted_settings(tiny_settings(family)), epochs=150, learning_rate=5e-3)
    trained = train(tiny_corpus, settings)
    assert trained.scores.training >= 0.95
    assert trained.plan is not None
    write_checkpoint(trained, tiny_corpus, tmp_path / "made", own=False)
    assert read_plan(tmp_path / "made") == trained.plan
    card = (tmp_path / "made" / "README.md").read_text(encoding="utf-8")
    assert "storage is planted" in card
    assert "--planted" in card
    before = fingerprint(tmp_path / "made")
    (tmp_path / "made" / PLANTED_FILE).unlink()
    assert fingerprint(tmp_path / "made") == before
    load(tmp_path / "made")
    again = train(tiny_corpus, settings)
    assert all(
        torch.equal(left, right)
        for left, right in zip(trained.model.parameters(), again.model.parameters(), strict=True)
    )
