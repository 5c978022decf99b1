"""Edits, what they change, and what they are measured to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .conditions import CheckedConditions
from .display import Record, many
from .models import Neuron, StoredSettings
from .recipes import Recipe


@dataclass(frozen=True)
class SlotChange(Record):
    """A value slot that an edit changes, with the sha256 of its bytes before and after."""

    parameter: str
    layer: int
    neuron: int
    old_sha256: str
    new_sha256: str

    def _line(self) -> str:
        return f"{Neuron(self.layer, self.neuron)}, {self.parameter}"


@dataclass(frozen=True)
class SlotLength(Record):
    """A value slot that an edit changes.

    Attributes:
        neuron: its neuron, such as `L2.N418`.
        length_before, length_after: ‖v‖; None where the change is kept as low-rank factors, which tell it only with
            the weights.
    """

    neuron: str
    length_before: float | None
    length_after: float | None

    def _line(self) -> str:
        return self.neuron


@dataclass(frozen=True)
class EditChange(Record):
    """What an edit changes, computed from its object alone: nobody's words.

    Attributes:
        slots: the value slots, by layer and neuron.
        layers: the layers that they lie in, rising.
        zeroed: how many of them become zero.
        least, most: the lowest and highest ‖v after‖ ÷ ‖v before‖; None where no slot has both lengths.
        parameters: other parameters, which change as a whole.
    """

    slots: tuple[SlotLength, ...]
    layers: tuple[int, ...]
    zeroed: int
    least: float | None
    most: float | None
    parameters: tuple[str, ...]

    @classmethod
    def of(cls, slots: Sequence[SlotLength], parameters: Sequence[str]) -> EditChange:
        """The change of these value slots, and of these parameters as a whole."""
        factors = [one.length_after / one.length_before for one in slots if one.length_before and one.length_after]
        return cls(
            slots=tuple(slots),
            layers=tuple(sorted({Neuron.parse(one.neuron).layer for one in slots})),
            zeroed=sum(one.length_after == 0 for one in slots),
            least=min(factors, default=None),
            most=max(factors, default=None),
            parameters=tuple(parameters),
        )

    @property
    def words(self) -> str:
        """In a line, such as `3 value slots of layers 0, 2: lengths × 0.93 to 1.41`."""
        found = []
        if self.slots:
            layers = ", ".join(map(str, self.layers[:_LAYERS])) + (", …" if len(self.layers) > _LAYERS else "")
            some = f"{many(len(self.slots), 'value slot')} of layer{'s' if len(self.layers) > 1 else ''} {layers}"
            found.append(some + self._lengths())
        if self.parameters:
            found.append(f"{many(len(self.parameters), 'parameter')} as a whole")
        return "; ".join(found)

    def _lengths(self) -> str:
        if self.zeroed == len(self.slots):
            return ": to zero"
        zeroed = f", {self.zeroed} of them to zero" if self.zeroed else ""
        if self.least is None or self.most is None:
            return zeroed
        least, most = f"{self.least:.3g}", f"{self.most:.3g}"
        return f"{zeroed}: length × {least}" if least == most else f"{zeroed}: lengths × {least} to {most}"

    def _line(self) -> str:
        return self.words


def in_words(text: str, *, pulled: bool) -> str:
    """A text of an edit, said to be the sender's if the edit came from a file."""
    return f"{SENDER}{text}" if pulled else text


_LAYERS = 6
"""Layers that a line names."""
SENDER = "sender says: "
"""What stands before words of an edit that came from a file: nothing proves them."""


@dataclass(frozen=True)
class Edit(Record):
    """A planned edit: immutable, named by the hash of its object file.

    Attributes:
        kind: `update`, `erase`, `optimize`, `together` or `capture`.
        recipe: everything needed to compute it again; `recipe.as_json()` gives it as it is stored.
        object_hash: sha256 of the object file, in hex.
        object_path: the object file, relative to the store's folder of objects.
        base_version: the version it was planned on.
        applied: whether it is part of the model's current version.
        author: who planned it; None if nobody knows.
        fact_numbers: of an edit from another store, for each fact's number in the recipe, as text, the number here, or
            None; None for an edit that was planned here.
        pulled: whether it came from a file (`kndb edit pull`). Then recipe, title, author and time are the words of
            whoever made the file; what it changes, its hash and its base version were computed and compared here.
        conditions: those that it was planned with, and what was found then; None without any. Applying it checks them.
    """

    id: int
    model: str
    kind: str
    recipe: Recipe
    object_hash: str
    object_path: str
    base_version: str
    created_at: str
    neurons: int = 0
    applied: bool = False
    author: str | None = None
    fact_numbers: Mapping[str, int | None] | None = None
    pulled: bool = False
    conditions: CheckedConditions | None = None

    @property
    def title(self) -> str:
        """What the edit is for, in one line, as its recipe has it."""
        return self.recipe.title

    @property
    def what(self) -> str:
        """The title; of an edit from a file, said to be the sender's words."""
        return in_words(self.title, pulled=self.pulled)

    def _line(self) -> str:
        applied = "applied" if self.applied else "not applied"
        return f"{self.id}, {self.model}, {self.kind}, {many(self.neurons, 'neuron')}, {applied}"


