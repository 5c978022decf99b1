"""One edit of several that overlap: the facts of all, planned together from their recipes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from ...advice import call, for_python, option
from ...errors import UsageError
from ...records.attribution import RefinementChoice
from ...records.display import Rows
from ...records.edits import Edit
from ...records.merges import MergedFact, MergedFrom
from ...records.progress import Progress
from ...records.recipes import Recipe
from ...records.together import KeptFacts, TogetherRecipe, TogetherSettings
from ...store import versions as store_versions
from ...store.edits import edit as store_edits
from ...store.engine import Store
from ..models import ModelCommands
from .batch import Target
from .draft import Draft
from .merge_base import MergeBase, load_base, merge_base
from .merge_facts import ChosenFacts, choose_facts, require_facts, require_sources, source_facts
from .merge_report import report_merge
from .together import draft_together

MergeSettings = TogetherSettings | Mapping[str, Any]
"""The settings of a merge: all of them, or some by their names."""


@dataclass(frozen=True, eq=False)
class MergeDraft:
    """A merge that is computed but not stored.

    Attributes:
        draft: the edit; `EditCommands.add` stores it.
        facts: what becomes of each fact of each merged edit.
        revert_first: the merged edits that are applied, in the order in which to revert them before the merge.
        texts: sentences on what was chosen, with the marks of `kndb.advice`.
    """

    draft: Draft
    facts: Rows[MergedFact]
    revert_first: tuple[int, ...]
    texts: tuple[str, ...]

    @property
    def remarks(self) -> list[str]:
        """Sentences on what was chosen, as Python says them."""
        return [for_python(text) for text in self.texts]


@dataclass(frozen=True)
class Merge:
    """A merge that was planned and stored; nothing is applied.

    Attributes:
        edit: the edit; `facts`, `revert_first`, `remarks`: see `MergeDraft`.
    """

    edit: Edit
    facts: Rows[MergedFact]
    revert_first: tuple[int, ...]
    remarks: tuple[str, ...]


def draft_merge(
    store: Store,
    models: ModelCommands,
    edits: Sequence[int],
    *,
    prefer: Sequence[int] = (),
    settings: MergeSettings | None = None,
    keep: KeptFacts | None = None,
    layers: Sequence[int] = (),
    refinement: RefinementChoice = None,
    anyway: bool = False,
    steps_file: Path | None = None,
    progress: Progress | None = None,
) -> MergeDraft:
    """Plans one edit that gives the facts of several edits their new answers; see `EditCommands.draft_merge`."""
    require_sources(edits, prefer)
    with store.reading() as connection:
        records = [store_edits.edit(connection, number) for number in edits]
        _require_one_model(records)
        require_facts(records)
        model_id = store_edits.edit_model(connection, edits[0])
        chosen = choose_facts(source_facts(connection, records), prefer)
        base = merge_base(connection, model_id, edits, anyway=anyway)
        built = {one.id: store_versions.version_edits(connection, model_id, one.base_version) for one in records}
        every = store_edits.edits(connection, model_id)
    how, remarks = _settings([one.recipe for one in records], settings)
    where, whose = _slots(records, base, how, layers, refinement)
    stepped = load_base(store, models, records[0].model, base, every)
    draft = draft_together(
        store,
        models,
        records[0].model,
        [Target(one.fact.id, one.to, f"edit {one.edit}") for one in chosen.targets],
        how,
        keep or KeptFacts(),
        layers=where,
        refinement=whose,
        steps_file=steps_file,
        progress=progress,
        on=stepped.version,
    )
    draft = replace(_noting_sources(draft, records, chosen), current=base.current, built_by=base.edits)
    facts = report_merge(store, stepped, base.edits, draft.content, chosen, built)
    told = [*chosen.remarks, *remarks, *_on_versions(records, base)]
    return MergeDraft(draft, Rows(facts, MergedFact), base.taken_out, tuple(told))


def _require_one_model(records: Sequence[Edit]) -> None:
    names = sorted({record.model for record in records})
    if len(names) > 1:
        raise UsageError(f"the edits are of models {', '.join(names)}; a merge is of edits of one model")


def _settings(recipes: Iterable[Recipe], given: MergeSettings | None) -> tuple[TogetherSettings, list[str]]:
    """The settings: those given, else those on which the merged joint plans agree, else the defaults; and what to say.

    Raises:
        UsageError: if one is unknown, or out of its range.
    """
    if isinstance(given, TogetherSettings):
        return given, []
    named = dict(given or {})
    # A penalty that is named is that of the last steps, too.
    if "keep" in named:
        named.setdefault("keep_last", None)
    known = {one.name: one.default for one in fields(TogetherSettings)}
    for name in named:
        if name not in known:
            raise UsageError(f"{name!r} is no setting of a merge; they are {', '.join(known)}")
    joint = [recipe.settings for recipe in recipes if isinstance(recipe, TogetherRecipe)]
    remarks: list[str] = []
    for name, default in known.items():
        values = list(dict.fromkeys(getattr(settings, name) for settings in joint))
        if name in named or not values:
            continue
        if len(values) == 1:
            named[name] = values[0]
        else:
            shown = [_in_words(name, value) for value in (*values, default)]
            remarks.append(
                f"The edits were planned with {option(name)} {' and '.join(shown[:-1])}; the merge takes the "
                f"default, {shown[-1]}, unless you name another."
            )
    return TogetherSettings(**named), remarks


def _in_words(name: str, value: object) -> str:
    """A setting's value; None, and a learning rate of 0, stand for one that is fitted to the model."""
    return "fitted" if value is None or (name == "learning_rate" and value == 0) else str(value)


