"""Random sequences of plans, applies, reverts and restores, against a plain model of what must happen.

The plain model holds each slot's bytes and the list of applied edits, nothing else. Three things are compared
with it after each step: the tensors, bit for bit; what the store refuses; and the version ids, which must be
equal exactly where the bytes are. Slots hold few different values, so that edits overlap, meet and undo each
other.
"""

import hashlib
import random
from collections import Counter
from dataclasses import dataclass

import pytest
import torch
from torture import FACTOR

from kndb.editing.objects import slots
from kndb.editing.objects.diff_file import EditObject, ParameterDiff, decode, encode
from kndb.errors import ConflictError, EditError
from kndb.records.recipes import read_recipe
from kndb.store import models, snapshots, versions
from kndb.store.edits import checks as edit_checks
from kndb.store.edits import edit as edits
from kndb.store.edits import steps
from kndb.store.engine import open_store
from kndb.versions import version_id

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
SHAPES = {"first": (2, 4), "second": (3, 2)}
LAYOUTS = {"first": "column", "second": "row"}
LAYERS = {"first": 0, "second": 1}
VALUES = (0.0, -0.0, 1.0)
REFUSALS = ("already", "not applied to", "changed them", "builds on", "applied later")

State = dict[tuple[str, int], bytes]


@dataclass(frozen=True)
class PlannedEdit:
    """An edit as the plain model sees it: slot to bytes before and after."""

    changes: dict[tuple[str, int], tuple[bytes, bytes]]
    content: bytes


