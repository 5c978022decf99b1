"""Edits of many facts in sequence: so many facts each, every edit planned on the weights with those before it.

All are stored or none. What an edit keeps of those before it, such as AlphaEdit's keys, follows from the edits of the
version and the drafts so far: nothing else is carried from one to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...advice import option
from ...editing.objects.slots import apply_object
from ...errors import EditError, UsageError
from ...records.progress import Progress
from ...store import facts as store_facts
from ...store.engine import Store
from ..models import ModelVersion
from .batch import Target, Unusable
from .draft import Draft
from .together import require_one_answer_each

Plan = Callable[[Sequence[Target], ModelVersion, Sequence[Draft]], Draft]
"""Some targets, the model in memory, and the drafts that its weights have, to an edit."""


@dataclass(frozen=True, eq=False)
class GroupBatch:
    """Edits of many facts that are computed but not stored, each on the weights with those before it.

    Attributes:
        version: the model's current version, as it is in the store.
        drafts: the edits, in order.
        unusable: the targets that none of them is for.
    """

    version: ModelVersion
    drafts: tuple[Draft, ...]
    unusable: tuple[Unusable, ...]


def draft_batches(
    store: Store,
    version: ModelVersion,
    targets: Sequence[Target],
    size: int,
    plan: Plan,
    *,
    skip_unusable: bool = False,
    progress: Progress | None = None,
) -> GroupBatch:
    """Plans the edits; stores nothing.

    Args:
        store: the store.
        version: the model's current version; it is as it was when this returns.
        targets: at least one, each question once.
        size: facts of an edit, at least 1.
        plan: computes one edit.
        skip_unusable: pass over batches for which no edit can be planned; `plan` passes over single facts.
        progress: told how many facts were planned, and how many there are.

    Raises:
        UsageError: if there is no target, a question gets two answers, or the size is under 1.
        EditError: if an edit can't be planned and is not to be skipped, or none can.
    """
    if size < 1:
        raise UsageError(f"{option('batch_size')} must be at least 1 (got {size})")
    with store.reading() as connection:
        require_one_answer_each([store_facts.fact(connection, target.fact) for target in targets], targets)
    parameters = dict(version.model.named_parameters())
    drafts: list[Draft] = []
    unusable: list[Unusable] = []
    try:
        for start in range(0, len(targets), size):
            some = targets[start : start + size]
            try:
                draft = plan(some, version, tuple(drafts))
            except EditError as error:
                if not skip_unusable or (not drafts and start + size >= len(targets)):
                    raise
                unusable += [Unusable(target, error.text) for target in some]
            else:
                apply_object(parameters, draft.content)
                drafts.append(draft)
                unusable += draft.unusable
            if progress is not None:
                progress(min(start + size, len(targets)), len(targets))
    finally:
        for draft in reversed(drafts):
            apply_object(parameters, draft.content, reverse=True)
    return GroupBatch(version, tuple(drafts), tuple(unusable))