def _slots(
    records: Sequence[Edit],
    base: MergeBase,
    settings: TogetherSettings,
    layers: Sequence[int],
    refinement: RefinementChoice,
) -> tuple[Sequence[int], RefinementChoice]:
    """The layers to change, if they are not chosen by knowledge neurons; and whose these are, if one answer is agreed.

    An edit from elsewhere, or one of named layers, has no refinement here: with one of these, the merge changes the
    layers that the merged edits change.
    """
    if layers or refinement is not None:
        return layers, refinement
    numbers = [None if record.pulled else getattr(record.recipe, "refinement", None) for record in records]
    if settings.scope == "layers" and None in numbers and base.layers:
        return base.layers, None
    agreed = set(numbers)
    return (), agreed.pop() if len(agreed) == 1 else None


def _noting_sources(draft: Draft, records: Sequence[Edit], chosen: ChosenFacts) -> Draft:
    """The draft, its recipe saying which facts are from which edit."""
    recipe = draft.content.recipe
    assert isinstance(recipe, TogetherRecipe), "a merge is a joint plan"
    planned = {fact.id for fact in recipe.facts}
    sources = tuple(
        MergedFrom(
            edit=record.id,
            object_hash=record.object_hash,
            facts=tuple(
                number
                for one, number in zip(chosen.every, chosen.stands, strict=True)
                if one.edit == record.id and number is not None and number in planned
            ),
        )
        for record in records
    )
    return replace(draft, content=replace(draft.content, recipe=replace(recipe, merged_from=sources)))


def _on_versions(records: Sequence[Edit], base: MergeBase) -> list[str]:
    """What to say of the version that the merge is planned on."""
    found = []
    elsewhere = [record for record in records if record.base_version != base.version]
    if elsewhere:
        rows = ", ".join(f"edit {record.id} on {record.base_version}" for record in elsewhere)
        found.append(f"The merge is planned on version {base.version}; {rows}.")
    if base.taken_out:
        count, first = len(base.taken_out), base.taken_out[0]
        which = f"edit {first}, which is applied" if count == 1 else f"{count} edits that are applied"
        back = call("edits.revert", first) if count == 1 else call("edits.revert_all", list(base.taken_out))
        found.append(f"The merge takes the place of {which}. First take {'it' if count == 1 else 'them'} out: {back}")
    return found
