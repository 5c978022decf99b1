"""Settings that are tried: shares against whole forward passes, and the model as it was afterwards."""

from __future__ import annotations

import pytest
import torch
from tiny_models import tiny_model

from kndb.editing.many import covariance as covariances
from kndb.editing.many.choosing import Tried, most_probable, try_settings
from kndb.editing.many.layerwise import change_layers
from kndb.editing.many.sentences import Rewrite, Sentence
from kndb.editing.many.workspace import Workspace
from kndb.errors import EditError
from kndb.models.network import Network
from kndb.models.registry import adapter_for
from kndb.records.many_settings import MemitSettings, TargetSettings

SEARCH = TargetSettings(steps=15, bound=20.0, decay=0.0)
FACTS = [
    Rewrite((Sentence((5, 9, 4, 33, 7), 4, (4,), (11,)),)),
    Rewrite((Sentence((8, 21, 14), 2, (2,), (23,)),)),
]
ASKED = [Sentence((5, 2, 4, 33, 7), 4, (4,), (11,)), Sentence((8, 20, 14), 2, (1, 2), (5, 23))]


@pytest.fixture(scope="module")
def network() -> Network:
    model = tiny_model("gpt2", 4).requires_grad_(False).eval()
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter *= 4
    return Network(model, adapter_for(model.config))


def others(count: int = 20) -> list[Sentence]:
    generator = torch.Generator().manual_seed(1)
    drawn = [tuple(torch.randint(1, 50, (6,), generator=generator).tolist()) for _ in range(count)]
    return [Sentence(ids, 2, (5,), (-1,)) for ids in drawn]


def counted(network: Network) -> dict[int, covariances.Covariance]:
    origin = covariances.Origin("f" * 64, "v1", "texts", "every", 20, "0" * 64)
    begun = {layer: covariances.empty(layer, network.neurons, origin) for layer in range(3)}
    return covariances.count_keys(network, others(), begun)


def by_the_whole_model(network: Network, sentence: Sentence) -> tuple[int, ...]:
    logits = network.model(input_ids=torch.tensor([sentence.ids])).logits[0]
    return tuple(logits[list(sentence.reads)].argmax(-1).tolist())


def test_the_most_probable_tokens_are_the_models_own(network):
    asked = [*ASKED, *others()]
    assert most_probable(network, asked) == [by_the_whole_model(network, one) for one in asked]


def test_shares_are_those_of_the_edited_model_and_the_best_comes_first(network):
    before = [value.clone() for value in network.model.parameters()]
    counts = counted(network)
    candidates = [MemitSettings(layers=(layer,), token="answer", target=SEARCH) for layer in range(3)]
    found = try_settings(network, candidates, {"answer": FACTS}, ASKED, others(), counts)
    assert all(torch.equal(one, two) for one, two in zip(before, network.model.parameters(), strict=True))
    assert {one.settings for one in found} == set(candidates)
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    unedited = [by_the_whole_model(network, one) for one in others()]
    for one in found:
        with Workspace(network) as workspace:
            change_layers(workspace, FACTS, one.settings.layers, one.settings, counts)
            won = sum(by_the_whole_model(network, sentence) == sentence.answers for sentence in ASKED)
            kept = sum(by_the_whole_model(network, other) == old for other, old in zip(others(), unedited, strict=True))
        assert (one.success, one.kept) == (won / len(ASKED), kept / len(unedited))


def test_the_score_is_the_harmonic_mean():
    assert Tried(MemitSettings(), 0.5, 1.0).score == pytest.approx(2 / 3)
    assert Tried(MemitSettings(), 0.0, 1.0).score == 0


def test_a_candidate_without_layers_is_refused(network):
    with pytest.raises(EditError, match="needs layers and a token"):
        try_settings(network, [MemitSettings()], {"answer": FACTS}, ASKED, others(), {})
