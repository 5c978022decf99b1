"""The other kinds of score against their definitions, computed by whole models with hooks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_models import activations, down_projections, probability

from kndb.attribution.engine import Engine
from kndb.attribution.methods import METHODS, find_method
from kndb.attribution.quadrature import Quadrature
from kndb.attribution.settings import AttributionSettings
from kndb.errors import UsageError

FAMILIES = pytest.mark.parametrize("family", ["bert", "gpt2"])


def scores_of(case, method, batch_size=None, **settings):
    """All scores of each prompt, [L, n], positive and negative."""
    settings = AttributionSettings(
        Quadrature.choose("radau", 3), floor=0.0, method=method, negative=True, batch_size=batch_size, **settings
    )
    shape = len(case.network.layers), case.network.neurons
    found = {prompt.prompt_id: torch.zeros(shape, dtype=torch.float64) for prompt in case.prompts}
    results = {}
    for batch in Engine(case.network, str, settings).run(case.prompts):
        results |= {result.prompt_id: result for result in batch.results}
        columns = batch.scores
        for owner, layer, neuron, score in zip(
            columns.prompt_ids, columns.layers, columns.neurons, columns.scores, strict=True
        ):
            found[owner][layer, neuron] = score
    return results, found


@FAMILIES
def test_activations_are_what_enters_the_down_projection(make_case, family):
    case = make_case(family, 41, [4, 6, 6])
    results, found = scores_of(case, "activation")
    for prompt in case.prompts:
        expected = activations(case.exact, prompt.ids, prompt.position)
        torch.testing.assert_close(found[prompt.prompt_id], expected, rtol=1e-4, atol=1e-6)
        result = results[prompt.prompt_id]
        assert (result.evaluations, result.completeness_error) == (0, None)
        assert result.max_score == pytest.approx(float(expected.max()), rel=1e-4)
        assert result.min_score == pytest.approx(float(expected.min()), rel=1e-4)


@FAMILIES
def test_gradient_times_activation(make_case, family):
    case = make_case(family, 42, [4, 6, 6])
    results, found = scores_of(case, "gradient-x-activation")
    for prompt in case.prompts:
        expected = []
        for layer, base in enumerate(activations(case.exact, prompt.ids, prompt.position)):
            rows = base.clone().requires_grad_()
            value = probability(case.exact, prompt.ids, prompt.position, prompt.answer, layer, rows)
            expected.append(base * torch.autograd.grad(value, rows)[0])
        scale = torch.stack(expected).abs().max()
        torch.testing.assert_close(found[prompt.prompt_id] / scale, torch.stack(expected) / scale, rtol=1e-4, atol=1e-5)
        assert results[prompt.prompt_id].evaluations == 1


def head_of(model, rows: torch.Tensor) -> torch.Tensor:
    """Logits that a model's head reads from the residual stream."""
    if hasattr(model, "bert"):
        return model.cls(rows)
    return model.lm_head(model.transformer.ln_f(rows))


def residual_of(model, layer: int, prompt) -> torch.Tensor:
    """What a layer's FFN output is added to at the answer position, [d]."""
    found = []
    ids = torch.tensor([prompt.ids])
    if hasattr(model, "bert"):
        module = model.bert.encoder.layer[layer].attention.output
        handle = module.register_forward_hook(lambda _module, _inputs, output: found.append(output))
    else:
        module = model.transformer.h[layer].ln_2
        handle = module.register_forward_pre_hook(lambda _module, inputs: found.append(inputs[0]))
    with torch.no_grad():
        model(input_ids=ids)
    handle.remove()
    return found[0][0, prompt.position]


@FAMILIES
def test_log_probability_increase(make_case, family):
    case = make_case(family, 43, [4, 6], layers=2, neurons=20)
    _, found = scores_of(case, "log-probability-increase")
    for prompt in case.prompts:
        for layer, base in enumerate(activations(case.exact, prompt.ids, prompt.position)):
            residual = residual_of(case.exact, layer, prompt)
            weight = down_projections(case.exact)[layer].weight
            for neuron in range(20):
                slot = weight[:, neuron] if family == "bert" else weight[neuron]
                rows = torch.stack([residual, residual + base[neuron] * slot])
                if family == "bert":
                    rows = case.exact.bert.encoder.layer[layer].output.LayerNorm(rows)
                log_probabilities = head_of(case.exact, rows).log_softmax(-1)[:, prompt.answer]
                expected = float(log_probabilities[1] - log_probabilities[0])
                assert float(found[prompt.prompt_id][layer, neuron]) == pytest.approx(expected, rel=1e-3, abs=1e-5)


