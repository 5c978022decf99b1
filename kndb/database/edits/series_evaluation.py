"""Measuring several edits together, after the last one: all of their facts as one group for each measure.

The groups are those of an edit of many facts (`group_evaluation`). A fact that several of the edits are for is asked
for the last one's answer. The facts of relations that one of them erases belong to no group, as they are neither to get
an answer nor to stay; a capture does not say what it is for, so that every fact should stay. There is no control.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace

from ...editing.objects.diff_file import EditObject
from ...errors import EditError
from ...models.prompting import EncodedPrompt
from ...records.edit_settings import EvaluationSettings
from ...records.edits import Edit
from ...records.facts import Prompt
from ...records.group_recipes import EditedFact
from ...records.recipe_facts import RecipeFact
from ...records.recipes import EraseRecipe, new_answers
from ...records.together import PlannedFact, TogetherRecipe, TogetherSettings
from ...store.engine import Store
from ..models import ModelCommands, ModelVersion
from .asked_prompts import edits_there
from .evaluate import unedited_model, what_is_asked
from .group_evaluation import GroupEvaluator
from .kept_prompts import local_fact


class SeriesEvaluator(GroupEvaluator):
    """Measures edits that are applied one after the other; see `EditEvaluator`.

    Args:
        version: the version before the first.
        contents: the edits, in order.
        device, unedited: as of `EditEvaluator`.
    """

    def __init__(
        self, version: ModelVersion, contents: Sequence[EditObject], device: str, unedited: ModelVersion | None = None
    ) -> None:
        super().__init__(version, device, unedited)
        self._contents = tuple(contents)

    def _edited(self, content: EditObject) -> AbstractContextManager[None]:  # noqa: ARG002 - all of them, always
        return self._all_edited()

    @contextmanager
    def _all_edited(self) -> Iterator[None]:
        with ExitStack() as stack:
            for one in self._contents:
                stack.enter_context(super()._edited(one))
            yield


def measure_series(
    store: Store,
    models: ModelCommands,
    version: ModelVersion,
    edits: Sequence[tuple[Edit, EditObject]],
    settings: EvaluationSettings,
    *,
    others: bool = True,
    device: str = "auto",
) -> dict[str, object]:
    """The measures of several edits together, which need not be stored; nothing is stored.

    Args:
        store: the store.
        models: loads the unedited model, if the version has edits.
        version: the model before the first edit; it is as it was when this returns.
        edits: at least one, in the order in which they are applied, each with its object.
        settings: what they are measured on.
        others: whether facts that they are not for are asked, too: in a large store these take most of the time.
        device: where to compute.

    Returns:
        As `GroupEvaluator.measure_group`, without a control.

    Raises:
        EditError: if a fact of an edit is not here, or the model can be asked it by none of its prompts.
        ConflictError: if an edit does not fit on those before it.
    """
    new = {local_fact(record, fact.id): (fact, to) for record, _ in edits for fact, to in new_answers(record.recipe)}
    erased = {
        record.recipe.relation
        for record, _ in edits
        if isinstance(record.recipe, EraseRecipe) and record.recipe.relation is not None
    }
    with store.reading() as connection:
        asked = what_is_asked(connection, list(new), erased, settings)
        there = edits_there(connection, edits[0][0], version.record.id) if any(asked.evaluation.values()) else set()
    prompts = [
        prompt
        for prompt in asked.prompts
        if prompt.fact_id in new or (others and asked.facts[prompt.fact_id].relation not in erased)
    ]
    recipe = TogetherRecipe(
        facts=tuple(_planned(version, number, *one, prompts) for number, one in new.items()),
        layers=(0,),
        neurons=(),
        kept_facts=(),
        prompts_each=None,
        how=TogetherSettings().as_json(),
    )
    last, content = edits[-1]
    evaluator = SeriesEvaluator(version, [one for _, one in edits], device, unedited_model(store, models, version))
    return evaluator.measure_group(
        _together(last),
        recipe,
        content,
        prompts,
        asked.facts,
        seed=settings.seed,
        computed_on=(),
        tokens=settings.generate if new else 0,
        evaluation=asked.evaluation,
        there=there,
        control=False,
    )


def _together(last: Edit) -> Edit:
    """The edits as one whose facts have this store's numbers."""
    return replace(last, kind=TogetherRecipe.kind, fact_numbers=None)


def _planned(
    version: ModelVersion, number: int, fact: RecipeFact | EditedFact, to: str, prompts: Sequence[Prompt]
) -> PlannedFact:
    """A fact with its new answer, by its number here."""
    for prompt in prompts:
        if prompt.fact_id == number:
            encoded = version.encoder.encode(prompt.id, prompt.text, to, subject=prompt.subject_span)
            if isinstance(encoded, EncodedPrompt):
                return PlannedFact(number, fact.relation, fact.subject, fact.object, to, encoded.answers)
    raise EditError(f"fact {number} has no prompt that this model can be asked for {to[:60]!r}")
