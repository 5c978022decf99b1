"""An edit that is computed on a model's current version, and neither stored nor applied yet."""

from __future__ import annotations

from dataclasses import dataclass

from ...editing.objects.diff_file import EditObject
from ..models import ModelVersion


@dataclass(frozen=True, eq=False)
class Draft:
    """An edit that is computed but not stored.

    Attributes:
        version: the model's current version, on which it was computed.
        content: the edit's object.
        fact_id: the fact that it is for, if it is for one.
        relation_id: the relation that it is for, if it is for one.
        refinement_id: whose knowledge neurons it changes, if anybody's.
    """

    version: ModelVersion
    content: EditObject
    fact_id: int | None
    relation_id: int | None
    refinement_id: int | None
