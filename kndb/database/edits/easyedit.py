"""Measuring an edit fact by fact, as EasyEdit does, into a file of its result fields."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from ...analysis.easyedit_measures import Case, CaseAccuracies, case_accuracies, unchanged_shares
from ...analysis.evaluation_prompts import STAYING
from ...analysis.fluency import fluency
from ...analysis.readings import State, as_they_are
from ...editing.objects import diff_file
from ...editing.objects.diff_file import EditObject
from ...editing.objects.slots import edited
from ...errors import EditError, UsageError
from ...exchange import easyedit
from ...exchange.easyedit import AskedAxis, CaseSide, EditedCase
from ...models import loading
from ...models.generation import continuations, require_causal
from ...models.prompting import EncodedPrompt
from ...records.edit_settings import EvaluationSettings
from ...records.edits import Edit
from ...records.facts import BLANK, EvaluationPrompt, Fact, NeededEdit, Prompt
from ...records.recipes import new_answers
from ...sentences import is_closing
from ...store import evaluation_prompts
from ...store import facts as store_facts
from ...store.edits import edit as store_edits
from ...store.engine import Store
from ..models import ModelCommands, ModelVersion
from .asked_prompts import AskedPrompts, as_prompt, choose_prompts, edits_there
from .edited_sentences import edited_sentences
from .evaluate import require_aim
from .evaluation import facts_to_measure
from .kept_prompts import encode_open, local_fact

SAME, ELSEWHERE = "same_relation", "other_relations"
"""The axes of locality over other facts of the store; those of evaluation prompts have their source's names."""


@dataclass(frozen=True)
class ExportedCases:
    """A file of EasyEdit's result fields that was written.

    Attributes:
        file: its path.
        edit: the edit; `cases`: how many facts it gives new answers.
        rewrite_acc, rephrase_acc, locality, portability: means over the cases, after the edit, of what each case has
            (a mean over its axes); None where no case has any.
        rewrite_acc_before, rephrase_acc_before, portability_before: the same before it.
    """

    file: str
    edit: int
    cases: int
    rewrite_acc: float
    rephrase_acc: float | None
    locality: float | None
    portability: float | None
    rewrite_acc_before: float
    rephrase_acc_before: float | None
    portability_before: float | None


def export_easyedit(
    store: Store,
    models: ModelCommands,
    edit: int,
    path: Path,
    settings: EvaluationSettings,
    *,
    fact: int | None,
    to: str | None,
    device: str,
) -> ExportedCases:
    """Measures each fact of an edit and writes the file; see `EditCommands.export_easyedit`."""
    if path.exists():
        raise UsageError(f"{path} exists already; name another file")
    with store.reading() as connection:
        record = store_edits.edit(connection, edit)
    told = None if fact is None or to is None else (fact, to)
    require_aim(record, told)
    planned = diff_file.read(store.objects, record.object_path, record.object_hash)
    new = dict([told] if told else [(local_fact(record, one.id), text) for one, text in new_answers(record.recipe)])
    if not new:
        raise EditError(f"edit {edit} gives no fact a new answer, and EasyEdit's fields are those of such facts")
    version = models.load(record.model, record.base_version)
    version.model.to(loading.choose_device(device))
    if settings.generate:
        require_causal(version.network)
    with store.reading() as connection:
        facts = {one.id: one for one in store_facts.find_facts(connection)}
        relations = {facts[number].relation for number in new}
        measured = facts_to_measure(relations, facts, sample=settings.sample, seed=settings.seed)
        prompts = store_facts.prompts(connection, fact_ids=measured)
        evaluation = {number: evaluation_prompts.of_fact(connection, number) for number in new}
        there = edits_there(connection, record, version.record.id) if any(evaluation.values()) else set()
    cases = _Cases(version, planned, new, facts, prompts).all(evaluation, there, settings.generate)
    easyedit.write(path, cases)
    return _summary(path, record, cases)


