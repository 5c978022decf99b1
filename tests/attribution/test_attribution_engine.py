"""The engine: batching, what is kept, what is skipped, memory, and its checks of itself."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from attribution_cases import attribute, make_prompts
from tiny_models import VOCABULARY, down_projections, probability, up_projections

from kndb.attribution import engine as engine_module
from kndb.attribution.base_pass import continue_from
from kndb.attribution.batches import NODES_PER_PROMPT, automatic_size, by_shape, to_tensors
from kndb.attribution.engine import Engine
from kndb.attribution.quadrature import Quadrature
from kndb.attribution.settings import AttributionSettings
from kndb.errors import AttributionError, ModelError, UsageError
from kndb.models.adapter import Norms
from kndb.models.network import Network
from kndb.records.skip_reasons import SKIP_REASONS

LENGTHS = [5, 3, 5, 7, 3, 5, 5, 2, 3, 5, 7]
FAMILIES = pytest.mark.parametrize("family", ["bert", "gpt2"])


def run(case, *rule, batch_size=None, prompts=None, **settings):
    """All results by prompt, and all kept scores by (prompt, layer, neuron)."""
    settings = AttributionSettings(Quadrature.choose(*rule), batch_size=batch_size, **settings)
    results, scores = {}, {}
    engine = Engine(case.network, lambda tokens: " ".join(f"<{token}>" for token in tokens), settings)
    for batch in engine.run(prompts or case.prompts):
        for result in batch.results:
            assert result.prompt_id not in results
            results[result.prompt_id] = result
        columns = batch.scores
        assert len(columns) == len(columns.layers) == len(columns.neurons) == len(columns.scores)
        places = zip(columns.prompt_ids, columns.layers, columns.neurons, strict=True)
        batch_scores = dict(zip(places, columns.scores, strict=True))
        assert len(batch_scores) == len(columns)
        scores.update(batch_scores)
    return results, scores


def dense(case, *rule):
    """The engine's scores of every prompt before the floor, prompt by prompt."""
    found = {}
    for prompt in case.prompts:
        batch = to_tensors([prompt], torch.device("cpu"))
        rows = NODES_PER_PROMPT  # as many at once as the engine takes in batches of one: products round alike
        found[prompt.prompt_id] = attribute(case.network, batch, Quadrature.choose(*rule), rows).scores[0]
    return found


def assert_same(found, expected):
    """Both runs say the same up to rounding."""
    (results, scores), (other_results, other_scores) = found, expected
    assert results.keys() == other_results.keys()
    for prompt_id, result in results.items():
        other = other_results[prompt_id]
        assert (result.predicted, result.correct, result.tokens, result.skipped) == (
            other.predicted,
            other.correct,
            other.tokens,
            other.skipped,
        )
        assert result.evaluations == other.evaluations
        for name in ("probability", "predicted_probability", "max_score"):
            assert getattr(result, name) == pytest.approx(getattr(other, name), rel=1e-4)
        assert result.completeness_error == pytest.approx(other.completeness_error, abs=1e-3)
        assert result.completeness_error_mean == pytest.approx(other.completeness_error_mean, abs=1e-3)
    for place in scores.keys() | other_scores.keys():
        largest = results[place[0]].max_score
        # A score just at the floor may be kept by one run only.
        assert scores.get(place, 0.1 * largest) == pytest.approx(
            other_scores.get(place, 0.1 * largest), abs=1e-4 * largest
        )


# --- batches -------------------------------------------------------------------------------------------------


@FAMILIES
@pytest.mark.parametrize("rule", [("radau", 4), ("riemann-left", 7)], ids=str)
def test_batch_size_changes_nothing(make_case, family, rule):
    case = make_case(family, 3, LENGTHS)
    expected = run(case, *rule, batch_size=1)
    assert list(expected[0]) == sorted(
        expected[0], key=lambda prompt_id: (LENGTHS[prompt_id - 1], prompt_id)
    )  # shorter ones first
    assert len(expected[1]) > len(LENGTHS)
    for batch_size in (2, 3, 100, None):
        assert_same(run(case, *rule, batch_size=batch_size), expected)


