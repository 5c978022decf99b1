"""What trials of edits do in memory: plan edits, and measure them, alone and piled up.

The weights are those of one model version, and hold the same bytes after each measurement; but for a pile of edits,
which grows until it is taken back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from ...analysis.edit_measures import Measures, compare_states
from ...analysis.readings import State, as_they_are
from ...editing.objects.diff_file import EditObject
from ...editing.objects.slots import edited
from ...errors import EditError
from ...records.edit_settings import EditSettings, TrialSettings, UpdateSettings
from ...records.edits import EDIT_MEASURES, Edit, Interval
from ...records.recipes import fact_recipe
from ...store import versions as store_versions
from ...store.engine import Store
from ..models import ModelCommands, ModelVersion
from .control import control_edit, neurons_of
from .draft import Draft
from .drafts import EditDrafts
from .kept_prompts import prompts_in_recipe
from .trial_facts import TargetAnswers, TrialFacts, TrialTarget
from .trial_pile import Pile


class TrialRun:
    """Edits of a trial's facts, in memory.

    Attributes:
        facts: the facts; `version`: the model version; `refinement`, `settings`: as they were given.

    Args:
        store: the store.
        drafts: plans edits.
        version: the model version; its weights are changed and put back.
        unedited: the model without any edit; None if the version is just that.
        refinement: whose knowledge neurons.
        settings: what is edited and measured.
    """

    def __init__(
        self,
        store: Store,
        drafts: EditDrafts,
        version: ModelVersion,
        unedited: ModelVersion | None,
        refinement: int,
        settings: TrialSettings,
    ) -> None:
        self._store = store
        self._drafts = drafts
        self.version = version
        self._unedited = None if unedited is None else unedited.network
        self._parameters: dict[str, torch.Tensor] = dict(version.model.named_parameters())
        self.refinement = refinement
        self.settings = settings
        self.facts = TrialFacts(store, version, refinement, settings)

    def plan(self, target: TrialTarget, method: EditSettings) -> Draft:
        """Plans one edit on the weights in memory.

        Raises:
            EditError: if that can't be.
        """
        if target.to is None:
            raise EditError(f"the relation of fact {target.fact.id} has no other answer of one token")
        about = self.version.record.name, target.fact.id, target.to
        # The trial measures on its own, and more than a report does.
        common: dict[str, Any] = {"refinement": self.refinement, "on": self.version, "report": False}
        if isinstance(method, UpdateSettings):
            return self._drafts.update(*about, method, **common)
        return self._drafts.optimize(*about, method, **common)

    def single(self, target: TrialTarget, method: EditSettings, *, control: bool = True) -> dict[str, Any]:
        """Edits one fact, measures the edit and its random-neuron control, and takes both back.

        Args:
            target: the fact.
            method: how to edit it.
            control: whether to measure as many random neurons, too.

        Returns:
            `edited` and `control`, each with the measures of `EDIT_MEASURES`, and the number of `neurons`; or why there
            is no edit, as `unplanned`.
        """
        try:
            draft = self.plan(target, method)
            contents = [draft.content]
            if control:
                contents.append(self._control(draft, self.version))
        except EditError as error:
            return {"to": target.to, "unplanned": str(error)}
        groups = self.facts.groups_of([_answers(target, draft)], str(target.fact.id))
        states: list[State] = [as_they_are, *(partial(edited, self._parameters, planned) for planned in contents)]
        measured = compare_states(self.version.network, groups, states, self._unedited, self.settings.seed)
        values = [{name: interval[0] for name, interval in _short(found).items()} for found in measured]
        neurons = len(neurons_of(draft.content))
        return {"to": target.to, "neurons": neurons, **dict(zip(("edited", "control"), values, strict=False))}

    def _control(self, draft: Draft, version: ModelVersion) -> EditObject:
        return control_of(self._store, draft, version, self.settings.seed)

    def cumulative(
        self, method: EditSettings, counts: Sequence[int], control: ModelVersion, done: Sequence[int] = ()
    ) -> Iterator[tuple[int, dict[str, Any] | None]]:
        """Piles edits up, each planned on the weights with those before it, and measures after so many.

        Args:
            method: how they are planned.
            counts: after how many facts to measure, rising.
            control: the same model version once more, in memory of its own: for the pile of random-neuron edits.
            done: counts that are not to be measured again.

        Yields:
            After each fact: how many there are, and what was measured, where something is.
        """
        pile, beside = Pile(self.version), Pile(control)
        planned: list[TargetAnswers] = []
        unplanned: list[tuple[int, str]] = []
        try:
            for place, target in enumerate(self.facts.targets[: max(counts)], 1):
                try:
                    draft = self.plan(target, method)
                    other = self._control(draft, control)
                except EditError as error:
                    unplanned.append((target.fact.id, str(error)))
                else:
                    pile.add(draft.content)
                    beside.add(other)
                    planned.append(_answers(target, draft))
                wanted = place in counts and place not in done
                yield place, self._measured(pile, beside, planned, unplanned, place) if wanted else None
        finally:
            pile.take_back()

    def _measured(
        self,
        pile: Pile,
        beside: Pile,
        planned: Sequence[TargetAnswers],
        unplanned: Sequence[tuple[int, str]],
        place: int,
    ) -> dict[str, Any]:
        groups = self.facts.groups_of(planned, str(len(planned)))
        measured: list[dict[str, Interval]] = []
        for one in (pile, beside):
            states = (one.without, as_they_are)
            (found,) = compare_states(one.version.network, groups, states, self._unedited, self.settings.seed)
            measured.append(_short(found))
        neurons = pile.slots / len(planned) if planned else 0.0
        result = {"edited": measured[0], "control": measured[1], "facts": place, "planned": len(planned)}
        return result | {"neurons": neurons, "unplanned": [list(pair) for pair in unplanned]}


def trial_run(
    store: Store, models: ModelCommands, version: ModelVersion, refinement: int, settings: TrialSettings
) -> TrialRun:
    """A trial on a model's version in memory, whose unedited weights are loaded beside it if they are others."""
    unedited = unedited_of(store, models, version)
    return TrialRun(store, EditDrafts(store, models), version, unedited, refinement, settings)


def unedited_of(store: Store, models: ModelCommands, version: ModelVersion) -> ModelVersion | None:
    """The model without any edit; None if the version is just that."""
    with store.reading() as connection:
        base = store_versions.current_model(connection, version.record.id).base
    return None if version.version == base else models.load(version.record.name, "base")


def control_of(store: Store, draft: Draft, version: ModelVersion, seed: int) -> EditObject:
    """The random-neuron control of a draft, on the weights of a model in memory.

    Raises:
        EditError: if it has none, or nothing would change.
    """
    content = draft.content
    record = Edit(0, version.record.name, content.kind, content.recipe, "", "", version.version, "")
    with store.reading() as connection:
        prompts = prompts_in_recipe(connection, record)
    return control_edit(record, version, content, seed + (draft.fact_id or 0), prompts)


def _answers(target: TrialTarget, draft: Draft) -> TargetAnswers:
    recipe = fact_recipe(draft.content.recipe)
    return TargetAnswers(target, recipe.old_token, recipe.new_token)


def _short(groups: Mapping[str, Measures]) -> dict[str, Interval]:
    """The measures of `EDIT_MEASURES`, those that there are."""
    found: dict[str, Interval] = {}
    for name, (group, full) in EDIT_MEASURES.items():
        measure = groups.get(group, {}).get(full)
        if measure is not None:
            found[name] = (measure.value, measure.low, measure.high)
    return found