@FAMILIES
def test_random_scores_follow_the_seed_and_the_fact_alone(make_case, family):
    case = make_case(family, 44, [4, 6, 6, 4])
    case.prompts = [replace(prompt, fact_id=number // 2) for number, prompt in enumerate(case.prompts)]
    _, found = scores_of(case, "random", seed=5)
    for batch_size in (1, 3):
        again = scores_of(case, "random", batch_size, seed=5)[1]
        assert all(torch.equal(found[key], again[key]) for key in found)
    first, second, third, fourth = (found[prompt.prompt_id] for prompt in case.prompts)
    assert torch.equal(first, second)
    assert torch.equal(third, fourth)
    assert not torch.equal(first, third)
    other = scores_of(case, "random", seed=6)[1]
    assert not torch.equal(other[case.prompts[0].prompt_id], first)


def test_random_coarse_sets_hold_about_five_neurons(make_case):
    case = make_case("bert", 45, [4] * 200, layers=1, neurons=300)
    case.prompts = [replace(prompt, fact_id=prompt.prompt_id) for prompt in case.prompts]
    _, found = scores_of(case, "random")
    sizes = torch.tensor([float((scores >= 0.2 * scores.max()).sum()) for scores in found.values()])
    assert 4 < float(sizes.mean()) < 6.5


@pytest.mark.parametrize("method", METHODS)
def test_every_method_says_what_it_is(method):
    found = find_method(method)
    assert found.name == method
    assert found.cost
    assert found.source
    assert 0 < found.threshold <= 1


def test_an_unknown_method():
    with pytest.raises(UsageError, match=r"integrated-gradients.*random .got 'magic'.*kndb.attribution_methods"):
        find_method("magic")


# --- targets, several tokens, negative scores ----------------------------------------------------------------


@FAMILIES
def test_an_open_answer_is_the_most_probable_token(make_case, family):
    case = make_case(family, 46, [5, 5])
    results, _ = scores_of(case, "integrated-gradients")
    predicted = {key: int(result.predicted[1:-1]) for key, result in results.items()}
    named = replace(case, prompts=[replace(p, answer=predicted[p.prompt_id]) for p in case.prompts])
    expected_results, expected = scores_of(named, "integrated-gradients")
    left_open = replace(case, prompts=[replace(p, answer=-1, gold=(p.answer,)) for p in case.prompts])
    found_results, found = scores_of(left_open, "integrated-gradients")
    for prompt in case.prompts:
        key = prompt.prompt_id
        assert torch.equal(found[key], expected[key])
        assert found_results[key].probability == expected_results[key].probability
        assert found_results[key].probability == pytest.approx(found_results[key].predicted_probability, rel=1e-5)
        assert found_results[key].correct == (predicted[key] == prompt.answer)


@FAMILIES
@pytest.mark.parametrize("batch_size", [None, 1])
def test_the_score_of_several_tokens_is_the_mean_over_them(make_case, family, batch_size):
    case = make_case(family, 47, [5, 5, 6, 7])
    first, second, third, alone = case.prompts
    single = scores_of(replace(case, prompts=[first, second, third, alone]), "integrated-gradients")
    # Two questions of one prompt have one length for a masked model, and grow by a token for a causal one.
    further = replace(second, ids=second.ids if family == "bert" else (*first.ids, first.answer), prompt_id=99)
    if family == "gpt2":
        further = replace(further, position=5)
    both = replace(first, further=(replace(further, prompt_id=first.prompt_id),))
    other = scores_of(replace(case, prompts=[further]), "integrated-gradients")
    results, found = scores_of(replace(case, prompts=[both, alone]), "integrated-gradients", batch_size)
    key = first.prompt_id
    torch.testing.assert_close(found[key], (single[1][key] + other[1][99]) / 2, rtol=1e-4, atol=1e-9)
    torch.testing.assert_close(found[alone.prompt_id], single[1][alone.prompt_id], rtol=1e-4, atol=1e-9)
    result, one, two = results[key], single[0][key], other[0][99]
    assert result.answer_tokens == 2
    assert result.probability == pytest.approx(one.probability * two.probability, rel=1e-4)
    assert result.predicted == f"[{one.predicted[1:-1]}, {two.predicted[1:-1]}]"
    assert result.completeness_error == pytest.approx(max(one.completeness_error, two.completeness_error), abs=1e-4)
    assert result.evaluations == one.evaluations + two.evaluations
    assert results[alone.prompt_id].answer_tokens == 1


@FAMILIES
@pytest.mark.parametrize("floor", [0.1, 0.5])
def test_negative_scores_reach_down_to_the_floor(make_case, family, floor):
    case = make_case(family, 48, [5, 6])
    _, everything = scores_of(case, "integrated-gradients", batch_size=1)
    for negative in (False, True):
        settings = AttributionSettings(Quadrature.choose("radau", 3), floor=floor, negative=negative, batch_size=1)
        for batch in Engine(case.network, str, settings).run(case.prompts):
            (result,) = batch.results
            scores = everything[result.prompt_id]
            wanted = (scores >= floor * scores.max()) & (scores > 0)
            if negative:
                wanted |= (scores <= floor * scores.min()) & (scores < 0)
            found = set(zip(batch.scores.layers, batch.scores.neurons, strict=True))
            assert found == {tuple(place) for place in wanted.nonzero().tolist()}
            assert result.min_score == float(scores.min())