@FAMILIES
def test_batch_size_changes_nothing_when_adaptive(make_case, family):
    case = make_case(family, 4, [6] * 7, roughness=0.25)
    together, alone = case.attribute(most_rows=64), []
    for prompt in case.prompts:
        batch = to_tensors([prompt], torch.device("cpu"))
        alone.append(attribute(case.network, batch, Quadrature.choose()))
    scale = together.scores.abs().amax(dim=(1, 2), keepdim=True)
    separate = torch.cat([found.scores for found in alone])
    torch.testing.assert_close(together.scores / scale, separate / scale, rtol=0, atol=2e-3)


@FAMILIES
def test_most_rows_changes_nothing(make_case, family):
    case = make_case(family, 5, [4] * 5)
    expected = case.attribute("gauss-legendre", 9, most_rows=1000)
    for most_rows in (1, 2, 3, 7, 10, 44):
        found = case.attribute("gauss-legendre", 9, most_rows=most_rows)
        scale = float(expected.scores.abs().max())
        torch.testing.assert_close(found.scores, expected.scores, rtol=0, atol=1e-5 * scale)
        assert torch.equal(found.evaluations, expected.evaluations)


@FAMILIES
def test_no_more_rows_at_once_than_asked_for(make_case, family):
    case = make_case(family, 5, [4] * 6)
    rows = []
    handle = case.model.get_output_embeddings().register_forward_pre_hook(
        lambda _module, inputs: rows.append(inputs[0].shape[:-1].numel())
    )
    case.attribute("gauss-legendre", 9, most_rows=8)
    handle.remove()
    assert rows[0] == 6  # the base pass has every prompt
    assert max(rows[1:]) <= 8
    assert sum(rows[1:]) == 3 * 6 * (9 + 1)  # layers × prompts × (nodes and α = 0)


def test_batches_are_of_one_length(make_case):
    prompts = make_case("bert", 0, LENGTHS).prompts
    batches = list(by_shape(prompts, 2))
    assert all(len(batch) <= 2 and len({len(prompt.ids) for prompt in batch}) == 1 for batch in batches)
    ordered = [prompt for batch in batches for prompt in batch]
    assert ordered == sorted(prompts, key=lambda prompt: (len(prompt.ids), prompt.prompt_id))


@FAMILIES
def test_automatic_size_is_within_its_bounds(make_case, family, monkeypatch):
    network = make_case(family).network
    short, long = make_prompts(family, 1, [5, 20])
    assert 1 <= automatic_size(network, short) <= 1024
    assert automatic_size(network, long) <= automatic_size(network, short)
    assert automatic_size(network, replace(short, further=(short,) * 3)) <= automatic_size(network, short)
    monkeypatch.setattr("kndb.attribution.batches.CPU_BUDGET", 1)
    assert automatic_size(network, short) == 1
    monkeypatch.setattr("kndb.attribution.batches.CPU_BUDGET", 2**60)
    assert automatic_size(network, short) == 1024


def test_no_prompt_no_result(make_case):
    case = make_case("gpt2")
    assert list(Engine(case.network, str, AttributionSettings(Quadrature.choose())).run([])) == []


# --- what a result says --------------------------------------------------------------------------------------


@FAMILIES
@pytest.mark.parametrize("floor", [0.1, 0.35, 1.0, 0.0])
def test_floor_keeps_exactly_the_scores_that_reach_it(make_case, family, floor):
    case = make_case(family, 6, [4, 6, 6])
    results, scores = run(case, "radau", 3, batch_size=1, floor=floor)
    for prompt_id, matrix in dense(case, "radau", 3).items():
        largest = matrix.max()
        assert results[prompt_id].max_score == float(largest)
        expected = {
            (prompt_id, layer, neuron): float(matrix[layer, neuron])
            for layer, neuron in ((matrix >= floor * largest) & (matrix > 0)).nonzero().tolist()
        }
        assert {place: score for place, score in scores.items() if place[0] == prompt_id} == expected
        assert expected


