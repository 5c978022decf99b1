"""What a stored edit does to the answers that it is for, and to others, on the version that it was planned on."""

from __future__ import annotations

from dataclasses import dataclass

from ...editing.objects import diff_file
from ...errors import UsageError
from ...records.group_recipes import GroupRecipe
from ...records.recipes import EraseRecipe, facts_of
from ...store.choosing import answering, find
from ...store.edits import edit as store_edits
from ...store.engine import Store
from ..models import ModelCommands, ModelVersion
from .draft import Draft
from .flips import FlippedFact
from .kept_prompts import local_fact
from .preview import EditPreview, preview, preview_flips
from .preview_together import PreviewedFact, preview_together
from .recipe_fits import require_fit


@dataclass(frozen=True)
class StoredPreview:
    """What a stored edit does.

    Attributes:
        one: of an edit of one fact or one relation; else None.
        facts: of an edit of many facts, what it does to each of them.
        asked: how many other facts were asked whether their answers flip.
        flips: those of them whose answers do.
    """

    one: EditPreview | None
    facts: tuple[PreviewedFact, ...] = ()
    asked: int = 0
    flips: tuple[FlippedFact, ...] = ()


def preview_stored(
    store: Store, models: ModelCommands, edit: int, top: int, others: int, on: ModelVersion | None = None
) -> StoredPreview:
    """See `EditCommands.preview_stored`."""
    with store.reading() as connection:
        record = store_edits.edit(connection, edit)
        recipe = record.recipe
        own = facts_of(recipe)
        group = isinstance(recipe, GroupRecipe)
        if not own and not isinstance(recipe, EraseRecipe):
            raise UsageError(f"edit {edit} does not say which facts it is for, so nothing can be asked for it")
        if group and record.fact_numbers is not None:
            raise UsageError(f"edit {edit} came from another store, whose facts have other numbers; measure it instead")
        fact = None if group or not own else local_fact(record, own[0].id)
        if group:
            chosen = find(connection, model=record.model)
            refinement = None if chosen is None else chosen.refinement.id
        else:
            refinement = answering(connection, None, model=record.model).id
    content = diff_file.read(store.objects, record.object_path, record.object_hash)
    if on is not None and (on.record.name, on.version) != (record.model, record.base_version):
        raise UsageError(f"edit {edit} was planned on version {record.base_version}; give that version of its model")
    version = models.load(record.model, record.base_version) if on is None else on
    require_fit(record.id, recipe, version.network)
    draft = Draft(version, content, fact, None, refinement)
    if group:
        to_others = preview_flips(store, draft, others)
        return StoredPreview(None, tuple(preview_together(store, [draft])), to_others.asked, to_others.flips)
    one = preview(store, draft, top, others)
    return StoredPreview(one, (), one.asked, one.flips)
