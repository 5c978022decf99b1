"""Comparing ways to edit many facts, in memory: so many facts edited, then measured once, after the last edit.

Methods that plan many facts make one edit of all of them; the others plan one after the other, each on the weights with
those before it. The weights hold the same bytes after each cell: nothing leaks from one to the next.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from ...analysis.edit_measures import NEIGHBOURS, OTHERS, Measures, compare
from ...analysis.evaluation_prompts import compare_prompts
from ...analysis.fluency import fluency
from ...analysis.group_measures import read_own
from ...analysis.readings import State, as_they_are
from ...analysis.summary_measures import Observed, summary_measures
from ...bench.memory import peak_memory, reset_peak_memory
from ...editing.many.covariance import Covariance
from ...editing.many.methods import settled
from ...errors import EditError
from ...models.generation import continuations
from ...records.bench_methods import BenchMethod, JointMethod, one_by_one
from ...records.edit_settings import OptimizeSettings, TrialSettings, UpdateSettings
from ...records.many_settings import RomeSettings
from ...store.engine import Store
from ..models import ModelCommands, ModelVersion
from .batch import Target
from .compared_facts import SAME_OBJECT, Asked, ComparedFacts
from .draft import Draft
from .drafts import EditDrafts
from .flips import flipped_facts
from .statistics import count_from_facts
from .trial_facts import TrialTarget
from .trial_measures import control_of
from .trial_pile import Pile


@dataclass
class Planned:
    """What was planned of a cell so far.

    Attributes:
        pile: the edits, on the model; `beside`: their random-neuron controls, on another copy, if they have some.
        facts: how many facts have an edit; `seconds`: what planning took; `memory`: the most it held at once, in GiB.
        unplanned: facts without an edit, and why.
    """

    pile: Pile
    beside: Pile | None
    facts: int = 0
    seconds: float = 0.0
    memory: float = 0.0
    unplanned: list[tuple[int, str]] = field(default_factory=list)

    def take_back(self) -> None:
        """Gives the weights the bytes that they have without the edits."""
        self.pile.take_back()
        if self.beside is not None:
            self.beside.take_back()


class Comparison:
    """Ways to edit the same facts, side by side.

    Attributes:
        facts: the facts.

    Args:
        store: the store.
        models: loads models.
        version: the model version; its weights are changed and put back.
        unedited: the model without any edit; None if the version is just that.
        control: gives the same model version once more, in memory of its own.
        refinement: whose knowledge neurons; None if no method needs any.
        facts: the facts; what one method needs decides those of all.
        settings: what is edited and measured.
    """

    def __init__(
        self,
        store: Store,
        models: ModelCommands,
        version: ModelVersion,
        unedited: ModelVersion | None,
        control: Callable[[], ModelVersion],
        refinement: int | None,
        facts: ComparedFacts,
        settings: TrialSettings,
    ) -> None:
        self._store = store
        self._version = version
        self._unedited = None if unedited is None else unedited.network
        self._control = control
        self._refinement = refinement
        self._settings = settings
        self.facts = facts
        self._drafts = EditDrafts(store, models, self.facts.for_plans)
        self._covariances: dict[tuple[int, ...], dict[int, Covariance]] = {}

    def cells(self, method: BenchMethod, sizes: Sequence[int], done: Sequence[int]) -> Iterator[tuple[int, Any]]:
        """Edits the first facts, and measures.

        Args:
            method: how.
            sizes: how many facts, rising.
            done: sizes that are not to be measured again.

        Yields:
            Each size, with what was measured; None for those that are done.
        """
        if not one_by_one(method):
            for size in sizes:
                yield size, None if size in done else self._together(method, size)
            return
        left = [size for size in sizes if size not in done]
        measured = self._one_after_the_other(method, left) if left else iter(())
        for size in sizes:
            yield size, None if size in done else next(measured)

    # --- planning ------------------------------------------------------------------------------------------

    def _together(self, method: BenchMethod, size: int) -> dict[str, Any]:
        """One edit of the first facts."""
        targets = self.facts.targets[:size]
        found = Planned(Pile(self._version), self._beside(method))
        try:
            with _timed(found, self._version):
                draft = self._draft(targets, method)
            self._add(found, draft)
        except EditError as error:
            found.unplanned += [(target.fact.id, str(error)) for target in targets]
        else:
            found.facts = len(targets) - len(draft.unusable)
            found.unplanned += [(one.target.fact, one.reason) for one in draft.unusable]
        return self._measured_and_taken_back(found, targets)

    def _one_after_the_other(self, method: BenchMethod, sizes: Sequence[int]) -> Iterator[dict[str, Any]]:
        """An edit of each fact, on the weights with those before it; measured after so many."""
        found = Planned(Pile(self._version), self._beside(method))
        try:
            for place, target in enumerate(self.facts.targets[: max(sizes)], 1):
                try:
                    with _timed(found, self._version):
                        draft = self._draft([target], method)
                    self._add(found, draft)
                except EditError as error:
                    found.unplanned.append((target.fact.id, str(error)))
                else:
                    found.facts += 1
                if place in sizes:
                    yield self._measured(found, self.facts.targets[:place])
        finally:
            found.take_back()

    def _draft(self, targets: Sequence[TrialTarget], method: BenchMethod) -> Draft:
        """Plans an edit on the weights in memory."""
        name, first = self._version.record.name, targets[0]
        common: dict[str, Any] = {"on": self._version, "report": False}
        if isinstance(method, UpdateSettings | OptimizeSettings):
            plan = self._drafts.update if isinstance(method, UpdateSettings) else self._drafts.optimize
            about: Any = (name, first.fact.id, first.to or "", method)
            return plan(*about, refinement=self._refinement, **common)
        wanted = [Target(target.fact.id, target.to or "") for target in targets]
        common["skip_unusable"] = len(wanted) > 1
        if isinstance(method, JointMethod):
            chosen = {"layers": method.layers} if method.layers else {"refinement": self._refinement}
            return self._drafts.together(name, wanted, method.settings, method.keep, **chosen, **common)
        if isinstance(method, RomeSettings):
            # A thousand plans of one fact need one count of the keys: that of the weights before the first.
            common["covariances"] = self._counted(method)
        return self._drafts.many(name, wanted, method, seed=self._settings.seed, **common)

    def _counted(self, method: RomeSettings) -> dict[int, Covariance]:
        layers = settled(method, self._version.network).layers
        assert layers is not None
        if layers not in self._covariances:
            others = self.facts.numbers - self.facts.for_plans
            self._covariances[layers] = count_from_facts(
                self._store, self._version, layers, leaving_out=others, seed=self._settings.seed
            )
        return self._covariances[layers]

    def _beside(self, method: BenchMethod) -> Pile | None:
        """Where controls are piled up; None for plans that may change all slots of their layers, which leave none."""
        of_slots = isinstance(method, UpdateSettings | OptimizeSettings)
        if not of_slots and not (isinstance(method, JointMethod) and method.settings.scope == "neurons"):
            return None
        return Pile(self._control())

    def _add(self, found: Planned, draft: Draft) -> None:
        if found.beside is not None:
            found.beside.add(control_of(self._store, draft, found.beside.version, self._settings.seed))
        found.pile.add(draft.content)

    # --- measuring -----------------------------------------------------------------------------------------

    def _measured_and_taken_back(self, found: Planned, targets: Sequence[TrialTarget]) -> dict[str, Any]:
        try:
            return self._measured(found, targets)
        finally:
            found.take_back()

    def _measured(self, found: Planned, targets: Sequence[TrialTarget]) -> dict[str, Any]:
        """What the edits so far do to all of the facts, those without an edit included."""
        with found.pile.without():
            asked = self.facts.asked(targets)
        edited, flips = self._observed(found.pile, asked)
        control: dict[str, list[float | None]] = {}
        if found.beside is not None:
            control = _as_json(summary_measures(self._observed(found.beside, asked)[0], self._settings.seed))
        return {
            "edited": _as_json(summary_measures(edited, self._settings.seed)),
            "control": control,
            "facts": len(targets),
            "planned": found.facts,
            "neurons": found.pile.slots,
            "seconds": found.seconds,
            "memory": found.memory,
            "flips": flips,
            "unplanned": [list(pair) for pair in found.unplanned],
        }

    def _observed(self, pile: Pile, asked: Asked) -> tuple[Observed, list[dict[str, Any]]]:
        """What is seen of a pile of edits, and which untouched facts' answers flip."""
        network = pile.version.network
        states: list[State] = [pile.without, as_they_are]
        found = Observed()
        for name, prompts in asked.own.items():
            _, after = read_own(network, prompts, states)
            found.add_own(name, prompts, after)
        (compared,) = compare(network, asked.staying, states, self._unedited, self._settings.seed, changed=())
        for name in (NEIGHBOURS, OTHERS):
            found.add_staying(name, asked.staying[name], *compared.readings[name], ())
        same = {question.fact for question in asked.staying[SAME_OBJECT]}
        found.add_neighbours(asked.staying[SAME_OBJECT], compared.readings[SAME_OBJECT][1], same)
        if asked.prompts:
            (further,) = compare_prompts(network, asked.prompts, states, self._unedited, self._settings.seed)
            for kind, readings in further.readings.items():
                found.add_prompts(kind, asked.prompts[kind], *readings)
        found.fluent += self._fluent(pile, asked)
        flips = [flip for flip in compared.flips if flip.group != SAME_OBJECT]
        return found, [asdict(flip) for flip in flipped_facts(pile.version, flips, self.facts.by_number)]

    def _fluent(self, pile: Pile, asked: Asked) -> list[tuple[int, float, float]]:
        if not asked.continued:
            return []
        prompts = [prompt for _, _, prompt in asked.continued]
        network, decode = pile.version.network, pile.version.loaded.tokenizer.decode
        with pile.without():
            before = continuations(network, prompts, self._settings.generate)
        after = continuations(network, prompts, self._settings.generate)
        rows = []
        for (fact, begun, _), *said in zip(asked.continued, before, after, strict=True):
            first, then = (fluency(begun + decode(ids, skip_special_tokens=True)) for ids in said)
            rows.append((fact, first, then))
        return rows


@contextmanager
def _timed(found: Planned, version: ModelVersion) -> Iterator[None]:
    """Adds what a plan takes to what was planned so far."""
    device = version.network.device
    reset_peak_memory(device)
    begun = time.perf_counter()
    try:
        yield
    finally:
        found.seconds += time.perf_counter() - begun
        found.memory = max(found.memory, peak_memory(device))


def _as_json(measures: Measures) -> dict[str, list[float | None]]:
    return {name: [one.value, one.low, one.high] for name, one in measures.items()}