@FAMILIES
def test_results_say_what_the_model_says(make_case, family):
    case = make_case(family, 7, LENGTHS)
    results, _ = run(case, "radau", 3)
    for prompt in case.prompts:
        result = results[prompt.prompt_id]
        with torch.no_grad():
            distribution = case.exact(input_ids=torch.tensor([prompt.ids])).logits[0, prompt.position].softmax(-1)
        assert result.probability == pytest.approx(float(distribution[prompt.answer]), rel=1e-4)
        assert result.predicted == f"<{int(distribution.argmax())}>"
        assert result.predicted_probability == pytest.approx(float(distribution.max()), rel=1e-4)
        assert result.correct == (int(distribution.argmax()) == prompt.answer)
        assert result.tokens == len(prompt.ids)
        assert result.skipped is None
        assert result.evaluations == 7


@FAMILIES
def test_completeness_of_a_prompt_is_its_worst_layer_and_the_mean(make_case, family):
    case = make_case(family, 8, [5, 5, 5], roughness=0.3)
    results, _ = run(case, "riemann-left", 3)
    per_layer = case.attribute("riemann-left", 3).completeness_error
    for prompt, errors in zip(case.prompts, per_layer, strict=True):
        assert results[prompt.prompt_id].completeness_error == pytest.approx(float(errors.max()), rel=1e-3)
        assert results[prompt.prompt_id].completeness_error_mean == pytest.approx(float(errors.mean()), rel=1e-3)


@FAMILIES
def test_known_only_leaves_the_others_out(make_case, family):
    case = make_case(family, 9, [5] * 6)
    predicted = [int(result.predicted[1:-1]) for result in run(case, "radau", 3)[0].values()]
    known = {1, 4}
    case.prompts = [
        replace(prompt, answer=token if prompt.prompt_id in known else (token + 1) % VOCABULARY)
        for prompt, token in zip(case.prompts, predicted, strict=True)
    ]
    everything, all_scores = run(case, "radau", 3)
    results, scores = run(case, "radau", 3, known_only=True)
    assert {prompt_id for prompt_id, result in results.items() if result.skipped is None} == known
    for prompt_id, result in results.items():
        if prompt_id in known:
            assert result.correct
            continue
        assert result.skipped == "not-known"
        assert result.skipped in SKIP_REASONS
        assert result.correct is False
        assert result.probability == pytest.approx(everything[prompt_id].probability)
        assert (result.max_score, result.min_score, result.evaluations) == (None,) * 3
        assert (result.completeness_error, result.completeness_error_mean) == (None,) * 2
    assert_same(
        ({k: v for k, v in results.items() if k in known}, scores),
        (
            {k: v for k, v in everything.items() if k in known},
            {k: v for k, v in all_scores.items() if k[0] in known},
        ),
    )


@FAMILIES
def test_known_only_with_nothing_known(make_case, family):
    case = make_case(family, 9, [5, 4])
    predicted = {key: int(result.predicted[1:-1]) for key, result in run(case, "radau", 3)[0].items()}
    case.prompts = [replace(p, answer=(predicted[p.prompt_id] + 1) % VOCABULARY) for p in case.prompts]
    results, scores = run(case, known_only=True)
    assert [result.skipped for result in results.values()] == ["not-known"] * 2
    assert scores == {}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"floor": -0.1}, "floor must be a number from 0 to 1 .got -0.1"),
        ({"floor": 1.5}, "floor must be a number from 0 to 1 .got 1.5"),
        ({"method": "magic"}, "method must be one of integrated-gradients, .* .got 'magic'.*attribution_methods"),
        ({"dtype": "float8"}, "dtype must be one of float32, .* .got 'float8'"),
        ({"batch_size": 0}, "batch_size must be at least 1 .got 0"),
    ],
)
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(UsageError, match=message):
        AttributionSettings(Quadrature.choose(), **settings)


def test_settings_are_stored_in_full():
    settings = AttributionSettings(Quadrature.choose("linspace", 9), floor=0.2, known_only=True)
    assert settings.as_settings() == {
        "quadrature": "linspace",
        "steps": 9,
        "tolerance": None,
        "floor": 0.2,
        "known_only": True,
        "negative": False,
        "dtype": "float32",
    }
    settings = AttributionSettings(Quadrature.choose(), method="random", seed=3, dtype="bfloat16")
    assert settings.as_settings() == {
        "seed": 3,
        "floor": 0.1,
        "known_only": False,
        "negative": False,
        "dtype": "bfloat16",
    }


# --- memory --------------------------------------------------------------------------------------------------


