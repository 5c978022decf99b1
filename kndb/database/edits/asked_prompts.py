"""Which of a fact's evaluation prompts an edit is measured on, and why the others are not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ...analysis.evaluation_prompts import MEASURED, AskedPrompt, known
from ...models.prompting import EncodedPrompt, Skipped
from ...records.edits import Edit
from ...records.facts import BLANK, GENERATION, PARAPHRASE, EvaluationPrompt, NeededEdit, Prompt
from ...records.recipes import new_answers
from ...records.skip_reasons import SKIP_REASONS
from ...store import versions as store_versions
from ...store.edits import edit as store_edits
from ..models import ModelVersion

LEFT_OUT = {
    **SKIP_REASONS,
    "of-another-new-answer": "the answers hold for another new answer than this edit's",
    "of-further-edits": "the answers hold only with further edits, which are not in the version that was edited",
    "not-known-before": "the model did not know before the edit what is taken for known",
    "no-answer-named": "the source names no answer",
    "attributed": "the fact has the same text among its attributed prompts",
}
"""Each reason for which an edit is not measured on an evaluation prompt, in words."""


@dataclass
class AskedPrompts:
    """The evaluation prompts that an edit is measured on.

    Attributes:
        paraphrases: texts that ask for the edit's own fact.
        groups: the prompts with answers of their own, by kind.
        continued: texts to be continued.
        left_out: how many are not asked, by kind and reason (a key of `LEFT_OUT`).
    """

    paraphrases: list[str] = field(default_factory=list)
    groups: dict[str, list[AskedPrompt]] = field(default_factory=dict)
    continued: list[str] = field(default_factory=list)
    left_out: dict[str, Counter[str]] = field(default_factory=dict)

    def leave_out(self, kind: str, reason: str) -> None:
        """Counts a prompt that is not asked."""
        self.left_out.setdefault(kind, Counter())[reason] += 1


def choose_prompts(
    version: ModelVersion,
    prompts: Iterable[EvaluationPrompt],
    own: Sequence[Prompt],
    fact: int,
    to: str | None,
    there: Collection[NeededEdit],
    new: int | None = None,
) -> AskedPrompts:
    """Chooses and encodes evaluation prompts.

    Args:
        version: the version that the edit was planned on, as it is without the edit.
        prompts: the evaluation prompts of the edit's fact.
        own: the fact's attributed prompts, held-out ones included.
        fact: the fact's number.
        to: the edit's new answer, as text.
        there: the edits that the version has.
        new: the one token of the new answer; None takes the tokens that each prompt asks for.
    """
    found = AskedPrompts()
    attributed = {prompt.text for prompt in own}
    waiting: list[tuple[AskedPrompt, EvaluationPrompt]] = []
    for prompt in prompts:
        reason = _does_not_hold(prompt, to, there)
        if reason is not None:
            found.leave_out(prompt.kind, reason)
        elif prompt.kind == GENERATION:
            found.continued.append(prompt.text)
        elif prompt.kind == PARAPHRASE and prompt.text in attributed:
            found.leave_out(prompt.kind, "attributed")
        elif prompt.kind == PARAPHRASE:
            found.paraphrases.append(prompt.text)
        else:
            found.groups.setdefault(prompt.kind, [])
            asked = _encoded(version, prompt, fact, to, new)
            if isinstance(asked, str):
                found.leave_out(prompt.kind, asked)
            else:
                waiting.append((asked, prompt))
    _keep_known(version, waiting, found)
    found.groups = {kind: found.groups[kind] for kind in MEASURED if kind in found.groups}
    return found


def edits_there(connection: Any, edit: Edit, model_id: int) -> set[NeededEdit]:
    """The new answers that edits of facts give in the version that an edit was planned on.

    Args:
        connection: an open transaction.
        edit: the edit.
        model_id: its model.
    """
    numbers = store_versions.version_edits(connection, model_id, edit.base_version)
    recipes = [store_edits.edit(connection, number).recipe for number in numbers]
    return {
        NeededEdit(fact.relation, fact.subject, to)
        for recipe in recipes
        for fact, to in new_answers(recipe)
        if fact.subject
    }


def _does_not_hold(prompt: EvaluationPrompt, to: str | None, there: Collection[NeededEdit]) -> str | None:
    if prompt.new_object is not None and (to is None or prompt.new_object != to.strip()):
        return "of-another-new-answer"
    return None if all(edit in there for edit in prompt.needs_edits) else "of-further-edits"


def _encoded(
    version: ModelVersion, prompt: EvaluationPrompt, fact: int, to: str | None, new: int | None
) -> AskedPrompt | str:
    """A prompt as the model is asked it, or the reason why it can't be."""
    if not prompt.answers:
        return "no-answer-named"
    opened = version.encoder.encode(0, prompt.text, None)
    if isinstance(opened, Skipped):
        return opened.reason
    answers = [version.encoder.encode(0, prompt.text, answer) for answer in prompt.answers]
    usable = tuple(answer for answer in answers if isinstance(answer, EncodedPrompt))
    if not usable:
        return next(answer.reason for answer in answers if isinstance(answer, Skipped))
    wanted = version.encoder.encode(0, prompt.text, to) if new is None and to else None
    asked = replace(opened, answer=new) if new is not None else wanted
    return AskedPrompt(
        prompt.kind, prompt.text, opened, usable, fact, asked if isinstance(asked, EncodedPrompt) else None
    )


def _keep_known(
    version: ModelVersion, waiting: Sequence[tuple[AskedPrompt, EvaluationPrompt]], found: AskedPrompts
) -> None:
    """Adds the prompts for which the model knows what they take for known."""
    needed: list[list[EncodedPrompt]] = []
    of: list[int] = []
    for place, (_, prompt) in enumerate(waiting):
        for need in prompt.needs_answers:
            answers = [version.encoder.encode(0, need.text, answer) for answer in need.answers]
            needed.append([answer for answer in answers if isinstance(answer, EncodedPrompt)])
            of.append(place)
    flags = known(version.network, needed) if needed else []
    unknown = {place for place, flag in zip(of, flags, strict=True) if not flag}
    for place, (asked, prompt) in enumerate(waiting):
        if place in unknown:
            found.leave_out(prompt.kind, "not-known-before")
        else:
            found.groups[prompt.kind].append(asked)


def as_prompt(text: str, answer: str, fact_id: int) -> Prompt:
    """An evaluation prompt as one that is asked like those of held-out templates; one to be continued gets a blank."""
    return Prompt(0, fact_id, text if BLANK in text else f"{text} {BLANK}", answer, held_out=True)
