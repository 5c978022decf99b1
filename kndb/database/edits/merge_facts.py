"""The facts of edits that are merged: which answers stand, and where two edits say different things."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...advice import call, option
from ...errors import EditError, UsageError
from ...records.edits import Edit
from ...records.facts import Fact
from ...records.recipes import OtherRecipe, new_answers
from ...store import facts as store_facts
from .edited_sentences import asked_by
from .kept_prompts import local_fact


@dataclass(frozen=True)
class SourceFact:
    """A fact of an edit that is merged.

    Attributes:
        edit: the edit; `fact`: the fact; `to`: the answer that the edit gives it.
        asked: what it asks; see `asked_by`.
    """

    edit: int
    fact: Fact
    to: str
    asked: frozenset[object]

    def against(self, other: SourceFact) -> bool:
        """Whether two edits give what is one question different answers."""
        return self.edit != other.edit and self.to != other.to and not self.asked.isdisjoint(other.asked)


@dataclass(frozen=True)
class ChosenFacts:
    """Which answers a merge gives.

    Attributes:
        every: all facts of all edits, in the edits' order.
        stands: for each of them, the fact of `targets` that is planned for it; None if another edit's answer stands.
        targets: each fact that is planned, once.
        remarks: what to say of answers that don't stand, and of facts that ask the same.
    """

    every: tuple[SourceFact, ...]
    stands: tuple[int | None, ...]
    targets: tuple[SourceFact, ...]
    remarks: tuple[str, ...]


def require_facts(records: Sequence[Edit]) -> None:
    """Refuses edits that give no fact a new answer.

    Raises:
        EditError: for the first one, with the way out.
    """
    for record in records:
        if new_answers(record.recipe):
            continue
        if isinstance(record.recipe, OtherRecipe):
            why = f"its recipe can't be read ({record.recipe.flaw})"
        else:
            why = f"it is of kind {record.kind}, which gives no fact a new answer"
        others = [one.id for one in records if one.id != record.id]
        if len(others) > 1:
            then = f"then merge the others, which is planned on the version that it leads to: {_merge(others)}"
        else:
            then = f"then plan the facts of edit {others[0]} again, on the version that it leads to"
        raise EditError(
            f"edit {record.id} can't be merged: {why}. Apply it as it is ({call('edits.apply', record.id)}), {then}"
        )


def source_facts(connection: Any, records: Sequence[Edit]) -> list[SourceFact]:
    """The facts of edits with their new answers, by their numbers here.

    Args:
        connection: an open transaction.
        records: the edits.

    Raises:
        EditError: if one is from another store, and its facts are not in this one.
    """
    found: list[SourceFact] = []
    for record in records:
        pairs = [(local_fact(record, fact.id), to.strip()) for fact, to in new_answers(record.recipe)]
        prompts: dict[int, list[Any]] = {number: [] for number, _ in pairs}
        for prompt in store_facts.prompts(connection, fact_ids=list(prompts)):
            prompts[prompt.fact_id].append(prompt)
        for number, to in pairs:
            fact = store_facts.fact(connection, number)
            found.append(SourceFact(record.id, fact, to, asked_by(fact, prompts[number])))
    return found


def choose_facts(facts: Sequence[SourceFact], prefer: Sequence[int]) -> ChosenFacts:
    """Says which answers a merge gives.

    Args:
        facts: of all edits.
        prefer: edits whose answers stand, the first one first.

    Raises:
        EditError: if edits give one question different answers and none of them is preferred; all are named.
    """
    ranks = {edit: place for place, edit in enumerate(prefer)}
    standing: list[SourceFact] = []
    lost: dict[int, SourceFact] = {}
    conflicts: list[tuple[SourceFact, SourceFact]] = []
    near = _Near()
    for place in sorted(range(len(facts)), key=lambda place: ranks.get(facts[place].edit, len(ranks))):
        fact = facts[place]
        against = [other for other in near.asking(fact) if fact.against(other)]
        winner = next((other for other in against if other.edit in ranks and other.edit != fact.edit), None)
        if winner is not None:
            lost[place] = winner
            continue
        conflicts += [(other, fact) for other in against]
        standing.append(fact)
        near.add(fact)
    if conflicts:
        raise EditError(_conflict(conflicts))
    return _planned(facts, lost)


class _Near:
    """Facts by what they ask, so that a thousand are compared in one pass."""

    def __init__(self) -> None:
        self._facts: dict[object, list[SourceFact]] = {}

    def add(self, fact: SourceFact) -> None:
        for key in fact.asked:
            self._facts.setdefault(key, []).append(fact)

    def asking(self, fact: SourceFact) -> list[SourceFact]:
        """The facts that ask the same, each once."""
        found = (other for key in fact.asked for other in self._facts.get(key, ()))
        return sorted({id(other): other for other in found}.values(), key=lambda one: (one.edit, one.fact.id))


def _planned(facts: Sequence[SourceFact], lost: Mapping[int, SourceFact]) -> ChosenFacts:
    """What is planned: of facts of one relation and subject, the first."""
    targets: list[SourceFact] = []
    first: dict[object, SourceFact] = {}
    stands: list[int | None] = []
    remarks: list[str] = []
    for place, fact in enumerate(facts):
        if place in lost:
            winner = lost[place]
            stands.append(None)
            remarks.append(
                f"The answer of edit {winner.edit} stands: {_named(winner)}, not {fact.to!r} as edit {fact.edit} says."
            )
            continue
        same = next((first[key] for key in _identity(fact) if key in first), None)
        if same is None:
            targets.append(fact)
            first.update(dict.fromkeys(_identity(fact), fact))
        elif same.fact.id != fact.fact.id:
            remarks.append(
                f"Facts {same.fact.id} and {fact.fact.id} ask the same and get the same answer; fact {same.fact.id} is "
                "planned for both."
            )
        stands.append((same or fact).fact.id)
    return ChosenFacts(tuple(facts), tuple(stands), tuple(targets), tuple(dict.fromkeys(remarks)))


def _identity(fact: SourceFact) -> list[object]:
    """What a joint plan has each of once: the fact, and its relation and subject."""
    return [key for key in fact.asked if not isinstance(key, str)]


def _conflict(conflicts: Sequence[tuple[SourceFact, SourceFact]]) -> str:
    edits = sorted({fact.edit for pair in conflicts for fact in pair})
    rows = "; ".join(
        f"{_named(one)} by edit {one.edit}, {_other(one, other)}{other.to!r} by edit {other.edit}"
        for one, other in conflicts
    )
    choice = " or ".join(option("prefer", [edit]) for edit in edits)
    count = len(conflicts)
    return (
        f"edits {', '.join(map(str, edits))} give {f'{count} questions' if count > 1 else 'one question'} different "
        f"answers: {rows}. Say whose answers stand: {choice}"
    )


def _other(one: SourceFact, other: SourceFact) -> str:
    """How the second fact of a conflict is called, where it is not the first."""
    return "" if one.fact.id == other.fact.id else f"fact {other.fact.id} {other.fact.title} → "


def _named(fact: SourceFact) -> str:
    return f"fact {fact.fact.id} {fact.fact.relation} of {fact.fact.subject or '(not named)'} → {fact.to!r}"


def _merge(edits: Sequence[int]) -> str:
    return call("edits.merge", list(edits))


def require_sources(edits: Sequence[int], prefer: Sequence[int]) -> None:
    """Checks which edits are named, before any work.

    Raises:
        UsageError: if there are fewer than two, one is named twice, or one is preferred that is not among them.
    """
    twice = next((edit for place, edit in enumerate(edits) if edit in edits[:place]), None)
    if twice is not None:
        raise UsageError(f"edit {twice} is named twice; name each edit once")
    if len(edits) < 2:
        raise UsageError(
            f"a merge is of at least two edits (got {len(edits)}); list the edits with: {call('edits.all')}"
        )
    for edit in prefer:
        if edit not in edits:
            listed = ", ".join(map(str, edits))
            raise UsageError(f"{option('prefer')} must be one of the edits that are merged, {listed} (got {edit})")
