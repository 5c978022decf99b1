"""Which fact of the store is to get which answer: from an own list of new answers, or from a list of edits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ...advice import Placeholder, call, option
from ...content import MOST_BYTES, at_most, require_seekable
from ...errors import InputError, NotFoundError, RejectedLine, UsageError
from ...exchange import targets as target_files
from ...facts import read
from ...facts.detection import holds_new_answers, table_delimiter
from ...records.facts import Fact, RequestedEdit
from ...store import facts as store_facts
from ...store.engine import Store
from .batch import Target, listed

_MEANING = {"alt": "the false answer, as EasyEdit takes it", "answers": "the true answer, as ROME takes it"}
"""What the fields of zsRE mean."""


class Targets(list[Target]):
    """Targets of a file.

    Attributes:
        left_out: the records of it that were left out, and why.
    """

    def __init__(self, targets: Iterable[Target], left_out: Sequence[str] = ()) -> None:
        super().__init__(targets)
        self.left_out = tuple(left_out)


def read_targets(
    store: Store,
    path: Path,
    new_answers: str | None = None,
    *,
    skip_unusable: bool = False,
    most_bytes: int = MOST_BYTES,
) -> Targets:
    """Reads new answers, and finds their facts.

    Args:
        store: the store.
        path: JSON lines or a table, see `kndb.exchange.targets`; or a list of edits as it was published, of
            CounterFact, zsRE, MQuAKE, KnowEdit, EasyEdit or RippleEdits. Which one it is, its content says.
        new_answers: of a list of edits with several answers, the field of the new one.
        skip_unusable: pass over records of a list of edits that can't be used, whose facts are not in the store, or
            that give a fact another answer than a record before them.
        most_bytes: a file with more of unpacked text is refused.

    Raises:
        InputError: if the file is no such list.
        NotFoundError: if facts are not in the store, or a name stands for several; all of them are named.
        UsageError: if the new answers are in another field, or it must be said which one; or a list of edits gives one
            fact several; or `most_bytes` is under 1.
    """
    if most_bytes < 1:
        raise UsageError(f"{option('most_bytes')} must be at least 1 (got {most_bytes})")
    if path.exists():
        require_seekable(path, named=False)
    with at_most(most_bytes):
        return _of_file(store, path, new_answers, skip_unusable)


def _of_file(store: Store, path: Path, new_answers: str | None, skip_unusable: bool) -> Targets:
    if path.is_file() and holds_new_answers(path):
        if new_answers is not None:
            raise UsageError(f"{option('new_answers')} is for lists of edits; {path} has its new answers in `to`")
        return Targets(_of_own_list(store, path))
    return _of_edit_list(store, path, new_answers, skip_unusable)


# --- own lists ------------------------------------------------------------------------------------------


def _of_own_list(store: Store, path: Path) -> list[Target]:
    delimiter = table_delimiter(path, [column.name for column in target_files.COLUMNS])
    named = target_files.read(path, delimiter)
    with store.reading() as connection:
        facts = store_facts.find_facts(connection)
    by_number = {fact.id: fact for fact in facts}
    by_name: dict[tuple[str, str | None], list[Fact]] = {}
    for fact in facts:
        by_name.setdefault((fact.relation, fact.subject), []).append(fact)
    found: list[Target] = []
    wrong: list[str] = []
    for one in named:
        place = f"{path.name}:{one.line}"
        match = _facts_named(one, by_number, by_name)
        if len(match) == 1:
            found.append(Target(match[0].id, one.to, place))
            continue
        name = f"fact {one.fact}" if one.fact is not None else f"{one.relation} {one.subject!r}"
        numbers = ", ".join(str(fact.id) for fact in match)
        wrong.append(f"{place} names {name}, " + (f"which are facts {numbers}" if match else "which is no such fact"))
    if wrong:
        raise NotFoundError(
            f"{len(wrong)} of {len(named)} rows don't name one fact: {listed(wrong)}. Find the facts with "
            f"{call('facts.find', subject=Placeholder('TEXT'))}, and name them by number"
        )
    return found


def _facts_named(
    one: target_files.NamedTarget,
    by_number: Mapping[int, Fact],
    by_name: Mapping[tuple[str, str | None], Sequence[Fact]],
) -> list[Fact]:
    """The facts that a row may mean: all that it says of them holds."""
    if one.fact is None:
        return list(by_name.get((str(one.relation), one.subject), ()))
    fact = by_number.get(one.fact)
    if fact is None or one.relation not in (None, fact.relation) or one.subject not in (None, fact.subject):
        return []
    return [fact]


# --- lists of edits -------------------------------------------------------------------------------------


def _of_edit_list(store: Store, path: Path, field: str | None, skip_unusable: bool) -> Targets:
    files = read(path, skip_invalid=True)
    asked = [(record, record.edit) for file in files for record in file.facts if record.edit is not None]
    rejected = [line for file in files for line in file.rejected]
    if not asked and not rejected:
        raise InputError(
            f"{path}: this is a list of facts, and it has no new answers; name them in a file of rows with "
            "`to`, and `fact` or `relation` and `subject`"
        )
    if rejected and not skip_unusable:
        raise _unreadable(rejected)
    _check_field(path, [edit for _, edit in asked], field)
    left_out = [str(line) for line in rejected]
    numbers = _numbers(store)
    found: dict[int, Target] = {}
    missing: list[str] = []
    further: list[str] = []
    for record, edit in asked:
        place = f"{path.name}:{edit.line}"
        to = next(iter(edit.answers.values())) if field is None else edit.answers.get(field)
        number = numbers.get(record.name)
        if number is None:
            missing.append(f"{place} {record.relation} {record.subject or record.external_id!r} → {record.object!r}")
        elif to is None:
            left_out.append(f"{place}: the record has no {field!r}")
        # A list may ask for one edit in several of its cases.
        elif (first := found.setdefault(number, Target(number, to, place))).to != to:
            further.append(f"{place}: {first.place} gives fact {number} another answer ({first.to!r}, here {to!r})")
    if missing and not (skip_unusable and found):
        raise NotFoundError(
            f"{len(missing)} of {len(asked)} facts of {path} are not in the store: {listed(missing)}. Add them with: "
            f"{call('facts.ingest', path)}"
        )
    if further and not skip_unusable:
        raise UsageError(
            f"{path} gives facts several answers, and an edit gives one: {listed(further)}. To take the first of each, "
            f"give {option('skip_unusable', True)}"
        )
    left_out += [f"{one}: the fact is not in the store" for one in missing]
    return Targets(found.values(), [*left_out, *further])


def _check_field(path: Path, edits: Sequence[RequestedEdit], field: str | None) -> None:
    """Checks that one field has the new answers.

    Raises:
        UsageError: if it is not said which one, or the list has none of that name.
    """
    fields = list(dict.fromkeys(name for edit in edits for name in edit.answers))
    if field is None and len(fields) > 1:
        choice = " or ".join(f"{option('new_answers', name)} ({_MEANING.get(name, 'its field')})" for name in fields)
        raise UsageError(f"{path} does not say which answers an edit is to give; say so with {choice}")
    if field is not None and edits and field not in fields:
        raise UsageError(f"{option('new_answers')} must be {' or '.join(fields)} for {path} (got {field!r})")


def _numbers(store: Store) -> dict[tuple[str, str | None, str | None], int]:
    """The numbers of all facts, by `FactRecord.name`."""
    with store.reading() as connection:
        facts = store_facts.find_facts(connection)
    return {
        (fact.relation, fact.subject, fact.external_id if fact.subject is None else fact.object): fact.id
        for fact in facts
    }


def _unreadable(rejected: Sequence[RejectedLine]) -> InputError:
    more = f"; and {len(rejected) - 1} more" if len(rejected) > 1 else ""
    return InputError(f"{rejected[0].text}{more}. To skip such records, give {option('skip_unusable', True)}", rejected)