def limit_memory(monkeypatch, largest: int) -> list[int]:
    """Lets batches above a size run out of memory; gives the sizes that were tried."""
    tried = []

    def limited(network, batch):
        tried.append(len(batch))
        if len(batch) > largest:
            raise torch.OutOfMemoryError("no memory is left")
        return continue_from(network, batch)

    monkeypatch.setattr(engine_module, "continue_from", limited)
    return tried


@FAMILIES
@pytest.mark.parametrize("largest", [1, 2, 3])
def test_a_batch_that_does_not_fit_is_halved(make_case, monkeypatch, family, largest):
    case = make_case(family, 10, [4] * 9 + [6] * 9)
    expected = run(case, "radau", 3)
    tried = limit_memory(monkeypatch, largest)
    assert_same(run(case, "radau", 3), expected)
    assert tried[0] == 9
    # What was learnt from the first length holds for the next.
    assert sum(size > largest for size in tried[tried.index(9) + 1 :]) < 9
    assert tried.count(9) == 1


def test_a_single_prompt_that_does_not_fit_is_an_error(make_case, monkeypatch):
    case = make_case("bert", 10, [4] * 3)
    limit_memory(monkeypatch, 0)
    with pytest.raises(AttributionError, match=r"single prompt of 4 tokens does not fit the memory of cpu"):
        run(case, "radau", 3)


@pytest.mark.parametrize("batch_size", [0, -1])
def test_batch_sizes_that_make_no_sense(make_case, batch_size):
    with pytest.raises(UsageError, match=rf"batch_size must be at least 1 \(got {batch_size}\)"):
        run(make_case("bert"), batch_size=batch_size)


# --- checks of itself ----------------------------------------------------------------------------------------


@FAMILIES
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("layer", [0, 2])
def test_weights_that_are_not_finite(make_case, family, value, layer):
    case = make_case(family, 12)
    with torch.no_grad():
        case.network.layers[layer].down.weight[0, 0] = value
    with pytest.raises(ModelError, match="not numbers"):
        run(case)


WRONG = {
    "norms": lambda adapter: replace(adapter, norms=_swapped(adapter.norms)),
    "norm-place": lambda adapter: replace(adapter, norms=_moved(adapter.norms)),
    "projections": lambda adapter: _with_attention(adapter, query_key_value=adapter.attention.query_key_value[::-1]),
    "embedding": lambda adapter: replace(adapter, embed=lambda model, ids: model.get_input_embeddings()(ids)),
    "head": lambda adapter: (
        replace(adapter, final_norm=None, head=("lm_head",))
        if adapter.family == "gpt2"
        else replace(adapter, head=("cls.predictions.decoder",))
    ),
}


@FAMILIES
def test_a_wrong_scaling_is_noticed(make_case, family):
    case = make_case(family, 13, roughness=0.3)
    case.network = Network(case.model, _with_attention(case.network.adapter, scaling=2 / math.sqrt(6)))
    with pytest.raises(ModelError, match=f"{family} adapter gives other probabilities.*no score was stored"):
        run(case)


def _with_attention(adapter, **changes):
    return replace(adapter, attention=replace(adapter.attention, **changes))


def _swapped(norms: Norms) -> Norms:
    return Norms(
        attention_input=norms.ffn_input,
        ffn_input=norms.attention_input,
        attention_sum=norms.ffn_sum,
        ffn_sum=norms.attention_sum,
    )


def _moved(norms: Norms) -> Norms:
    return Norms(
        attention_input=norms.attention_sum,
        ffn_input=norms.ffn_sum,
        attention_sum=norms.attention_input,
        ffn_sum=norms.ffn_input,
    )


@pytest.mark.parametrize(
    ("family", "wrong"),
    [
        *[("bert", wrong) for wrong in WRONG],
        *[("gpt2", wrong) for wrong in ("norms", "embedding", "head")],
    ],
)
def test_a_wrong_adapter_is_noticed(make_case, family, wrong):
    case = make_case(family, 14, roughness=0.3)
    case.network = Network(case.model, WRONG[wrong](case.network.adapter))
    with pytest.raises(ModelError, match=f"{family} adapter gives other probabilities.*no score was stored"):
        run(case)


# --- only the necessary work ---------------------------------------------------------------------------------


