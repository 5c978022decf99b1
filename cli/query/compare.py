"""`kndb query compare`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from kndb.records.attribution import Refinement
from kndb.records.queries import Comparison

from ..options import (
    DatabaseOption,
    FormatOption,
    LimitOption,
    PartOption,
    RelationsOption,
    open_existing,
)
from ..output import OutputFormat, as_row, note, print_parts, sorted_rows
from .neuron import Parts
from .rows import named, require_positive

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


def compare(
    refinement_a: Annotated[
        int, typer.Argument(metavar="REF_A", help="The number of a refinement; see: kndb query refinements.")
    ],
    refinement_b: Annotated[
        int, typer.Argument(metavar="REF_B", help="The number of another one, of a model of the same size.")
    ],
    relation: RelationsOption = None,
    limit: LimitOption = None,
    part: PartOption = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Compare two refinements, over the facts that have knowledge neurons in either.

    Example: kndb query compare 2 3 --part relations
    """
    require_positive(limit)
    with open_existing(db) as database:
        found = database.query.compare(refinement_a, refinement_b, relation or [])
        one, other = (database.query.refinement(number) for number in (refinement_a, refinement_b))
    note(f"a: {one.title}.")
    note(f"b: {other.title}.")
    _note_models(found)
    _note_missing(found, one, other)
    parts: Parts = {
        "relations": (named(found.relations, output), _COMPARED_RELATIONS),
        "settings": (_settings(found), ["setting", "a", "b"]),
        "facts": (sorted_rows([as_row(row) for row in found.facts])[:limit], _COMPARED_FACTS),
    }
    print_parts(parts, output, part)


def _note_missing(found: Comparison, one: Refinement, other: Refinement) -> None:
    """Says of facts that one of the two refinements never attributed: here they count as facts without neurons."""
    compared = {row.relation for row in found.relations if row.relation is not None}
    a, b = (
        {each.relation: each.facts for each in side.relations if each.relation in compared} for side in (one, other)
    )
    fewer = {"a": _lacking(a, b), "b": _lacking(b, a)}
    for side, missing in fewer.items():
        if missing:
            note(
                f"Warning: {side} holds fewer facts of {', '.join(missing)} than the other. A fact that was never "
                "attributed counts as one without neurons, so that means and Jaccard indices are too low."
            )


def _lacking(own: Mapping[str, int], others: Mapping[str, int]) -> list[str]:
    return [f"{key} ({own.get(key, 0):,} of {count:,})" for key, count in others.items() if own.get(key, 0) < count]


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
