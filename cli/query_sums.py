"""`kndb query shared`, `overlap`, `layers`, `counts`, `compare` and `collateral`: sums over the facts of relations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from kndb.errors import UsageError
from kndb.findings import Comparison
from kndb.records import Neuron, Refinement

from .options import (
    DatabaseOption,
    FormatOption,
    OptionalModelOption,
    PartOption,
    RefinementOption,
    RelationsOption,
    open_existing,
)
from .output import OutputFormat, as_row, note, print_parts, print_rows

LimitOption = Annotated[int | None, typer.Option("--limit", help="At most so many facts.", show_default=False)]

_LAYERS = ["layer", "pairs", "share", "neurons"]
_COUNTS = [
    "relation",
    "facts",
    "facts_with_none",
    "neurons",
    "mean",
    "first_quartile",
    "median",
    "third_quartile",
    "largest",
]
_CELLS = [
    "relation",
    "other",
    "pairs",
    "mean",
    "same_object_pairs",
    "same_object_mean",
    "different_object_pairs",
    "different_object_mean",
]
_SUMMARY = ["where", "cells", "pairs", "pooled_mean", "mean_of_means", *_CELLS[4:]]
_COMPARED_RELATIONS = [
    "relation",
    "facts",
    "facts_in_both",
    "mean_size_a",
    "mean_size_b",
    "mean_shared",
    "mean_jaccard",
    "identical",
]
_COMPARED_FACTS = ["fact", "relation", "subject", "object", "size_a", "size_b", "shared", "jaccard"]


def shared(
    relation: RelationsOption = None,
    across: Annotated[
        int | None,
        typer.Option("--across", help="Only neurons that facts of so many relations hold.", show_default=False),
    ] = None,
    between: Annotated[
        tuple[str, str] | None,
        typer.Option("--between", metavar="KEY KEY", help="Only neurons held by both relations.", show_default=False),
    ] = None,
    top: Annotated[int | None, typer.Option("--top", help="At most so many rows.", show_default=False)] = None,
    min_share: Annotated[
        float, typer.Option("--min-share", help="Only neurons held by at least this share of the facts.")
    ] = 0.0,
    model: OptionalModelOption = None,
    refinement: RefinementOption = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Which neurons the facts of some relations share, the most widely held first.

    Example: kndb query shared --relation P176 --top 10
    """
    relations, least = _sharing(relation or [], across, between)
    with open_existing(db) as database:
        chosen = database.query.refinement(refinement, model)
        rows = database.query.shared(relations, refinement=chosen.id, across=least, top=top, min_share=min_share)
    _note(chosen, relations)
    print_rows([as_row(row) for row in rows], ["layer", "neuron", "facts", "share", "relations"], output)


