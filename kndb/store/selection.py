"""Which facts a command works on: those of some relations, subjects or numbers; of them the first, or random ones."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from ..advice import Placeholder, call, option
from ..errors import NotFoundError, UsageError
from . import facts
from .numbers import there_are

_CANDIDATES = """
SELECT fact.id, fact.subject, relation.key
FROM fact JOIN relation ON relation.id = fact.relation_id
WHERE (:every OR fact.relation_id IN kndb_numbers(:relations))
  AND (:any_subject OR fact.subject IN kndb_texts(:subjects))
  AND (:any_fact OR fact.id IN kndb_numbers(:facts))
  AND EXISTS (
    SELECT 1 FROM prompt LEFT JOIN template ON template.id = prompt.template_id
    WHERE prompt.fact_id = fact.id AND (:held_out OR NOT COALESCE(template.held_out, FALSE)))
ORDER BY fact.id
"""
_SUBJECTS = "SELECT DISTINCT subject FROM fact WHERE subject IS NOT NULL"
_NUMBERED = """
SELECT fact.id, relation.key FROM fact JOIN relation ON relation.id = fact.relation_id
WHERE fact.id IN kndb_numbers(:facts)
"""


@dataclass(frozen=True)
class Selection:
    """A choice of facts; every part narrows it down.

    Attributes:
        relations: the relations' keys; none named means all.
        subjects: exact texts of subjects; none means any.
        facts: numbers of facts; none means any.
        first: of these, at most so many, in the store's order.
        sample: of these, at most so many, drawn at random: with one seed, a larger sample holds the smaller ones.
        seed: of the draw.
    """

    relations: Sequence[str] = ()
    subjects: Sequence[str] = ()
    facts: Sequence[int] = ()
    first: int | None = None
    sample: int | None = None
    seed: int = 0

    @property
    def narrowed(self) -> bool:
        """Whether it is more than a choice of relations."""
        return bool(self.subjects or self.facts) or self.first is not None or self.sample is not None


def require_sense(selection: Selection) -> None:
    """Checks what can be checked without a store.

    Raises:
        UsageError: for a number under 1, or both the first and random ones.
    """
    for name, number in (("facts", selection.first), ("sample", selection.sample)):
        if number is not None and number < 1:
            raise UsageError(f"{option(name)} must be at least 1 (got {number})")
    if selection.first is not None and selection.sample is not None:
        raise UsageError(
            f"{option('facts')} takes the first facts and {option('sample')} random ones; give one of the two"
        )


def select_facts(connection: Connection, selection: Selection, *, held_out: bool) -> list[int]:
    """The numbers of the chosen facts that have prompts, ascending.

    Args:
        connection: an open transaction.
        selection: the choice.
        held_out: whether prompts of held-out templates count.

    Raises:
        NotFoundError: for a relation, subject or fact that is not in the store; the message names near ones.
        UsageError: for a fact of another relation than those named.
    """
    named = facts.named_relations(connection, selection.relations)
    _require_numbers(connection, selection.facts, list(named))
    _require_subjects(connection, selection.subjects)
    rows = connection.execute(
        text(_CANDIDATES),
        {
            "every": not selection.relations,
            "relations": json.dumps(list(named.values())),
            "any_subject": not selection.subjects,
            "subjects": json.dumps(list(selection.subjects)),
            "any_fact": not selection.facts,
            "facts": json.dumps(list(selection.facts)),
            "held_out": held_out,
        },
    )
    found = [int(row[0]) for row in rows]
    if selection.sample is not None:
        return sorted(sorted(found, key=lambda fact: _drawn(selection.seed, fact))[: selection.sample])
    return found[: selection.first]


def _drawn(seed: int, fact: int) -> bytes:
    """A fact's place in the random order of a seed, which other facts do not change."""
    return hashlib.blake2b(f"{seed}:{fact}".encode(), digest_size=8).digest()


def _require_numbers(connection: Connection, numbers: Sequence[int], relations: Sequence[str]) -> None:
    rows = connection.execute(text(_NUMBERED), {"facts": json.dumps(list(numbers))})
    found = {int(row[0]): str(row[1]) for row in rows}
    for number in numbers:
        if number not in found:
            known = there_are([row[0] for row in connection.exec_driver_sql("SELECT id FROM fact")], number)
            raise NotFoundError(
                f"{option('fact_ids', [number])}: no fact has this number; {known}. List the facts with: "
                f"{call('facts.find')}"
            )
        if relations and found[number] not in relations:
            raise UsageError(
                f"{option('fact_ids', [number])} is of relation {found[number]}, and {option('relations')} names "
                f"{', '.join(relations)}; leave out {option('relations')}, or add "
                f"{option('relations', [found[number]])}"
            )


def _require_subjects(connection: Connection, subjects: Sequence[str]) -> None:
    if not subjects:
        return
    known = [str(row[0]) for row in connection.exec_driver_sql(_SUBJECTS)]
    for subject in subjects:
        if subject not in known:
            raise NotFoundError(_no_subject(subject, known))


def _no_subject(subject: str, known: list[str]) -> str:
    given = option("subjects", [subject])
    if not known:
        return f"{given}: the database has no facts yet; add some with: {call('facts.ingest', Placeholder('PATH'))}"
    folded: dict[str, str] = {}
    for name in known:
        folded.setdefault(name.casefold(), name)
    wanted = subject.casefold().strip()
    near = [name for fold, name in folded.items() if fold == wanted]
    near += [folded[fold] for fold in difflib.get_close_matches(wanted, folded, n=3, cutoff=0.6)]
    holding = [name for fold, name in folded.items() if wanted and wanted in fold]
    names = list(dict.fromkeys([*near, *sorted(holding, key=len)]))[:3]
    hint = f"the nearest are {', '.join(map(repr, names))}" if names else "none is near"
    search = call("facts.find", subject=names[0] if names else Placeholder("TEXT"))
    return f"{given}: no fact has exactly this subject; {hint}. Search with: {search}"