class _Cases:
    """Makes the cases of an edit's facts."""

    def __init__(
        self,
        version: ModelVersion,
        planned: EditObject,
        new: Mapping[int, str],
        facts: Mapping[int, Fact],
        prompts: Sequence[Prompt],
    ) -> None:
        self._version = version
        self._new, self._facts, self._prompts = new, facts, prompts
        parameters: dict[str, Any] = dict(version.model.named_parameters())
        self._states: list[State] = [as_they_are, partial(edited, parameters, planned)]

    def all(
        self, evaluation: Mapping[int, Sequence[EvaluationPrompt]], there: Collection[NeededEdit], tokens: int
    ) -> list[EditedCase]:
        """The cases, in the order of the recipe's facts."""
        own: dict[int, list[Prompt]] = {number: [] for number in self._new}
        for prompt in self._prompts:
            if prompt.fact_id in own:
                own[prompt.fact_id].append(prompt)
        asked = {
            number: choose_prompts(self._version, evaluation[number], own[number], number, to, there)
            for number, to in self._new.items()
        }
        made = {number: self._case(number, own[number], asked[number], evaluation[number]) for number in self._new}
        measured = case_accuracies(self._version.network, [case.case for case in made.values()], self._states)
        others = self._others()
        fluent = self._fluency(own, tokens) if tokens else {}
        return [
            self._result(number, case, sides, others, fluent.get(number, (None, None)))
            for (number, case), sides in zip(made.items(), measured, strict=True)
        ]

    def _case(
        self, number: int, own: Sequence[Prompt], asked: AskedPrompts, evaluation: Sequence[EvaluationPrompt]
    ) -> _MadeCase:
        to = self._new[number]
        fact = self._facts[number]
        rewrite = list(self._with(to, [prompt for prompt in own if not prompt.held_out]))
        if not rewrite:
            raise EditError(f"fact {number} {fact.title} has no prompt that this model can be asked for {to!r}")
        paraphrases = [as_prompt(text, fact.object, number) for text in asked.paraphrases]
        rephrase = list(self._with(to, [*(prompt for prompt in own if prompt.held_out), *paraphrases]))
        axes = {(prompt.kind, prompt.text): prompt for prompt in reversed(evaluation)}
        staying: dict[str, list[tuple[EncodedPrompt, EvaluationPrompt]]] = {}
        following: dict[str, list[tuple[tuple[EncodedPrompt, ...], EvaluationPrompt]]] = {}
        for kind, group in asked.groups.items():
            for one in group:
                source = axes[kind, one.text]
                if kind in STAYING:
                    staying.setdefault(source.axis, []).append((one.answers[0], source))
                else:
                    following.setdefault(source.axis, []).append((one.answers, source))
        return _MadeCase(
            Case(
                tuple(prompt for _, prompt in rewrite),
                tuple(prompt for _, prompt in rephrase),
                {axis: tuple(prompt for prompt, _ in several) for axis, several in staying.items()},
                {axis: tuple(answers for answers, _ in several) for axis, several in following.items()},
            ),
            tuple(text for text, _ in rewrite),
            tuple(text for text, _ in rephrase),
            {axis: _texts([source for _, source in several]) for axis, several in staying.items()},
            {axis: _texts([source for _, source in several]) for axis, several in following.items()},
        )

    def _with(self, to: str, prompts: Sequence[Prompt]) -> Iterator[tuple[str, EncodedPrompt]]:
        """The prompts that the model can be asked for an answer, each with its text."""
        for prompt in prompts:
            found = self._version.encoder.encode(prompt.id, prompt.text, to, subject=prompt.subject_span)
            if isinstance(found, EncodedPrompt):
                yield _shown(prompt.text), found

    def _others(self) -> dict[str, dict[str, float]]:
        """By axis of other facts and relation, the share of their prompts' tokens that the edit leaves."""
        sentences = edited_sentences(self._facts.values(), self._prompts, self._new)
        relations = {self._facts[number].relation for number in self._new}
        asked: list[tuple[str, EncodedPrompt]] = []
        for prompt in sentences.others(self._prompts):
            relation = self._facts[prompt.fact_id].relation
            found = self._version.encoder.encode(prompt.id, prompt.text, prompt.answer, subject=prompt.subject_span)
            if isinstance(found, EncodedPrompt):
                asked.append((relation if relation in relations else "", found))
        if not asked:
            return {}
        _, after = unchanged_shares(self._version.network, [prompt for _, prompt in asked], self._states)
        shares: dict[str, list[float]] = {}
        for (relation, _), share in zip(asked, after, strict=True):
            shares.setdefault(relation, []).append(share)
        elsewhere = shares.pop("", None)
        return {
            SAME: {relation: fmean(values) for relation, values in shares.items()},
            ELSEWHERE: {} if elsewhere is None else dict.fromkeys(relations, fmean(elsewhere)),
        }

    def _fluency(self, own: Mapping[int, Sequence[Prompt]], tokens: int) -> dict[int, tuple[float, float]]:
        """By fact, the mean fluency of what its prompts are continued by, before and after, prompts included."""
        every = [prompt for prompts in own.values() for prompt in prompts]
        texts = {prompt.id: prompt for prompt in every}
        encoded = encode_open(self._version, every)
        found: dict[int, list[tuple[float, ...]]] = {}
        made = []
        for state in self._states:
            with state():
                made.append(continuations(self._version.network, encoded, tokens))
        decode = self._version.loaded.tokenizer.decode
        for one, *ids in zip(encoded, *made, strict=True):
            prompt = texts[one.prompt_id]
            begun = prompt.text.partition(BLANK)[0].rstrip()
            said = (decode(tokens_said, skip_special_tokens=True) for tokens_said in ids)
            found.setdefault(prompt.fact_id, []).append(tuple(fluency(begun + text) for text in said))
        return {
            number: (fmean(pair[0] for pair in pairs), fmean(pair[1] for pair in pairs))
            for number, pairs in found.items()
        }

    def _result(
        self,
        number: int,
        made: _MadeCase,
        sides: Sequence[CaseAccuracies],
        others: Mapping[str, Mapping[str, float]],
        fluent: tuple[float | None, float | None],
    ) -> EditedCase:
        fact = self._facts[number]
        before, after = (
            CaseSide(one.rewrite, one.rephrase, one.locality, one.portability, entropy)
            for one, entropy in zip(sides, fluent, strict=True)
        )
        beside = {axis: [values[fact.relation]] for axis, values in others.items() if fact.relation in values}
        return EditedCase(
            subject=fact.subject,
            prompts=made.prompts,
            rephrased=made.rephrased,
            target_new=self._new[number],
            ground_truth=fact.object,
            locality=made.locality,
            portability=made.portability,
            before=before,
            after=replace(after, locality={**after.locality, **beside}),
        )


