"""An edit that is computed on a model's current version, and neither stored nor applied yet."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from ...editing.objects.diff_file import EditObject, encode
from ..models import ModelVersion

if TYPE_CHECKING:
    from .batch import Unusable


@dataclass(frozen=True, eq=False)
class Draft:
    """An edit that is computed but not stored.

    Attributes:
        version: the model's version on which it was computed: the current one, but for some merges.
        content: the edit's object.
        fact_id: the fact that it is for, if it is for one.
        relation_id: the relation that it is for, if it is for one.
        refinement_id: whose knowledge neurons it changes, if anybody's.
        unusable: of an edit of many facts, those that it leaves out.
        current: of a merge, the id of the model's current version, which may be another one than `version`.
        built_by: of a merge, the edits that build `version` from the checkpoint, in order.
    """

    version: ModelVersion
    content: EditObject
    fact_id: int | None
    relation_id: int | None
    refinement_id: int | None
    unusable: tuple[Unusable, ...] = ()
    current: str | None = None
    built_by: tuple[int, ...] = ()

    @cached_property
    def object_hash(self) -> str:
        """The sha256 that its object has once it is stored."""
        return hashlib.sha256(encode(self.content)).hexdigest()