def overlap(
    relation: RelationsOption = None,
    part: PartOption = None,
    model: OptionalModelOption = None,
    refinement: RefinementOption = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """How many neurons two facts share on average, within each relation and between each two.

    Example: kndb query overlap --part summary
    """
    with open_existing(db) as database:
        chosen = database.query.refinement(refinement, model)
        found = database.query.overlap(relation or [], refinement=chosen.id)
    _note(chosen, relation)
    parts = {
        "summary": ([as_row(row) for row in found.summary], _SUMMARY),
        "cells": ([as_row(row) for row in found.cells], _CELLS),
    }
    print_parts(parts, output, part)


def layers(
    relation: RelationsOption = None,
    by_relation: Annotated[
        bool, typer.Option("--by-relation", help="Count each relation apart, in place of all together.")
    ] = False,
    model: OptionalModelOption = None,
    refinement: RefinementOption = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """How many knowledge neurons each layer has.

    Example: kndb query layers --relation P176
    """
    with open_existing(db) as database:
        chosen = database.query.refinement(refinement, model)
        found = database.query.layers(relation or [], refinement=chosen.id, by_relation=by_relation)
    _note(chosen, relation)
    print_rows(_named(found, output), ["relation", *_LAYERS], output)


def counts(
    relation: RelationsOption = None,
    model: OptionalModelOption = None,
    refinement: RefinementOption = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """How many knowledge neurons facts have, those with none included.

    Example: kndb query counts
    """
    with open_existing(db) as database:
        chosen = database.query.refinement(refinement, model)
        found = database.query.counts(relation or [], refinement=chosen.id)
    _note(chosen, relation)
    print_rows(_named(found, output), _COUNTS, output)


def compare(
    refinement_a: Annotated[int, typer.Argument(metavar="REF_A", help="A refinement; see: kndb query refinements.")],
    refinement_b: Annotated[int, typer.Argument(metavar="REF_B", help="Another one, of a model of the same size.")],
    relation: RelationsOption = None,
    limit: LimitOption = None,
    part: PartOption = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Two refinements side by side, over the facts that have knowledge neurons in either.

    Example: kndb query compare 1 2 --part relations
    """
    _require_positive(limit)
    with open_existing(db) as database:
        found = database.query.compare(refinement_a, refinement_b, relation or [])
    _note_models(found)
    parts = {
        "relations": (_named(found.relations, output), _COMPARED_RELATIONS),
        "settings": (_settings(found), ["setting", "a", "b"]),
        "facts": ([as_row(row) for row in found.facts[:limit]], _COMPARED_FACTS),
    }
    print_parts(parts, output, part)


def collateral(
    target: Annotated[
        list[str],
        typer.Argument(metavar="EDIT-or-NEURON", help="An edit's number, or neurons such as L9.N2827."),
    ],
    limit: LimitOption = None,
    part: PartOption = None,
    model: OptionalModelOption = None,
    refinement: RefinementOption = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Whose facts hold the value slots that an edit touches, or that an edit of these neurons would touch.

    Example: kndb query collateral L9.N2827 L10.N1
    """
    _require_positive(limit)
    wanted = _target(target)
    with open_existing(db) as database:
        edit = wanted if isinstance(wanted, int) else None
        chosen = database.query.refinement(refinement, model, edit=edit)
        found = database.query.collateral(wanted, refinement=chosen.id)
    _note(chosen)
    slots, facts = len(found.neurons), len(found.facts)
    note(
        f"{slots} value slot{'' if slots == 1 else 's'}, held by {facts} fact{'' if facts == 1 else 's'} of "
        f"{len(found.relations)} relation{'' if len(found.relations) == 1 else 's'}."
    )
    if found.edited:
        note(f"Not counted: what the edit is for, fact {', '.join(map(str, found.edited))}.")
    parts = {
        "relations": (
            [as_row(row) for row in found.relations],
            ["relation", "label", "facts", "share", "neurons"],
        ),
        "facts": (
            [as_row(row) for row in found.facts[:limit]],
            ["fact", "relation", "subject", "object", "neurons"],
        ),
    }
    print_parts(parts, output, part)


def _sharing(
    relations: Sequence[str], across: int | None, between: tuple[str, str] | None
) -> tuple[list[str], int | None]:
    """The relations to choose, and how many of them must hold a neuron."""
    if between is None:
        if not relations and across is None:
            raise UsageError(
                "one of --relation, --across and --between is required; for example: kndb query shared --relation P176"
            )
        return list(relations), across
    if relations or across is not None:
        other = "--relation" if relations else "--across"
        raise UsageError(
            f"found --between and {other}; --between names both relations itself. For more than two relations use "
            "--relation for each of them, and --across with their number"
        )
    if between[0] == between[1]:
        raise UsageError(f"found --between {between[0]} {between[1]}; expected two different relations")
    return list(between), 2


def _target(texts: Sequence[str]) -> int | list[Neuron]:
    numbers = [text for text in texts if text.strip().isdecimal()]
    if numbers and len(texts) > 1:
        raise UsageError(f"found {' '.join(texts)}; expected one edit's number alone, or neurons such as L9.N2827")
    return int(numbers[0]) if numbers else [Neuron.parse(text) for text in texts]


def _require_positive(limit: int | None) -> None:
    if limit is not None and limit < 1:
        raise UsageError(f"found limit {limit}; expected at least 1")


def _named(records: Sequence[Any], output: OutputFormat) -> list[dict[str, Any]]:
    """Rows; people read `all` where the relation is None."""
    rows = [as_row(record) for record in records]
    if output is OutputFormat.TABLE:
        rows = [{**row, "relation": "all" if row["relation"] is None else row["relation"]} for row in rows]
    return rows


def _note(chosen: Refinement, relations: Sequence[str] | None = None) -> None:
    note(f"Refinement {chosen.id} of run {chosen.run_id}.")
    missing = set(relations or ()) - {outcome.relation for outcome in chosen.relations}
    if missing:
        note(f"It has no attributed facts of {', '.join(sorted(missing))}.")


def _note_models(found: Comparison) -> None:
    one, other = found.settings_a, found.settings_b
    if one["model"] != other["model"] and (one["fingerprint"] != other["fingerprint"] or not one["fingerprint"]):
        note(
            f"Refinement {found.refinement_a} is of {one['model']}, refinement {found.refinement_b} of "
            f"{other['model']}, another checkpoint: neurons are compared by layer and number alone."
        )
    if not found.facts:
        note("No fact of these relations has knowledge neurons in either.")


def _settings(found: Comparison) -> list[dict[str, Any]]:
    """A row for each setting of either; those of the run and of the refinement by their group and name."""
    one, other = _flat(found.settings_a), _flat(found.settings_b)
    return [{"setting": name, "a": one.get(name), "b": other.get(name)} for name in {**one, **other}]


def _flat(settings: Mapping[str, object]) -> dict[str, object]:
    rows: dict[str, object] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            rows.update({f"{name.removesuffix('_settings')}.{inner}": item for inner, item in value.items()})
        else:
            rows[name] = value
    return rows
