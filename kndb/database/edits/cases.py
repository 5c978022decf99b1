"""Cases to try edits on, drawn from a store: facts that a model knows, each with another object of its relation."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...advice import call, option
from ...analysis.evaluation_prompts import known
from ...errors import EditError, UsageError
from ...exchange import edit_cases
from ...files import require_new_file, writing
from ...models.prompting import EncodedPrompt
from ...records.cases import LEFT_OUT, CasePrompt, CaseSet, CaseSettings, EditCase
from ...records.facts import PARAPHRASE, Fact, Prompt, by_fact
from ...records.progress import Progress
from ...store import evaluation_prompts
from ...store import facts as store_facts
from ...store.engine import Store
from ..models import ModelCommands, ModelVersion
from .edited_sentences import EditedSentences, edited_sentences
from .known_facts import KnownShares, is_known

FORMATS = ("lines", "counterfact")
"""How cases are written: JSON lines of kndb's own, or CounterFact's JSON."""
_AT_ONCE = 32
"""Facts that are asked at once."""


def draw_cases(
    store: Store,
    models: ModelCommands,
    model: str,
    relations: Sequence[str],
    settings: CaseSettings,
    progress: Progress | None = None,
) -> CaseSet:
    """Draws cases; see `EditCommands.cases`."""
    models.get(model)
    with store.reading() as connection:
        keys = store_facts.named_relations(connection, relations)
        every = store_facts.find_facts(connection)
        labels = {one.key: one.label for one in store_facts.relations(connection)}
        wanted = [fact for fact in every if not keys or fact.relation in keys]
        of_fact = by_fact(store_facts.prompts(connection, fact_ids=[fact.id for fact in wanted]))
    draw = _Draw(models.load(model), wanted, of_fact, settings)
    drawn = draw.known_facts(progress)
    if not drawn:
        why = "; ".join(f"{count} because {LEFT_OUT[reason]}" for reason, count in sorted(draw.left_out.items()))
        raise EditError(
            f"no fact of {', '.join(keys) or 'the store'} can be a case for model {model}: "
            f"{why or 'there is none'}. See which facts there are with {call('facts.relations')}"
        )
    cases = []
    for fact, to in drawn:
        with store.reading() as connection:
            of_source = evaluation_prompts.of_fact(connection, fact.id)
        further = [CasePrompt(one.text, fact.subject or "") for one in of_source if one.kind == PARAPHRASE]
        own = of_fact.get(fact.id, ())
        cases.append(
            EditCase(
                relation=fact.relation,
                label=labels.get(fact.relation),
                subject=fact.subject or "",
                object=fact.object,
                to=to,
                prompts=tuple(_of_case(one, fact) for one in own if not one.held_out),
                paraphrases=(*(_of_case(one, fact) for one in own if one.held_out), *further),
                neighbours=draw.neighbours(fact),
            )
        )
    return CaseSet(tuple(cases), model, draw.version.version, dict(sorted(draw.left_out.items())))


def write_cases(cases: CaseSet, path: Path, form: str, *, force: bool) -> CaseSet:
    """Writes cases to a file, and gives those that were written; see `EditCommands.write_cases`."""
    if form not in FORMATS:
        raise UsageError(f"{option('form')} must be one of {', '.join(FORMATS)} (got {form})")
    require_new_file(path, force=force)
    written = cases
    if form == "counterfact":
        kept = tuple(one for one in cases.cases if edit_cases.has_rewrite(one))
        lost = len(cases.cases) - len(kept)
        if not kept:
            raise EditError(f"no case can be written as CounterFact's: {LEFT_OUT['blank-not-last']}")
        left_out = {**cases.left_out, **({"blank-not-last": lost} if lost else {})}
        written = CaseSet(kept, cases.model, cases.version, left_out)
    with writing(path) as scratch:
        write = edit_cases.write_counterfact if form == "counterfact" else edit_cases.write_lines
        write(scratch, written.cases)
    return written


class _Draw:
    """A draw of facts that a model knows; the same for the same seed, whatever the order of the store.

    Attributes:
        version: the model; `left_out`: how many facts that were drawn are no cases, by reason.
    """

    def __init__(
        self,
        version: ModelVersion,
        facts: Sequence[Fact],
        prompts: Mapping[int, Sequence[Prompt]],
        settings: CaseSettings,
    ) -> None:
        self.version = version
        self.left_out: Counter[str] = Counter()
        self._facts = sorted(facts, key=lambda fact: (fact.relation, fact.subject or "", fact.object, fact.id))
        self._prompts = prompts
        self._settings = settings
        self._shares = KnownShares(version, prompts)
        self._edited = EditedSentences(frozenset(), frozenset())
        self._near: dict[tuple[str, str], list[Fact]] = {}
        self._of_subject: dict[tuple[str, str], set[str]] = {}
        self._objects: dict[str, dict[str, str]] = {}
        for fact in self._facts:
            self._near.setdefault((fact.relation, fact.object), []).append(fact)
            self._of_subject.setdefault(_about(fact), set()).add(_folded(fact.object))
            self._objects.setdefault(fact.relation, {}).setdefault(_folded(fact.object), fact.object)

    def known_facts(self, progress: Progress | None) -> list[tuple[Fact, str]]:
        """The facts that are cases, with their new answers, in the order drawn."""
        pool = list(self._facts)
        self._chance("facts").shuffle(pool)
        found: list[tuple[Fact, str]] = []
        seen: set[tuple[str, str]] = set()
        for start in range(0, len(pool), _AT_ONCE):
            some = pool[start : start + _AT_ONCE]
            for fact, share in zip(some, self._shares.of(some), strict=True):
                if len(found) == self._settings.count:
                    break
                reason = self._flaw(fact, share, seen)
                to = None if reason else self._other_object(fact)
                if reason is None and to is None:
                    reason = "no-other-object"
                if reason is not None:
                    self.left_out[reason] += 1
                    continue
                assert to is not None
                seen.add(_about(fact))
                found.append((fact, to))
            if progress is not None:
                progress(len(found), self._settings.count)
            if len(found) == self._settings.count:
                break
        texts = [prompt for fact, _ in found for prompt in self._prompts.get(fact.id, ())]
        self._edited = edited_sentences(self._facts, texts, [fact.id for fact, _ in found])
        return found

    def neighbours(self, fact: Fact) -> tuple[CasePrompt, ...]:
        """Prompts of other subjects with a fact's object, which the model answers; none asks what a case asks."""
        others = [
            other
            for other in self._near[fact.relation, fact.object]
            if other.id not in self._edited.facts and other.subject is not None
        ]
        self._chance(f"neighbours {fact.relation} {fact.subject}").shuffle(others)
        found: list[CasePrompt] = []
        for start in range(0, len(others), _AT_ONCE):
            if len(found) >= self._settings.neighbours:
                break
            some = others[start : start + _AT_ONCE]
            pairs = [pair for place, other in enumerate(some) if (pair := self._one_of(other, place)) is not None]
            flags = known(self.version.network, [[encoded] for _, _, encoded in pairs]) if pairs else []
            found += [_of_case(prompt, other) for (other, prompt, _), flag in zip(pairs, flags, strict=True) if flag]
        return tuple(found[: self._settings.neighbours])

    def _one_of(self, fact: Fact, place: int) -> tuple[Fact, Prompt, EncodedPrompt] | None:
        """One of a fact's prompts, other ones for other facts, as the model is asked it."""
        prompts = [one for one in self._prompts.get(fact.id, ()) if not one.held_out and not self._edited.asks(one)]
        for prompt in prompts[place % max(len(prompts), 1) :] + prompts[: place % max(len(prompts), 1)]:
            encoded = self._encoded(prompt, fact.object)
            if encoded is not None:
                return fact, prompt, encoded
        return None

    def _flaw(self, fact: Fact, share: float | None, seen: set[tuple[str, str]]) -> str | None:
        """Why a fact is no case, as far as its own object says."""
        if fact.subject is None:
            return "not-named"
        if len(self._of_subject[_about(fact)]) > 1 or _about(fact) in seen:
            return "several-objects"
        if share is None:
            return "not-asked"
        return None if is_known(share, self._settings.known) else "not-known"

    def _other_object(self, fact: Fact) -> str | None:
        own = self._of_subject[_about(fact)]
        others = [word for folded, word in sorted(self._objects[fact.relation].items()) if folded not in own]
        self._chance(f"object {fact.relation} {fact.subject}").shuffle(others)
        prompts = self._training(fact)
        return next((word for word in others if any(self._encoded(one, word) for one in prompts)), None)

    def _training(self, fact: Fact) -> list[Prompt]:
        return [one for one in self._prompts.get(fact.id, ()) if not one.held_out]

    def _encoded(self, prompt: Prompt, answer: str) -> EncodedPrompt | None:
        found = self.version.encoder.encode(prompt.id, prompt.text, answer, subject=prompt.subject_span)
        return found if isinstance(found, EncodedPrompt) else None

    def _chance(self, what: str) -> random.Random:
        return random.Random(f"{self._settings.seed} {what}")  # noqa: S311 - not for secrets


def _of_case(prompt: Prompt, fact: Fact) -> CasePrompt:
    return CasePrompt(prompt.text, fact.subject or "", prompt.subject_span)


def _about(fact: Fact) -> tuple[str, str]:
    return fact.relation, _folded(fact.subject or "")


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())
