"""What a stored edit does to the answers that it is for, and to others, on the version that it was planned on."""

from __future__ import annotations

from dataclasses import dataclass

from ...editing.objects import diff_file
from ...errors import UsageError
from ...records.group_recipes import GroupRecipe
from ...records.recipes import EraseRecipe, facts_of
from ...store.choosing import answering
from ...store.edits import edit as store_edits
from ...store.engine import Store
from ..models import ModelCommands
from .draft import Draft
from .kept_prompts import local_fact
from .preview import EditPreview, preview
from .preview_together import PreviewedFact, preview_together
from .recipe_fits import require_fit


@dataclass(frozen=True)
class StoredPreview:
    """What a stored edit does.

    Attributes:
        one: of an edit of one fact or one relation; else None.
        facts: of an edit of many facts, what it does to each of them.
    """

    one: EditPreview | None
    facts: tuple[PreviewedFact, ...] = ()


def preview_stored(store: Store, models: ModelCommands, edit: int, top: int, others: int) -> StoredPreview:
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
        refinement = None if group else answering(connection, None, model=record.model).id
    content = diff_file.read(store.objects, record.object_path, record.object_hash)
    version = models.load(record.model, record.base_version)
    require_fit(record.id, recipe, version.network)
    draft = Draft(version, content, fact, None, refinement)
    if group:
        return StoredPreview(None, tuple(preview_together(store, [draft])))
    return StoredPreview(preview(store, draft, top, others))