@FAMILIES
def test_parameters_need_no_gradient(make_case, family):
    case = make_case(family)
    case.model.requires_grad_(True).train()
    run(case, "radau", 3)
    assert not any(parameter.requires_grad for parameter in case.model.parameters())
    assert all(parameter.grad is None for parameter in case.model.parameters())
    assert not case.model.training


@FAMILIES
def test_layers_below_the_perturbed_one_are_not_run(make_case, family):
    """Rows that each layer's FFN computes: once for the base pass, then for perturbations below it alone."""
    case = make_case(family, 16, [6] * 3, layers=4)
    prompts, tokens, last = 3, 6, 3
    rows = {"up": [0] * 4, "down": [0] * 4}
    handles = []
    for kind, modules in (("up", up_projections(case.model)), ("down", down_projections(case.model))):
        for layer, module in enumerate(modules):

            def count(_module, inputs, _output, kind=kind, layer=layer):
                rows[kind][layer] += inputs[0].shape[:-1].numel()

            handles.append(module.register_forward_hook(count))
    case.attribute("radau", 3)  # two new nodes, and α = 0
    for handle in handles:
        handle.remove()
    expected = []
    for layer in range(4):
        per_copy = tokens if family == "bert" and layer < last else 1
        base = tokens if layer < last else 1
        expected.append(prompts * base + layer * 3 * prompts * per_copy)
    assert rows == {"up": expected, "down": expected}


@FAMILIES
def test_edited_weights_count_at_once(make_case, family):
    """The network holds no copy of the weights."""
    case = make_case(family, 17, [5])
    before = run(case, "radau", 3)
    with torch.no_grad():
        case.network.layers[1].down.weight.mul_(1.5)
    after = run(case, "radau", 3)
    assert before != after
    prompt = case.prompts[0]
    with torch.no_grad():
        present = float(probability(case.model, prompt.ids, prompt.position, prompt.answer))
    assert after[0][prompt.prompt_id].probability == pytest.approx(present, rel=1e-4)


@FAMILIES
def test_half_precision_models_run(make_case, family):
    case = make_case(family, 18, [5, 5])
    expected = run(case, "radau", 3)
    case.model.to(torch.bfloat16)
    results, scores = run(case, "radau", 3, dtype="bfloat16")
    assert scores
    for prompt_id, result in results.items():
        assert result.max_score == pytest.approx(expected[0][prompt_id].max_score, rel=0.3)


# --- known prompts alone -----------------------------------------------------------------------------------------


def count_gradients(monkeypatch) -> list[int]:
    """The number of prompts of every call that takes gradients, as the engine makes them."""
    taken = []
    grad = torch.autograd.grad

    def counted(outputs, *arguments, **options):
        taken.append(len(outputs))
        return grad(outputs, *arguments, **options)

    monkeypatch.setattr(torch.autograd, "grad", counted)
    return taken


def known_prompts(case, known: set[int]) -> None:
    """Gives these prompts the answer that the model has for them, and the others another."""
    predicted = {key: int(result.predicted[1:-1]) for key, result in run(case, "radau", 3)[0].items()}
    case.prompts = [
        replace(
            prompt,
            answer=(predicted[prompt.prompt_id] + (prompt.prompt_id not in known)) % VOCABULARY,
            further=(),
        )
        for prompt in case.prompts
    ]


@FAMILIES
def test_known_only_takes_gradients_of_known_prompts_alone(make_case, monkeypatch, family):
    case = make_case(family, 9, [5] * 14 + [4] * 3)
    known = {2, 5, 6, 9, 13, 17}
    known_prompts(case, known)
    expected = run(case, "radau", 3)
    taken = count_gradients(monkeypatch)
    run(case, "radau", 3, batch_size=1, prompts=[prompt for prompt in case.prompts if prompt.prompt_id in known])
    needed, _ = sum(taken), taken.clear()
    results, scores = run(case, "radau", 3, batch_size=3, known_only=True)
    assert {prompt_id for prompt_id, result in results.items() if result.skipped is None} == known
    assert sum(taken) == needed >= 4 * len(known)
    assert_same(
        ({key: results[key] for key in known}, scores),
        (
            {key: expected[0][key] for key in known},
            {key: value for key, value in expected[1].items() if key[0] in known},
        ),
    )


