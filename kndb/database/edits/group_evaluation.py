"""Measuring an edit of many facts: all of them as one group for each measure, after the whole edit.

The groups are those of an edit of one fact: `own` and `own_held_out` have the prompts of all edited facts, each asked
for its own new answer; `intra` the other facts of their relations; `inter` facts of other relations. The neighbourhood
score of `intra` is that of CounterFact: over prompts of facts that have the object of an edited fact of their relation,
whether that object is more probable than the edited fact's new answer (first tokens are compared).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from functools import partial

from ...analysis.edit_measures import (
    GROUPS,
    NEIGHBOURS,
    OTHERS,
    OWN,
    PARAPHRASES,
    Measure,
    Measures,
    as_json,
    compare,
    intervals_as_json,
)
from ...analysis.evaluation_prompts import MEASURED, AskedPrompt, compare_prompts
from ...analysis.group_measures import OwnPrompt, own_measures, read_own
from ...analysis.readings import Question, State, as_they_are
from ...analysis.summary_measures import SUMMARY, Observed, summary_measures
from ...editing.objects.diff_file import EditObject
from ...errors import EditError
from ...models.prompting import EncodedPrompt, Skipped
from ...records.edits import Edit
from ...records.facts import EvaluationPrompt, Fact, NeededEdit, Prompt
from ...records.group_recipes import EditedFact, GroupRecipe
from ..models import ModelVersion
from .asked_prompts import AskedPrompts, as_prompt, choose_prompts
from .control import control_edit, neurons_of
from .edited_sentences import edited_sentences
from .evaluation import EditEvaluator, fluency_of
from .flips import FlippedFact, flipped_facts, flipped_prompts
from .kept_prompts import local_fact
from .together import present_answers


class GroupEvaluator(EditEvaluator):
    """Measures edits of many facts of one model version; see `EditEvaluator`."""

    def measure_group(
        self,
        edit: Edit,
        recipe: GroupRecipe,
        planned: EditObject,
        prompts: Sequence[Prompt],
        facts: Mapping[int, Fact],
        *,
        seed: int,
        computed_on: Sequence[Prompt],
        tokens: int = 0,
        evaluation: Mapping[int, Sequence[EvaluationPrompt]],
        there: Collection[NeededEdit] = (),
        control: bool = True,
    ) -> dict[str, object]:
        """The measures of an edit of many facts; as `measure` gives them for one.

        Args:
            edit: the edit.
            recipe: its recipe.
            planned: its object.
            prompts: the prompts of `facts_to_measure`.
            facts: at least these facts, by number.
            seed: of the control and of the intervals.
            computed_on: the prompts of `prompts_in_recipe`, for the control.
            tokens: also continue the prompts of the edited facts by so many tokens; 0 does not.
            evaluation: evaluation prompts by edited fact.
            there: the edits of facts that the version has.
            control: whether to measure random neurons too.

        Returns:
            As `measure`. A plan that may change all slots of its layers leaves no random neurons of them, so it has no
            control: `control` is empty then. `intra` and `inter` say how many of their facts the plan was to leave as
            they are (`facts_kept`).

        Raises:
            EditError: if the model can be asked a fact by none of its prompts.
        """
        own = {local_fact(edit, fact.id): fact for fact in recipe.facts}
        asked = {
            number: choose_prompts(
                self._version,
                evaluation.get(number, ()),
                [prompt for prompt in prompts if prompt.fact_id == number],
                number,
                fact.to,
                there,
            )
            for number, fact in own.items()
        }
        left_out: dict[str, Counter[str]] = {}
        changed = self._changed(own, prompts, facts, asked, left_out)
        staying = self._staying(own, prompts, facts, _first_tokens(changed))
        generated = None
        if tokens:
            of_own = [prompt for prompt in prompts if prompt.fact_id in own]
            texts = [(number, text) for number, one in asked.items() for text in one.continued]
            generated = self._generated(of_own, texts, planned, tokens)
        compared = [planned]
        if control and recipe.neurons:
            compared.append(control_edit(edit, self._version, planned, seed, computed_on))
        states: list[State] = [as_they_are, *(partial(self._edited, content) for content in compared)]
        measured, named, observed = self._compared(changed, staying, facts, states, recipe, edit, seed)
        groups = prompts_by_kind(asked.values())
        if groups:
            found = compare_prompts(self._version.network, groups, states, self._unedited, seed)
            for measures, seen, more in zip(measured, observed, found, strict=True):
                measures |= more.measures
                for kind, (first, then) in more.readings.items():
                    seen.add_prompts(kind, groups[kind], first, then)
            named += flipped_prompts(self._version, found[0].flips, facts, evaluation)
        observed[0].fluent += fluency_of(generated)
        measured = [
            {SUMMARY: summary_measures(seen, seed), **measures}
            for seen, measures in zip(observed, measured, strict=True)
        ]
        of_edit, of_control = measured[0], measured[1] if len(measured) > 1 else {}
        for one in asked.values():
            for kind, reasons in one.left_out.items():
                left_out.setdefault(kind, Counter()).update(reasons)
        return {
            "edited": as_json(of_edit),
            "control": as_json(of_control),
            "intervals": {"edited": intervals_as_json(of_edit), "control": intervals_as_json(of_control)},
            "control_neurons": [str(neuron) for content in compared[1:] for neuron in neurons_of(content)],
            "flips": [asdict(flip) for flip in named],
            **({"left_out": {kind: dict(count) for kind, count in left_out.items()}} if left_out else {}),
            **({} if generated is None else {"generated": generated}),
        }

    def _compared(
        self,
        changed: Mapping[str, Sequence[OwnPrompt]],
        staying: Mapping[str, Sequence[Question]],
        facts: Mapping[int, Fact],
        states: Sequence[State],
        recipe: GroupRecipe,
        edit: Edit,
        seed: int,
    ) -> tuple[list[dict[str, Measures]], list[FlippedFact], list[Observed]]:
        """Of each state after the first, the measures by group, and what was seen; and the flips of the second."""
        measured: list[dict[str, Measures]] = [{} for _ in states[1:]]
        observed = [Observed() for _ in states[1:]]
        for name, questions in changed.items():
            before, *after = read_own(self._version.network, questions, states)
            for measures, seen, readings in zip(measured, observed, after, strict=True):
                measures[name] = own_measures(questions, before, readings, name, seed)
                seen.add_own(name, questions, readings)
        kept = {local_fact(edit, number) for number in recipe.kept_facts or ()}
        found = compare(self._version.network, staying, states, self._unedited, seed)
        same_object = {question.fact for question in staying[NEIGHBOURS] if question.new is not None}
        for measures, seen, one in zip(measured, observed, found, strict=True):
            for name, readings_of in one.readings.items():
                seen.add_staying(name, staying[name], *readings_of, same_object)
            for name, of_group in one.measures.items():
                measured_facts = {question.fact for question in staying[name]}
                measures[name] = {**of_group, "facts_kept": Measure(len(measured_facts & kept))}
        return measured, flipped_facts(self._version, found[0].flips, facts), observed

    def _changed(
        self,
        own: Mapping[int, EditedFact],
        prompts: Sequence[Prompt],
        facts: Mapping[int, Fact],
        asked: Mapping[int, AskedPrompts],
        left_out: dict[str, Counter[str]],
    ) -> dict[str, list[OwnPrompt]]:
        """The prompts of the edited facts, those of held-out templates and paraphrases apart."""
        of_own = [prompt for prompt in prompts if prompt.fact_id in own]
        old = present_answers(self._version, [prompt for prompt in of_own if not prompt.held_out])
        paraphrases = [
            as_prompt(text, facts[number].object, number) for number, one in asked.items() for text in one.paraphrases
        ]
        for number in own.keys() - old.keys():
            raise EditError(f"fact {number} {facts[number].title} has no prompt that this model can be asked")
        groups: dict[str, list[OwnPrompt]] = {OWN: [], PARAPHRASES: []}
        for prompt in [*of_own, *paraphrases]:
            name = PARAPHRASES if prompt.held_out else OWN
            found = own_prompt(self._version, prompt, own[prompt.fact_id].to, old[prompt.fact_id])
            if isinstance(found, Skipped):
                left_out.setdefault(name, Counter())[found.reason] += 1
            else:
                groups[name].append(found)
        return groups

    def _staying(
        self,
        own: Mapping[int, EditedFact],
        prompts: Sequence[Prompt],
        facts: Mapping[int, Fact],
        new: Mapping[int, int],
    ) -> dict[str, list[Question]]:
        """The prompts of other facts, those of the edited relations apart; `new` has new answers' first tokens."""
        relations = {fact.relation for fact in own.values()}
        rivals = {
            (fact.relation, fact.object): new[number] for number, fact in reversed([*own.items()]) if number in new
        }
        edited_ones = edited_sentences(facts.values(), prompts, own)
        groups: dict[str, list[Question]] = {name: [] for name in GROUPS if name in (NEIGHBOURS, OTHERS)}
        for prompt in edited_ones.others(prompts):
            fact = facts[prompt.fact_id]
            encoded = self._encoded(prompt, of_edit=False)
            if isinstance(encoded, EncodedPrompt):
                name = NEIGHBOURS if fact.relation in relations else OTHERS
                groups[name].append(Question(encoded, fact.id, None, rivals.get((fact.relation, fact.object))))
        return groups


