"""Many edits at once: each is planned on the weights with those before it, and all are stored or none.

So the edits of a batch can all be applied, in their order, also where facts share neurons.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...advice import for_python, option
from ...editing.objects.slots import apply_object
from ...errors import EditError, UsageError, VersionMovedError
from ...models.answers import batched_log_probabilities
from ...models.network import Network
from ...models.prompting import EncodedPrompt
from ...records.edits import Edit
from ...records.progress import Progress
from ...records.recipes import fact_recipe
from ...store import facts as store_facts
from ...store import models as store_models
from ...store import versions as store_versions
from ...store.edits import edit as store_edits
from ...store.engine import Store
from ...store.version_lists import keep_version
from ..models import ModelVersion
from .draft import Draft
from .kept_prompts import encode_open
from .objects import add_object

if TYPE_CHECKING:
    from .conditions import Held

_LISTED = 10


@dataclass(frozen=True)
class Target:
    """A fact and the answer that it is to get.

    Attributes:
        fact: the fact's number.
        to: the new answer.
        place: where the user wrote it, such as `answers.csv:3`; empty if nowhere.
    """

    fact: int
    to: str
    place: str = ""


@dataclass(frozen=True)
class Unusable:
    """A target for which no edit can be planned, and why.

    Attributes:
        target: the target.
        text: the reason, with the marks of `kndb.advice`.
    """

    target: Target
    text: str

    @property
    def reason(self) -> str:
        """The reason, as Python says it."""
        return for_python(self.text)


@dataclass(frozen=True, eq=False)
class Batch:
    """Edits that are computed but not stored, each on the weights with those before it.

    Attributes:
        version: the model's current version; its weights in memory have all the edits.
        drafts: the edits, in order.
        targets: what each is for.
        unusable: the targets without an edit.
    """

    version: ModelVersion
    drafts: tuple[Draft, ...]
    targets: tuple[Target, ...]
    unusable: tuple[Unusable, ...]


@dataclass(frozen=True)
class PreviewedEdit:
    """What all edits of a batch together do to one of its facts.

    Attributes:
        fact, relation, subject: the fact.
        old_answer: the model's answer when the edit was planned, with the edits before it.
        to: the new answer.
        neurons: value slots that the edit changes.
        probability_before, probability_after: mean probability of the new answer over the fact's prompts, held-out ones
            included, with none and with all of the batch's edits.
        success_rate: share of these prompts whose most probable token is the new answer, with all edits.
    """

    fact: int
    relation: str
    subject: str | None
    old_answer: str
    to: str
    neurons: int
    probability_before: float
    probability_after: float
    success_rate: float


def draft_batch(
    version: ModelVersion,
    targets: Sequence[Target],
    plan: Callable[[Target, ModelVersion], Draft],
    *,
    skip_unusable: bool = False,
    progress: Progress | None = None,
) -> Batch:
    """Plans edits one after the other, each on the weights with those before it; stores nothing.

    Args:
        version: the model's current version; its weights in memory get all the edits.
        targets: at least one; each fact once.
        plan: computes one edit on the weights in memory.
        skip_unusable: pass over targets for which no edit can be planned.
        progress: told after each one.

    Raises:
        UsageError: if there is no target, or a fact is named twice.
        EditError: if an edit can't be planned and is not to be skipped, or none can; all of them are named.
    """
    _check_targets(targets)
    parameters = dict(version.model.named_parameters())
    drafts: list[Draft] = []
    planned: list[Target] = []
    unusable: list[Unusable] = []
    for done, target in enumerate(targets, 1):
        try:
            draft = plan(target, version)
        except EditError as error:
            unusable.append(Unusable(target, error.text))
        else:
            apply_object(parameters, draft.content)
            drafts.append(draft)
            planned.append(target)
        if progress is not None:
            progress(done, len(targets))
    if unusable and not (skip_unusable and drafts):
        texts, advice = _advice_once([one.text for one in unusable])
        reasons = [
            f"{one.target.place or f'fact {one.target.fact}'}: {text}"
            for one, text in zip(unusable, texts, strict=True)
        ]
        hint = f"; or pass over them with {option('skip_unusable', True)}" if drafts else ""
        raise EditError(
            f"no edit can be planned for {len(unusable)} of {len(targets)} facts, so none was stored: "
            f"{listed(reasons)}. Fix these rows, or leave them out{hint}{advice}"
        )
    return Batch(version, tuple(drafts), tuple(planned), tuple(unusable))


def _advice_once(texts: Sequence[str]) -> tuple[list[str], str]:
    """Several reasons without what all of them advise after a semicolon; and that, after one."""
    parts = [text.partition("; ") for text in texts]
    advice = {last for _, _, last in parts}
    if len(texts) == 1 or len(advice) > 1 or not all(advice):
        return list(texts), ""
    return [first for first, _, _ in parts], f"; {advice.pop()}"


def _check_targets(targets: Sequence[Target]) -> None:
    if not targets:
        raise UsageError("there is no fact to edit; give at least one")
    first: dict[int, Target] = {}
    for target in targets:
        if target.fact in first:
            places = f" ({first[target.fact].place} and {target.place})" if target.place else ""
            raise UsageError(f"fact {target.fact} is named twice{places}; name each fact once")
        first[target.fact] = target


def store_batch(store: Store, version: ModelVersion, drafts: Sequence[Draft], held: Held | None = None) -> list[Edit]:
    """Stores edits that were planned one on the other, in one transaction; applies none.

    The versions between them can be asked for from then on.

    Args:
        store: the store.
        version: the model's version that the first was planned on.
        drafts: the edits, in order.
        held: the conditions that they were checked against, to be stored with each.

    Raises:
        VersionMovedError: if another process moved the model's version since.
    """
    record = version.record
    with store.writing() as connection:
        current = store_models.model(connection, record.name).version
        first = drafts[0]
        expected = version.version if first.current is None else first.current
        if current != expected:
            raise VersionMovedError(
                f"model {record.name} moved from {expected} to {current} while the edit was planned; plan it again"
            )
        if first.current is not None:
            keep_version(connection, record.id, version.version, first.built_by, after=first.current)
        stored: list[int] = []
        planned_on = version.version
        for draft in drafts:
            if stored:
                edit_ids = [*store_versions.version_edits(connection, record.id, planned_on), stored[-1]]
                before = planned_on
                planned_on = store_versions.version_with_edit(connection, record.id, planned_on, stored[-1])
                keep_version(connection, record.id, planned_on, edit_ids, after=before)
            number = add_object(
                connection, store, record.id, draft.content, planned_on, draft.fact_id, draft.relation_id
            )
            if held is not None:
                store_edits.note_conditions(connection, number, held.kept(connection, number, record.id))
            stored.append(number)
        return [store_edits.edit(connection, number) for number in stored]


def preview_batch(store: Store, batch: Batch) -> list[PreviewedEdit]:
    """Asks the facts of a batch with none and with all of its edits; stores nothing.

    The weights in memory are those without the edits when this returns.
    """
    version = batch.version
    with store.reading() as connection:
        facts = {target.fact: store_facts.fact(connection, target.fact) for target in batch.targets}
        prompts = store_facts.prompts(connection, fact_ids=facts)
    asked = {
        number: encode_open(version, [prompt for prompt in prompts if prompt.fact_id == number]) for number in facts
    }
    network = version.network
    recipes = [fact_recipe(draft.content.recipe) for draft in batch.drafts]
    pairs = [(asked[target.fact], recipe.new_token) for target, recipe in zip(batch.targets, recipes, strict=True)]
    after = [_new_answer(network, encoded, token) for encoded, token in pairs]
    parameters = dict(version.model.named_parameters())
    for draft in reversed(batch.drafts):
        apply_object(parameters, draft.content, reverse=True)
    before = [_new_answer(network, encoded, token) for encoded, token in pairs]
    return [
        PreviewedEdit(
            fact=target.fact,
            relation=facts[target.fact].relation,
            subject=facts[target.fact].subject,
            old_answer=recipe.old_answer or "",
            to=target.to,
            neurons=sum(len(diff.indices) for diff in draft.content.parameters),
            probability_before=first[0],
            probability_after=then[0],
            success_rate=then[1],
        )
        for target, draft, recipe, first, then in zip(batch.targets, batch.drafts, recipes, before, after, strict=True)
    ]


def _new_answer(network: Network, prompts: Sequence[EncodedPrompt], token: int) -> tuple[float, float]:
    """The mean probability of a token over prompts, and the share of them that it is the most probable one of."""
    probability, wins = 0.0, 0
    for _, log_probabilities in batched_log_probabilities(network, prompts):
        probability += float(log_probabilities[:, token].double().exp().sum())
        wins += int((log_probabilities.argmax(-1) == token).sum())
    return probability / len(prompts), wins / len(prompts)


def listed(lines: Iterable[str]) -> str:
    """The first of some lines, and how many more there are."""
    every = list(lines)
    more = f"; and {len(every) - _LISTED} more" if len(every) > _LISTED else ""
    return "; ".join(every[:_LISTED]) + more