@FAMILIES
def test_known_only_collects_full_batches_of_one_shape(make_case, monkeypatch, family):
    case = make_case(family, 9, [5] * 14)
    known_prompts(case, {1, 4, 8, 9, 10, 11, 13})
    sizes = []

    def counted(network, batch):
        sizes.append(len(batch))
        return continue_from(network, batch)

    monkeypatch.setattr(engine_module, "continue_from", counted)
    settings = AttributionSettings(Quadrature.choose("radau", 3), known_only=True, batch_size=3)
    batches = [
        [(result.prompt_id, result.skipped) for result in batch.results]
        for batch in Engine(case.network, str, settings).run(case.prompts)
    ]
    # The first known ones are attributed at once, so that the engine is compared before anything is given out.
    assert sizes == [1, 3, 3]
    assert batches[0] == [(1, None)]
    assert [len(batch) for batch in batches if batch[0][1] is None] == sizes
    assert sorted(prompt for batch in batches for prompt, _ in batch) == list(range(1, 15))


@FAMILIES
def test_known_only_of_several_tokens_asks_for_each(make_case, family):
    case = make_case(family, 9, [5] * 4)
    questions = [replace(prompt, prompt_id=prompt.prompt_id + 10) for prompt in make_prompts(family, 4, [5] * 4)]
    first = {key: int(result.predicted[1:-1]) for key, result in run(case, "radau", 3)[0].items()}
    second = {key: int(result.predicted[1:-1]) for key, result in run(case, "radau", 3, prompts=questions)[0].items()}
    prompts = [
        replace(
            prompt,
            answer=first[prompt.prompt_id],
            # Of prompts 3 and 4, the second token is another one.
            further=(replace(further, answer=(second[further.prompt_id] + (prompt.prompt_id > 2)) % VOCABULARY),),
        )
        for prompt, further in zip(case.prompts, questions, strict=True)
    ]
    everything, _ = run(case, "radau", 3, prompts=prompts)
    results, _ = run(case, "radau", 3, prompts=prompts, known_only=True)
    for prompt_id, result in results.items():
        other = everything[prompt_id]
        assert result.correct == other.correct == (prompt_id <= 2)
        assert (result.predicted, result.answer_tokens) == (other.predicted, 2)
        assert result.probability == pytest.approx(other.probability, rel=1e-4)
        assert result.predicted_probability == pytest.approx(other.predicted_probability, rel=1e-4)
        assert result.skipped == (None if prompt_id <= 2 else "not-known")


def test_known_only_that_does_not_fit_is_halved(make_case, monkeypatch):
    case = make_case("gpt2", 9, [5] * 9)
    known_prompts(case, {2, 3, 4, 5, 8})
    expected = run(case, "radau", 3, known_only=True)
    asked = engine_module.answer_logits
    tried = []

    def limited(network, prompts):
        tried.append(len(prompts))
        if len(prompts) > 4:
            raise torch.OutOfMemoryError("no memory is left")
        return asked(network, prompts)

    monkeypatch.setattr(engine_module, "answer_logits", limited)
    found = run(case, "radau", 3, known_only=True)
    assert {key: result.skipped for key, result in found[0].items()} == {
        key: result.skipped for key, result in expected[0].items()
    }
    assert found[1] == pytest.approx(expected[1])
    assert tried == [9, 4, 5, 2, 3]


@FAMILIES
def test_layers_above_the_limit_are_noted(make_case, family):
    case = make_case(family, 8, [5, 5, 5], roughness=0.3)
    results, _ = run(case, "riemann-left", 3)
    per_layer = case.attribute("riemann-left", 3).completeness_error
    noted = 0
    for prompt, errors in zip(case.prompts, per_layer.tolist(), strict=True):
        result = results[prompt.prompt_id]
        assert result.worst_layer == errors.index(max(errors))
        expected = {layer: error for layer, error in enumerate(errors) if error > 1e-3}
        assert result.layers_above == pytest.approx(expected, rel=1e-3)
        noted += len(expected)
    assert noted
    loose, _ = run(case, "bisection", None, 1e3)
    assert all(result.layers_above == {} and result.worst_layer is not None for result in loose.values())