def raw(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().view(torch.uint8).numpy().tobytes()


def state_of(parameters: dict[str, torch.Tensor]) -> State:
    return {
        (name, index): raw(tensor[:, index] if LAYOUTS[name] == "column" else tensor[index])
        for name, tensor in parameters.items()
        for index in range(tensor.shape[1 if LAYOUTS[name] == "column" else 0])
    }


class Sequence:
    """One sequence: the tensors, the store, and the plain model of both."""

    def __init__(self, connection, seed: int) -> None:
        self.random = random.Random(seed)
        self.connection = connection
        self.fingerprint = f"{seed:064}"
        dtype = DTYPES[seed % len(DTYPES)]
        self.base = {name: self.values(shape, dtype) for name, shape in SHAPES.items()}
        self.parameters = {name: tensor.clone() for name, tensor in self.base.items()}
        self.model_id = self.register()
        # The plain model.
        self.state = state_of(self.base)
        self.stack: list[int] = []
        self.planned: dict[int, PlannedEdit] = {}
        self.ids: dict[str, State] = {self.version: self.state}
        self.roads: dict[str, list[int]] = {self.version: []}
        self.met: Counter[str] = Counter()

    def values(self, shape, dtype) -> torch.Tensor:
        count = shape[0] * shape[1]
        return torch.tensor(self.random.choices(VALUES, k=count)).reshape(shape).to(dtype)

    def register(self) -> int:
        version = version_id(self.fingerprint, {})
        model = models.add_model(
            self.connection, name="tiny", source="x", fingerprint=self.fingerprint, family="bert",
            layers=2, neurons=4, version=version,
        )  # fmt: skip
        versions.register_base(self.connection, model.id, version)
        return model.id

    @property
    def version(self) -> str:
        query = "SELECT version FROM model WHERE id = ?"
        return self.connection.exec_driver_sql(query, (self.model_id,)).scalar_one()

    # --- operations ---

    def plan(self) -> None:
        """Plans an edit on a random known version: half of the time the current one."""
        version = self.version if self.random.random() < 0.5 else self.random.choice(sorted(self.ids))
        edit = self.edit_of(self.build(version))
        if edit is None:
            return
        content = encode(edit)
        object_hash = hashlib.sha256(content).hexdigest()
        edit_id = edits.add_edit(
            self.connection, self.model_id, edit.recipe, object_hash, f"{object_hash}.safetensors",
            version, slots.changes(edit),
        )  # fmt: skip
        changes = {
            (diff.parameter, index): (raw(old), raw(new))
            for diff in edit.parameters
            for index, old, new in zip(diff.indices.tolist(), diff.old, diff.new, strict=True)
        }
        known = self.planned.setdefault(edit_id, PlannedEdit(changes, content))
        assert known.content == content

    def edit_of(self, parameters: dict[str, torch.Tensor]) -> EditObject | None:
        names = self.random.sample(sorted(SHAPES), self.random.randint(1, 2))
        diffs = []
        for name in names:
            slot_count = SHAPES[name][1 if LAYOUTS[name] == "column" else 0]
            chosen = self.random.sample(range(slot_count), self.random.randint(1, 2))
            indices = torch.tensor(sorted(chosen))
            old = slots.read_slots(parameters[name], LAYOUTS[name], indices)
            new = self.values(tuple(old.shape), old.dtype)
            diffs.append(ParameterDiff(name, LAYOUTS[name], indices, old, new))
        if all(raw(diff.old) == raw(diff.new) for diff in diffs):
            return None
        chosen_layers = {name: LAYERS[name] for name in names}
        shapes = {name: SHAPES[name] for name in names}
        return EditObject(self.fingerprint, read_recipe("update", {}), tuple(diffs), chosen_layers, shapes)

    def build(self, version: str) -> dict[str, torch.Tensor]:
        """Builds a version from the base checkpoint, as the store says."""
        parameters = {name: tensor.clone() for name, tensor in self.base.items()}
        for edit_id in versions.version_edits(self.connection, self.model_id, version):
            slots.apply_object(parameters, decode(self.planned[edit_id].content, "x"))
        assert state_of(parameters) == self.ids[version]
        return parameters

    def apply(self, edit_id: int) -> None:
        planned = self.planned[edit_id]
        fits = all(self.state[slot] == old for slot, (old, _) in planned.changes.items())
        if edit_id in self.stack:
            self.check_refused(edit_id, "apply", EditError)
        elif not fits:
            self.check_refused(edit_id, "apply", ConflictError)
            with pytest.raises(ConflictError):
                slots.apply_object(self.parameters, decode(planned.content, "x"))
        else:
            entry = steps.apply_edit(self.connection, edit_id, self.version)
            assert (entry.action, entry.edit, entry.version_after) == ("apply", edit_id, self.version)
            self.move([*self.stack, edit_id], edit_id, reverse=False)

    def revert(self, edit_id: int) -> None:
        own = set(self.planned[edit_id].changes)
        if edit_id not in self.stack:
            self.check_refused(edit_id, "revert", EditError)
            return
        later = self.stack[self.stack.index(edit_id) + 1 :]
        if any(own & set(self.planned[other].changes) for other in later):
            self.check_refused(edit_id, "revert", ConflictError)
        else:
            steps.revert_edit(self.connection, edit_id, self.version)
            self.met["reverted in the middle"] += bool(later)
            self.move([other for other in self.stack if other != edit_id], edit_id, reverse=True)

    def check_refused(self, edit_id: int, action: str, kind: type[EditError]) -> None:
        with pytest.raises(EditError) as caught:
            steps.take_step(self.connection, edit_id, action, self.version)
        assert type(caught.value) is kind
        message = str(caught.value)
        assert ": db.edits." in message
        self.met.update(words for words in REFUSALS if words in message)

    def move(self, stack: list[int], edit_id: int, *, reverse: bool) -> None:
        """Makes one step in the plain model and in the tensors."""
        self.met["applied"] += not reverse
        self.stack = stack
        changes = self.planned[edit_id].changes
        self.state = {**self.state, **{slot: pair[0 if reverse else 1] for slot, pair in changes.items()}}
        slots.apply_object(self.parameters, decode(self.planned[edit_id].content, "x"), reverse=reverse)
        self.roads.setdefault(self.version, stack)
        self.check()

    def restore(self) -> None:
        target = self.random.choice(sorted(self.ids))
        before, present = self.version, list(self.stack)
        entries = snapshots.restore(self.connection, self.model_id, target, before)
        assert [entry.version_before for entry in entries] == [before, *(e.version_after for e in entries)][:-1]
        assert all(entry.action == "restore" for entry in entries)
        for entry in entries:
            reverse = entry.edit in present
            present = [other for other in present if other != entry.edit] + ([] if reverse else [entry.edit])
            slots.apply_object(self.parameters, decode(self.planned[entry.edit].content, "x"), reverse=reverse)
            self.ids.setdefault(entry.version_after, state_of(self.parameters))
            self.roads.setdefault(entry.version_after, present)
        self.stack, self.state = present, self.ids[target]
        assert (self.version, self.stack) == (target, self.roads[target] if entries else self.stack)
        self.check()

    # --- comparison ---

    def check(self) -> None:
        assert state_of(self.parameters) == self.state
        assert versions.applied_edits(self.connection, self.model_id) == self.stack
        assert self.ids.setdefault(self.version, self.state) == self.state
        same = [version for version, state in self.ids.items() if state == self.state]
        assert same == [self.version]

    def check_all(self) -> None:
        assert edit_checks.check_edits(self.connection) == []
        for version in self.ids:
            self.build(version)
            road = self.roads[version]
            assert versions.version_edits(self.connection, self.model_id, version) == road
        for record in edits.edits(self.connection, self.model_id):
            assert record.applied == (record.id in self.stack)
            assert record.neurons == len(self.planned[record.id].changes)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with open_store(tmp_path_factory.mktemp("store") / "kndb.db", create=True) as opened:
        yield opened


def run(connection, seed: int, length: int = 14) -> Sequence:
    sequence = Sequence(connection, seed)
    choose = sequence.random
    while not sequence.planned:
        sequence.plan()
    for _ in range(length):
        operation = choose.choices(("plan", "apply", "revert", "restore"), (5, 5, 3, 1))[0]
        if operation == "plan":
            sequence.plan()
        if operation in ("plan", "apply"):
            # The newest one often fits; any other shows whether conflicts are found.
            idle = sorted(set(sequence.planned) - set(sequence.stack))
            sequence.apply(choose.choice([max(sequence.planned), *sequence.planned, *idle * 3]))
        elif operation == "revert":
            sequence.revert(choose.choice(sequence.stack * 3 + list(sequence.planned)))
        else:
            sequence.restore()
    sequence.check_all()
    return sequence


@pytest.mark.slow
@pytest.mark.fault
@pytest.mark.parametrize("first", range(0, 200 * FACTOR if FACTOR > 1 else 100, 50))
def test_random_sequences(store, count_points, first):
    met = Counter()
    for seed in range(first, first + 50):
        # A reading transaction undoes what was written: each sequence begins with an empty database.
        with store.reading() as connection:
            met += run(connection, seed).met
    count_points("a random sequence of edits", 50)
    assert met["applied"] > 100
    assert met["reverted in the middle"] > 5
    assert all(met[words] > 0 for words in REFUSALS), met
    assert first >= 200 or all(met[words] > 5 for words in REFUSALS), met