@dataclass(frozen=True)
class DeletedEdit(Record):
    """An edit that was deleted, or that would be.

    Attributes:
        edit: the edit as it was.
        evaluations: how many evaluations of it go with it.
    """

    edit: Edit
    evaluations: int

    def _line(self) -> str:
        return f"edit {self.edit.id}, {self.edit.model}, {many(self.evaluations, 'evaluation')}"


@dataclass(frozen=True)
class Evaluation(Record):
    """The stored measures of one edit."""

    id: int
    edit: int
    version_before: str
    version_after: str
    settings: StoredSettings
    measures: Mapping[str, object]
    created_at: str

    def _line(self) -> str:
        return f"{self.id}, edit {self.edit}"


@dataclass(frozen=True)
class EditTrial(Record):
    """Edits of many facts that are tried in memory: a bench of one method, or a sweep over settings of it.

    Attributes:
        version: the version that they are tried on.
        kind: `bench` or `sweep`.
        status: `running` until all is measured, then `complete`.
    """

    id: int
    model: str
    version: str
    kind: str
    settings: StoredSettings
    status: str
    created_at: str
    finished_at: str | None

    def _line(self) -> str:
        return f"{self.id}, {self.model}, {self.kind}, {self.status}"


@dataclass(frozen=True)
class TrialResult(Record):
    """One result of a trial.

    Attributes:
        part: `single` or `cumulative` for a bench; the settings of its cell, as JSON, for a sweep.
        position: place in the part, from 0; for `cumulative`, the number of edits.
        fact: the fact that was edited; None for a result over several.
        measures: what was measured.
    """

    part: str
    position: int
    fact: int | None
    measures: Mapping[str, Any]


EDIT_MEASURES: Mapping[str, tuple[str, str]] = {
    "success": ("own", "success_rate"),
    "efficacy": ("own", "efficacy_score"),
    "paraphrase": ("own_held_out", "success_rate"),
    "paraphrase_score": ("own_held_out", "paraphrase_score"),
    "neighbourhood": ("intra", "neighbourhood_score_after"),
    "intra_change": ("intra", "perplexity_relative_change"),
    "inter_change": ("inter", "perplexity_relative_change"),
    "intra_locality": ("intra", "locality"),
    "inter_locality": ("inter", "locality"),
    "divergence": ("inter", "locality_divergence"),
}
"""The measures of edits that tables over many show, each with the group of prompts and the full name."""

COMPARED_MEASURES = (
    "ES",
    "PS",
    "NS",
    "S",
    "rewrite_acc",
    "rephrase_acc",
    "locality",
    "portability",
    "success",
    "held_out_success",
    "perplexity_relation",
    "perplexity_others",
    "flips_relation",
    "flips_others",
    "fluency_before",
    "fluency_after",
    "fluency_ratio",
)
"""The measures by which methods are compared, by their names in the group `summary` of an evaluation."""
PLANNING_COSTS = ("seconds", "memory")
"""What planning took in seconds, and the most memory that it held, in GiB."""


Interval = tuple[float | None, float | None, float | None]
"""A value, and the ends of its 95 % confidence interval; None where there is none."""


@dataclass(frozen=True)
class TrialSummary(Record):
    """A row of a trial's table.

    Attributes:
        part: `single` or `cumulative` of a bench, `compared` of one of several methods, `cell` of a sweep.
        edits: how many edits the weights had at once; of several methods, for how many facts.
        settings: of a sweep's cell; of a bench of several methods, the `method`; else empty.
        weights: `edit`, or `random neurons`.
        facts: facts that count; `planned`: those for which an edit could be planned.
        neurons: value slots that an edit changed, on average.
        measures: by the names of `EDIT_MEASURES`, or of `COMPARED_MEASURES` and `PLANNING_COSTS`.
    """

    part: str
    edits: int
    settings: Mapping[str, Any]
    weights: str
    facts: int
    planned: int
    neurons: float | None
    measures: Mapping[str, Interval]

    def _line(self) -> str:
        return f"{self.part}, {many(self.edits, 'edit')}, {self.weights}, {many(self.facts, 'fact')}"
