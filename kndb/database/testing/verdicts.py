"""Whether what a model answers passes a knowledge test, and in words why not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from ...analysis.knowledge_tests import AnswerReading, PromptAnswers
from ...models.token_texts import TokenTexts
from ...records.knowledge_tests import ERROR, FAILED, PASSED, KnowledgeOutcome, KnowledgeTest, PromptOutcome
from ...records.models import Answer
from .questions import AskedPrompt, AskedTest

_Readings = Mapping[str, AnswerReading]


@dataclass
class _Findings:
    """What is wrong with a prompt's answer: for sure, or not to be said as an answer can't be asked."""

    failed: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


def outcome_of(test: AskedTest, readings: Iterator[PromptAnswers], texts: TokenTexts) -> KnowledgeOutcome:
    """How a test ended.

    Args:
        test: the test as it was asked.
        readings: of the prompts that can be asked, from this test's on; those of this test are taken.
        texts: of the model's tokenizer.
    """
    if test.problem:
        return KnowledgeOutcome(test.test, ERROR, (), test.problem, test.left_out)
    prompts = tuple(
        _unasked(one) if one.open is None else _prompt(test.test, one, next(readings), texts) for one in test.prompts
    )
    status = next((status for status in (ERROR, FAILED) if any(one.status == status for one in prompts)), PASSED)
    why = next((one.why for one in prompts if one.status == status), "")
    return KnowledgeOutcome(test.test, status, prompts, why, test.left_out)


def _unasked(prompt: AskedPrompt) -> PromptOutcome:
    return PromptOutcome(prompt.text, ERROR, f"the prompt can't be asked: {prompt.unable['']}")


def _prompt(test: KnowledgeTest, prompt: AskedPrompt, found: PromptAnswers, texts: TokenTexts) -> PromptOutcome:
    readings = dict(zip(prompt.encoded, found.answers, strict=True))
    top = _answers(found, texts)
    told = _Told(prompt, readings, top[0], texts)
    findings = _Findings()
    _check_answers(test, prompt, told, findings)
    _check_refused(test, told, findings)
    status = FAILED if findings.failed else ERROR if findings.unknown else PASSED
    why = "; ".join(findings.failed or findings.unknown)
    acceptable = [readings[answer].probability for answer in prompt.answers if answer in readings]
    return PromptOutcome(prompt.text, status, why, max(acceptable, default=None), top)


def _answers(found: PromptAnswers, texts: TokenTexts) -> tuple[Answer, ...]:
    exact = texts.exact(tuple(token for token, _ in found.top))
    return tuple(
        Answer(text.strip() or text, probability, text, token)
        for (token, probability), text in zip(found.top, exact, strict=True)
    )


@dataclass(frozen=True)
class _Told:
    """What a model says to the answers of a prompt."""

    prompt: AskedPrompt
    readings: _Readings
    first: Answer
    texts: TokenTexts

    def unasked(self, answers: tuple[str, ...]) -> list[str]:
        """Of some answers, those that can't be asked, each with the reason."""
        return [f"{one!r} can't be asked: {self.prompt.unable[one]}" for one in answers if one in self.prompt.unable]

    def best(self, answers: tuple[str, ...]) -> str | None:
        """The most probable of some answers; None if none of them can be asked."""
        asked = [one for one in answers if one in self.readings]
        return max(asked, key=lambda one: self.readings[one].probability) if asked else None

    def likely(self, answer: str) -> str:
        """An answer with its probability."""
        return f"{answer!r} ({self.readings[answer].probability:.2g})"

    def instead(self, answer: str) -> str:
        """What is answered in place of an answer: another first token, or another one after some that are right."""
        tokens, predicted = self.prompt.encoded[answer].answers, self.readings[answer].predicted
        place = next(index for index, token in enumerate(tokens) if token != predicted[index])
        if place == 0:
            return f"answers {self.first.token!r} ({self.first.probability:.2g}), not {self.likely(answer)}"
        begun, other = self.text(tokens[:place]), self.text(predicted[place : place + 1])
        return f"after {begun!r} answers {other!r}, not {self.likely(answer)}"

    def text(self, tokens: tuple[int, ...]) -> str:
        """The text of tokens, without the space that it may begin with."""
        found = "".join(self.texts.exact(tokens))
        return found.strip() or found


def _check_answers(test: KnowledgeTest, prompt: AskedPrompt, told: _Told, findings: _Findings) -> None:
    if not prompt.answers:
        return
    best, unasked = told.best(prompt.answers), told.unasked(prompt.answers)
    if best is None:
        findings.unknown += unasked
        return

    def check(fits: Callable[[str], bool], wrong: Callable[[str], str]) -> None:
        """What holds for one of the answers holds; if it holds for none, one that can't be asked might do."""
        if not any(fits(answer) for answer in prompt.answers if answer in told.readings):
            (findings.unknown if unasked else findings.failed).append("; ".join([wrong(best), *unasked]))

    if not test.above:
        check(lambda answer: told.readings[answer].right, told.instead)
    bound = test.probability
    if bound is not None:
        check(lambda one: told.readings[one].probability >= bound, lambda one: f"{told.likely(one)} is below {bound:g}")
    findings.unknown += told.unasked(test.above)
    for other in test.above:
        if other in told.readings:
            limit = told.readings[other].probability
            check(
                lambda one, limit=limit: told.readings[one].probability > limit,  # type: ignore[misc]
                lambda one, other=other: f"{told.likely(one)} is not above {told.likely(other)}",  # type: ignore[misc]
            )


def _check_refused(test: KnowledgeTest, told: _Told, findings: _Findings) -> None:
    given = [answer for answer in test.refused if answer in told.readings and told.readings[answer].right]
    findings.failed += [f"answers {told.likely(answer)}, which it must not" for answer in given]
    findings.unknown += told.unasked(test.refused)
