"""Scaled and read activations against plain transformers, one prompt at a time, with hooks of another kind."""

import random

import pytest
import torch
from causal_families import causal_model
from masked_families import masked_model
from tiny_models import VOCABULARY, _by_token, _logits, activations, doubled, down_projections, tiny_model

from kndb.analysis.interventions import NeuronQuestion, ask, mean_activations, random_neurons, scaled
from kndb.errors import AttributionError, ModelError, UsageError
from kndb.models.answers import answer_logits
from kndb.models.network import Network
from kndb.models.prompting import EncodedPrompt
from kndb.models.registry import adapter_for
from kndb.records.models import Neuron

FAMILIES = {
    "bert": lambda: tiny_model("bert"),
    "gpt2": lambda: tiny_model("gpt2"),
    "albert": lambda: masked_model("albert"),
    "albert-groups": lambda: masked_model("albert-groups"),
    "llama": lambda: causal_model("llama"),
    "opt": lambda: causal_model("opt"),
    "t5-gated": lambda: masked_model("t5-gated"),
    "falcon": lambda: causal_model("falcon"),
    "mixtral": lambda: causal_model("mixtral", num_experts_per_tok=3),
    "gpt_oss": lambda: causal_model("gpt_oss"),
}
LENGTHS = (3, 7, 5, 7, 4, 9)


class Case:
    """A random model, and questions of several lengths with random neurons of all layers."""

    def __init__(self, name):
        self.model = doubled(FAMILIES[name]())
        self.network = Network(self.model, adapter_for(self.model.config))
        self.layers = len(down_projections(self.model))
        self.neurons = self.network.neurons
        self.questions = self._questions()

    def _questions(self):
        chance = random.Random(7)
        source = self.network.adapter.encoder is not None
        causal = self.network.adapter.blank.value == "cut"
        return [
            NeuronQuestion(
                EncodedPrompt(
                    prompt_id=number,
                    ids=tuple(chance.choices(range(1, VOCABULARY), k=length)),
                    position=length - 1 if causal else chance.randrange(length),
                    answer=chance.randrange(1, VOCABULARY),
                    source=tuple(chance.choices(range(1, VOCABULARY), k=length + 2)) if source else (),
                ),
                tuple(
                    Neuron(layer, index)
                    for layer in range(self.layers)
                    for index in chance.sample(range(self.neurons), number % 3)
                ),
            )
            for number, length in enumerate(LENGTHS)
        ]

    def by_hand(self, question, factor):
        """The whole model in plain transformers, every down projection wrapped; alone in its batch."""
        prompt, calls = question.prompt, {}
        wanted = {(neuron.layer, neuron.index) for neuron in question.neurons}
        modules = down_projections(self.model)

        def change(module, inputs):
            turn = calls[id(module)] = calls.get(id(module), -1) + 1
            layer = [number for number, other in enumerate(modules) if other is module][turn]
            changed = inputs[0].clone()
            for index in range(changed.shape[-1]):
                if (layer, index) in wanted:
                    _by_token(changed, prompt.ids)[0, prompt.position, index] *= factor
            return (changed, *inputs[1:])

        handles = [module.register_forward_pre_hook(change) for module in {id(one): one for one in modules}.values()]
        with torch.no_grad():
            logits = _logits(self.model, torch.tensor([prompt.ids]), prompt.source)[0, prompt.position]
        for handle in handles:
            handle.remove()
        return logits.softmax(-1)


@pytest.fixture(scope="module", params=FAMILIES)
def case(request):
    return Case(request.param)


@pytest.mark.parametrize("factor", [0.0, 2.0])
def test_a_batch_gives_what_each_prompt_gives_alone(case, factor):
    found = ask(case.network, case.questions, factor, batch_size=4)
    changed = 0
    for question, probability, predicted in zip(case.questions, found.probability, found.predicted, strict=True):
        expected = case.by_hand(question, factor)
        plain = case.by_hand(NeuronQuestion(question.prompt), factor)
        assert probability == pytest.approx(float(expected[question.prompt.answer]), rel=1e-5)
        assert predicted == int(expected.argmax())
        changed += not torch.allclose(expected, plain, rtol=1e-3)
    assert changed == sum(bool(question.neurons) for question in case.questions) == 4


def test_the_last_layer_is_scaled_as_its_weights_say():
    """At one position alone, a factor on a neuron is the same factor on its value slot: no hook is needed."""
    case = Case("gpt2")
    last = case.layers - 1
    question = NeuronQuestion(case.questions[1].prompt, (Neuron(last, 3), Neuron(last, 11)))
    (found,) = ask(case.network, [question], 5.0).probability
    weight = down_projections(case.model)[last].weight
    with torch.no_grad():
        weight[[3, 11]] *= 5  # The causal model's answer position is the last: no other is read after this layer.
    (expected,) = ask(case.network, [NeuronQuestion(question.prompt)]).probability
    assert found == pytest.approx(expected, rel=1e-9)


def test_no_neurons_and_factor_one_change_nothing(case):
    plain = ask(case.network, [NeuronQuestion(question.prompt) for question in case.questions], 0.0)
    assert ask(case.network, case.questions, 1.0) == plain


def test_activations_are_read_at_the_answer_position(case):
    questions = [question for question in case.questions if question.neurons]
    found = mean_activations(case.network, questions, batch_size=3)
    for question, value in zip(questions, found, strict=True):
        prompt = question.prompt
        rows = activations(case.model, prompt.ids, prompt.position, prompt.source)
        expected = [float(rows[neuron.layer, neuron.index]) for neuron in question.neurons]
        assert value == pytest.approx(sum(expected) / len(expected), rel=1e-5, abs=1e-6)


def test_hooks_go_when_the_pass_fails(case):
    def hooks():
        return [(len(one._forward_pre_hooks), len(one._forward_hooks)) for one in case.model.modules()]

    def fail():
        with scaled(case.network, case.questions, 0.0):
            assert hooks() != before
            raise ZeroDivisionError

    before = hooks()
    with pytest.raises(ZeroDivisionError):
        fail()
    assert hooks() == before


def test_a_layer_that_is_called_too_often_or_never_is_noticed(case):
    prompts = [question.prompt for question in case.questions]

    def run(times):
        with scaled(case.network, case.questions, 0.0):
            for _ in range(times):
                answer_logits(case.network, prompts)

    run(1)
    for times, message in ((0, "skipped"), (2, "more often")):
        with pytest.raises(ModelError, match=message):
            run(times)


def test_neurons_that_the_model_lacks_are_refused():
    case = Case("bert")
    for neuron in (Neuron(case.layers, 0), Neuron(0, case.neurons)):
        with pytest.raises(UsageError, match=rf"{case.layers} layers of {case.neurons}"):
            ask(case.network, [NeuronQuestion(case.questions[0].prompt, (neuron,))], 0.0)


def test_numbers_that_are_none_are_refused():
    case = Case("bert")
    with pytest.raises(AttributionError, match="not numbers"):
        ask(case.network, case.questions, float("inf"))


def test_random_neurons_are_others_of_the_same_layers():
    chosen = [Neuron(0, 1), Neuron(0, 2), Neuron(3, 5), *(Neuron(4, index) for index in range(5))]
    drawn = random_neurons(chosen, 8, random.Random(1))
    assert not set(drawn) & set(chosen)
    assert [neuron.layer for neuron in drawn] == [0, 0, 3, 4, 4, 4]  # layer 4 has three others only
    assert len(set(drawn)) == len(drawn)
    assert drawn == random_neurons(chosen, 8, random.Random(1))
    assert drawn != random_neurons(chosen, 8, random.Random(2))