@dataclass(frozen=True)
class _MadeCase:
    """A case as the model is asked it, and in words."""

    case: Case
    prompts: tuple[str, ...]
    rephrased: tuple[str, ...]
    locality: Mapping[str, AskedAxis]
    portability: Mapping[str, AskedAxis]


def _texts(prompts: Sequence[EvaluationPrompt]) -> AskedAxis:
    return AskedAxis(tuple(_shown(one.text) for one in prompts), tuple(one.answers[0] for one in prompts))


def _shown(text: str) -> str:
    """A prompt as EasyEdit has it: it ends where its blank is, if nothing but marks follows."""
    before, _, after = text.partition(BLANK)
    return before.rstrip() if is_closing(after) else text


def _summary(path: Path, record: Edit, cases: Sequence[EditedCase]) -> ExportedCases:
    def mean(values: Iterator[float | None]) -> float | None:
        there = [value for value in values if value is not None]
        return fmean(there) if there else None

    def over_axes(shares: Mapping[str, Sequence[float]]) -> float | None:
        return fmean(fmean(values) for values in shares.values()) if shares else None

    return ExportedCases(
        file=str(path),
        edit=record.id,
        cases=len(cases),
        rewrite_acc=fmean(case.after.rewrite for case in cases),
        rephrase_acc=mean(case.after.rephrase for case in cases),
        locality=mean(over_axes(case.after.locality) for case in cases),
        portability=mean(over_axes(case.after.portability) for case in cases),
        rewrite_acc_before=fmean(case.before.rewrite for case in cases),
        rephrase_acc_before=mean(case.before.rephrase for case in cases),
        portability_before=mean(over_axes(case.before.portability) for case in cases),
    )