def _first_tokens(changed: Mapping[str, Sequence[OwnPrompt]]) -> dict[int, int]:
    """The first token of each fact's new answer, as its first prompt asks for it."""
    found: dict[int, int] = {}
    for question in (one for name in (OWN, PARAPHRASES) for one in changed[name]):
        found.setdefault(question.fact, question.new.answers[0])
    return found


def own_prompt(version: ModelVersion, prompt: Prompt, to: str, old: int) -> OwnPrompt | Skipped:
    """A prompt of an edited fact as a model is asked it.

    Args:
        version: the model.
        prompt: the prompt.
        to: the new answer.
        old: the first token of the fact's old answer.
    """
    encode, span = version.encoder.encode, prompt.subject_span
    opened, new, own = (encode(prompt.id, prompt.text, answer, subject=span) for answer in (None, to, prompt.answer))
    for one in (opened, new):
        if isinstance(one, Skipped):
            return one
    assert isinstance(opened, EncodedPrompt)
    assert isinstance(new, EncodedPrompt)
    return OwnPrompt(prompt.fact_id, old, opened, new, own if isinstance(own, EncodedPrompt) else None)


def prompts_by_kind(asked: Collection[AskedPrompts]) -> dict[str, list[AskedPrompt]]:
    """The evaluation prompts of all facts, by kind."""
    found = {kind: [prompt for one in asked for prompt in one.groups.get(kind, ())] for kind in MEASURED}
    return {kind: prompts for kind, prompts in found.items() if prompts}
