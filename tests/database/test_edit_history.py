"""Edits as version control on the small models, against an account of the weights in plain torch.

The account holds the two down projections and, for each edit, which slots it changes from what to what. Cascade and
rebase are worked out from those alone: a rule is computed by this file, not by kndb's recipes.
"""

from __future__ import annotations

import itertools
import random
import shutil
import threading
from collections import Counter
from dataclasses import dataclass, field

import pytest
import torch

from kndb.database import open_database
from kndb.database.edits import steps as edit_steps
from kndb.database.edits.rebase import compute_replays, store_rebase
from kndb.database.models import ModelCommands
from kndb.editing.objects import diff_file, slots
from kndb.editing.planning import recipes
from kndb.errors import ConflictError, EditError, NotFoundError, UsageError, VersionMovedError
from kndb.models.network import Network
from kndb.records.models import Neuron
from kndb.records.recipes import read_recipe
from kndb.store import versions
from kndb.store.edits import checks as edit_checks
from kndb.store.edits import edit as edits

DOWN = {
    "bert": "bert.encoder.layer.{}.output.dense.weight",
    "gpt2": "transformer.h.{}.mlp.c_proj.weight",
}
EMBEDDINGS = {"bert": "bert.embeddings.word_embeddings.weight", "gpt2": "transformer.wte.weight"}
POOL = [Neuron(layer, index) for layer in (0, 1) for index in (3, 7, 11)]
"""Few neurons, so that edits overlap."""

Place = tuple[int, int]


def raw(values: torch.Tensor) -> bytes:
    return values.contiguous().view(torch.uint8).numpy().tobytes()


@dataclass
class Rule:
    """What an edit asks for: `tokens` is None for one that erases."""

    neurons: list[Neuron]
    tokens: tuple[int, int] | None

    def __call__(self, account: Account) -> dict[Place, tuple[torch.Tensor, torch.Tensor]]:
        changes = {}
        for neuron in self.neurons:
            old = account.slot((neuron.layer, neuron.index))
            new = torch.zeros_like(old)
            if self.tokens is not None:
                away, towards = (account.embeddings[token].double() for token in self.tokens)
                v = old.double()
                step = 8.0 * towards / towards.norm() - 1.0 * away / away.norm()
                new = (v + v.norm() * step).float()
            if raw(old) != raw(new):
                changes[neuron.layer, neuron.index] = (old, new)
        return changes


@dataclass
class Account:
    """The weights, and what was done to them."""

    family: str
    weights: list[torch.Tensor]
    embeddings: torch.Tensor
    stack: list[int] = field(default_factory=list)
    edits: dict[int, tuple[Rule, dict[Place, tuple[torch.Tensor, torch.Tensor]]]] = field(default_factory=dict)

    def slot(self, place: Place) -> torch.Tensor:
        layer, index = place
        weight = self.weights[layer]
        return (weight[:, index] if self.family == "bert" else weight[index]).clone()

    def put(self, place: Place, values: torch.Tensor) -> None:
        layer, index = place
        if self.family == "bert":
            self.weights[layer][:, index] = values
        else:
            self.weights[layer][index] = values

    def apply(self, edit: int) -> None:
        for place, (_, new) in self.edits[edit][1].items():
            self.put(place, new)
        self.stack.append(edit)

    def revert(self, edit: int) -> None:
        for place, (old, _) in self.edits[edit][1].items():
            self.put(place, old)
        self.stack.remove(edit)

    def builds_on(self, edit: int) -> list[int]:
        """The later edits that reach an edit by slots in common, one leading to the next."""
        found, reached = [], set(self.edits[edit][1])
        for other in self.stack[self.stack.index(edit) + 1 :]:
            if reached & set(self.edits[other][1]):
                found.append(other)
                reached |= set(self.edits[other][1])
        return found


class Sequence:
    """A database beside its account."""

    def __init__(self, database, family: str, seed: int) -> None:
        self.database, self.family, self.random = database, family, random.Random(seed)
        weights = database.load_model("tiny").state_dict()
        self.account = Account(
            family,
            [weights[DOWN[family].format(layer)].clone() for layer in (0, 1)],
            weights[EMBEDDINGS[family]].clone(),
        )
        self.met: Counter[str] = Counter()

    def plan(self, rule: Rule) -> int | None:
        changes = rule(self.account)
        if not changes:
            return None
        version = self.database.models.load("tiny")
        network = Network(version.model, version.adapter)
        recipe = {"neurons": [str(neuron) for neuron in rule.neurons], "of": len(self.account.edits)}
        kind, asked = "erase", recipes.erase_rule
        if rule.tokens is not None:
            old, new = rule.tokens
            recipe |= {"old_token": old, "new_token": new, "lambda_old": 1.0, "lambda_new": 8.0}
            kind, asked = "update", recipes.UpdateRule(old, new, 1.0, 8.0).on(network)
        content = recipes.plan(
            network, rule.neurons, asked, fingerprint=version.record.fingerprint, recipe=read_recipe(kind, recipe)
        )
        return self.add(content, rule, changes)

    def add(self, content: diff_file.EditObject, rule: Rule, changes) -> int:
        store = self.database.store
        with store.writing() as connection:
            object_hash, path = diff_file.write(content, store.objects)
            edit = edits.add_edit(connection, 1, content.recipe, object_hash, path, "current", slots.changes(content))
        self.account.edits[edit] = (rule, changes)
        return edit

    def by_hand(self, neuron: Neuron, value: float) -> int:
        """Applies an edit of no known kind, which puts one number into a whole slot."""
        place = (neuron.layer, neuron.index)
        old = self.account.slot(place)
        new = torch.full_like(old, value)
        name, index = DOWN[self.family].format(neuron.layer), torch.tensor([neuron.index])
        layout = "column" if self.family == "bert" else "row"
        content = diff_file.EditObject(
            self.database.models.get("tiny").fingerprint, read_recipe("by hand", {"neurons": [str(neuron)]}),
            (diff_file.ParameterDiff(name, layout, index, old[None], new[None]),),
            {name: neuron.layer}, {name: tuple(self.account.weights[neuron.layer].shape)},
        )  # fmt: skip
        edit = self.add(content, Rule([neuron], None), {place: (old, new)})
        self.database.edits.apply(edit)
        self.account.apply(edit)
        return edit

    def plan_and_apply(self, *neurons: Neuron, tokens: tuple[int, int] | None) -> int:
        edit = self.plan(Rule(list(neurons), tokens))
        assert edit is not None
        self.database.edits.apply(edit)
        self.account.apply(edit)
        return edit

    def random_rule(self) -> Rule:
        neurons = self.random.sample(POOL, self.random.randint(1, 3))
        old, new = self.random.sample(range(5, 60), 2)
        return Rule(neurons, None if self.random.random() < 0.3 else (old, new))

    def revert(self, edit: int) -> None:
        if self.account.builds_on(edit):
            with pytest.raises(ConflictError, match=rf"revert_cascade\({edit}\).*rebase\({edit}\)"):
                self.database.edits.revert(edit)
            self.met["refused"] += 1
        else:
            self.database.edits.revert(edit)
            self.account.revert(edit)

    def cascade(self, edit: int) -> None:
        expected = [*reversed(self.account.builds_on(edit)), edit]
        entries = self.database.edits.revert_cascade(edit)
        assert [(entry.edit, entry.action) for entry in entries] == [(other, "revert") for other in expected]
        for other in expected:
            self.account.revert(other)
        self.met["cascade"] += len(expected) > 1
        self.met["cascade of others"] += bool(self.account.stack)

    def rebase(self, edit: int) -> None:
        later = self.account.builds_on(edit)
        trial = Account(
            self.family, [weight.clone() for weight in self.account.weights], self.account.embeddings,
            list(self.account.stack), dict(self.account.edits),
        )  # fmt: skip
        results = {}
        for other in reversed(later):
            results[other] = {(n.layer, n.index): trial.slot((n.layer, n.index)) for n in trial.edits[other][0].neurons}
            trial.revert(other)
        trial.revert(edit)
        anew = []
        for number, other in enumerate(later):
            changes = trial.edits[other][0](trial)
            if not changes:
                with pytest.raises(EditError, match=f"edit {other} can't be replayed: .* no value slot"):
                    self.database.edits.rebase(edit)
                self.met["nothing to replay"] += 1
                return
            trial.edits[-1 - number] = (trial.edits[other][0], changes)
            trial.apply(-1 - number)
            anew.append((other, changes, {place: trial.slot(place) for place in results[other]}))
        done = self.database.edits.rebase(edit)
        assert [one.rebased_from for one in done.replayed] == later
        for one, (other, changes, result) in zip(done.replayed, anew, strict=True):
            trial.edits[one.edit] = (trial.edits[other][0], changes)
            pairs = [(results[other][place], value) for place, value in result.items()]
            assert (one.slots, one.different) == (len(pairs), sum(raw(a) != raw(b) for a, b in pairs))
            ratios = [
                (b.double() - a.double()).norm() / a.double().norm() if raw(a) != raw(b) else torch.tensor(0.0)
                for a, b in pairs
            ]
            assert one.largest_change == pytest.approx(max(map(float, ratios)), rel=1e-12)
            assert self.database.edits.get(one.edit).recipe.rebased_from == other
        numbers = [one.edit for one in done.replayed]
        trial.stack[len(trial.stack) - len(numbers) :] = numbers
        steps = [(other, "revert") for other in [*reversed(later), edit]] + [(other, "apply") for other in numbers]
        assert [(entry.edit, entry.action) for entry in done.steps] == steps
        self.account = trial
        self.met["rebase"] += bool(later)

    def check(self) -> None:
        weights = self.database.load_model("tiny").state_dict()
        for layer in (0, 1):
            assert raw(weights[DOWN[self.family].format(layer)]) == raw(self.account.weights[layer])
        with self.database.store.reading() as connection:
            assert versions.applied_edits(connection, 1) == self.account.stack
            assert edit_checks.check_edits(connection) == []


@pytest.fixture
def sequence(fresh):
    return lambda family="bert", seed=0: Sequence(fresh(family), family, seed)


def test_random_sequences(sequence, family):
    one = sequence(family, seed=1)
    for _ in range(8):
        while len(one.account.stack) < 3:
            edit = one.plan(one.random_rule())
            if edit is not None and edit not in one.account.stack:
                one.database.edits.apply(edit)
                one.account.apply(edit)
        action = one.random.choices((one.revert, one.cascade, one.rebase), (1, 1, 2))[0]
        action(one.random.choice(one.account.stack[:2]))
        one.check()
    assert all(row.ok for row in one.database.edits.verify(weights=True))
    assert min(one.met[what] for what in ("refused", "rebase", "cascade")) > 0


def test_a_cascade_leads_on_and_leaves_the_others(sequence):
    one = sequence()
    first = one.plan_and_apply(Neuron(0, 3), tokens=(5, 6))
    second = one.plan_and_apply(Neuron(0, 3), Neuron(0, 7), tokens=(6, 7))
    apart = one.plan_and_apply(Neuron(1, 3), tokens=(5, 6))
    third = one.plan_and_apply(Neuron(0, 7), tokens=(7, 8))
    one.cascade(first)
    one.check()
    assert one.account.stack == [apart]
    with pytest.raises(EditError, match=f"edit {third} is not applied"):
        one.database.edits.revert_cascade(third)
    with pytest.raises(EditError, match=f"edit {second} is not applied"):
        one.database.edits.rebase(second)
    with pytest.raises(NotFoundError):
        one.database.edits.rebase(99)


def everything(database) -> list[str]:
    with database.store.reading() as connection:
        return list(connection.connection.driver_connection.iterdump())


def test_a_rebase_that_can_not_be_is_refused_before_anything_changes(sequence):
    one = sequence()
    one.plan_and_apply(Neuron(0, 3), tokens=None)
    first = one.by_hand(Neuron(0, 3), 0.5)
    again = one.plan_and_apply(Neuron(0, 3), tokens=None)
    before = everything(one.database)
    one.rebase(first)  # Without it the slot is zero already when `again` is to make it so.
    assert one.met["nothing to replay"] == 1
    assert everything(one.database) == before
    last = one.by_hand(Neuron(0, 3), 0.25)
    before = everything(one.database)
    with pytest.raises(EditError, match=f"edit {last} can't be replayed: kind 'by hand' is not one of"):
        one.database.edits.rebase(again)
    assert everything(one.database) == before
    one.check()


def test_of_a_rebase_and_an_apply_at_once_one_is_told_that_the_version_moved(sequence, monkeypatch):
    one = sequence()
    first = one.plan_and_apply(Neuron(0, 3), tokens=(5, 6))
    one.plan_and_apply(Neuron(0, 3), tokens=(6, 7))
    apart = one.plan(Rule([Neuron(1, 3)], (5, 6)))
    start, outcomes = threading.Barrier(2, timeout=60), []

    def then_together(act):
        def together(*arguments):
            found = act(*arguments)
            start.wait()  # Both have looked at the same version; only one of them may move it.
            return found

        return together

    monkeypatch.setattr("kndb.database.edits.steps.try_steps", then_together(edit_steps.try_steps))
    monkeypatch.setattr(ModelCommands, "load", then_together(ModelCommands.load))

    def work(action: str, edit: int) -> None:
        with open_database(one.database.store.path, create=False) as own:
            try:
                getattr(own.edits, action)(edit)
                outcomes.append("done")
            except VersionMovedError:
                outcomes.append("moved")

    threads = [threading.Thread(target=work, args=pair) for pair in (("rebase", first), ("apply", apart))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["done", "moved"]
    monkeypatch.undo()
    assert all(row.ok for row in one.database.edits.verify(weights=True))


def test_a_rebase_sees_that_other_edits_lead_to_the_same_version(sequence):
    """The version's id is the same again, but an edit that the replays know nothing of builds on the first one."""
    one = sequence()
    first = one.plan_and_apply(Neuron(0, 3), tokens=(5, 6))
    second = one.plan_and_apply(Neuron(0, 3), tokens=(6, 7))
    database = one.database
    loaded = database.models.load("tiny")
    records = [database.edits.get(edit) for edit in (second, first)]
    contents = [(edit, diff_file.read(database.store.objects, edit.object_path, edit.object_hash)) for edit in records]
    replays = compute_replays(database.store, loaded, contents, {})
    one.revert(second)
    twin = one.by_hand(Neuron(0, 3), 0.5)
    held = dict(one.account.edits[second][1])
    name = DOWN["bert"].format(0)
    old = one.account.slot((0, 3))
    content = diff_file.EditObject(
        loaded.record.fingerprint, read_recipe("by hand", {"neurons": ["L0.N3"]}),
        (diff_file.ParameterDiff(name, "column", torch.tensor([3]), old[None], held[0, 3][1][None]),),
        {name: 0}, {name: tuple(one.account.weights[0].shape)},
    )  # fmt: skip
    back = one.add(content, Rule([Neuron(0, 3)], None), {(0, 3): (old, held[0, 3][1])})
    database.edits.apply(back)
    one.account.apply(back)
    assert database.models.get("tiny").version == loaded.version
    before = everything(database)
    with pytest.raises(VersionMovedError, match=rf"in the meantime: \[{back}, {twin}, {first}\] would be taken out"):
        store_rebase(database.store, first, loaded.version, replays)
    assert everything(database) == before


# --- looking ----------------------------------------------------------------------------------------


def test_diff_of_versions(sequence, family):
    one = sequence(family)
    names = {"base": "base"}
    weights = {"base": [weight.clone() for weight in one.account.weights]}
    for tokens, neurons in (((5, 6), POOL[:2]), (None, POOL[1:4]), ((7, 8), POOL[4:])):
        one.plan_and_apply(*neurons, tokens=tokens)
        version = one.database.models.get("tiny").version
        names[f"after {one.account.stack}"] = version[:9]
        weights[f"after {one.account.stack}"] = [weight.clone() for weight in one.account.weights]
    one.cascade(1)
    names["current"] = "current"
    weights["current"] = [weight.clone() for weight in one.account.weights]
    load = one.database.models.load
    one.database.models.load = None  # No model is loaded.
    for a, b in itertools.product(names, names):
        found = one.database.edits.diff("tiny", names[a], names[b])
        expected = {}
        for place in [(neuron.layer, neuron.index) for neuron in POOL]:
            in_a, in_b = (
                Account(family, weights[side], one.account.embeddings).slot(place).double() for side in (a, b)
            )
            if raw(in_a) != raw(in_b):
                expected[place] = (in_a.norm().item(), in_b.norm().item(), (in_b - in_a).norm().item())
        assert [(row.layer, row.neuron) for row in found.slots] == sorted(expected)
        for row in found.slots:
            norms = (row.norm_a, row.norm_b, row.norm_difference)
            assert norms == pytest.approx(expected[row.layer, row.neuron], rel=1e-12)
            assert (row.parameter, row.facts, row.relations) == (DOWN[family].format(row.layer), None, None)
        assert (found.refinement, found.relations, found.facts) == (None, (), ())
    one.database.models.load = load
    found = one.database.edits.diff("tiny", names["after [1, 2]"], "current")
    assert [[edit.id for edit in side] for side in (found.only_a, found.only_b)] == [[1, 2], [3]]


def test_diff_names_the_facts_that_the_newest_refinement_holds(attributed):
    database = attributed()
    database.attribution.refine(threshold=0.9)
    newest = database.attribution.refine()
    one = Sequence(database, "bert", 0)
    with database.store.reading() as connection:
        query = (
            "SELECT layer, neuron, fact_id, key FROM knowledge_neuron JOIN fact ON fact.id = fact_id "
            "JOIN relation ON relation.id = relation_id WHERE refinement_id = ? ORDER BY layer, neuron"
        )
        held = list(connection.exec_driver_sql(query, (newest.id,)))
    chosen = sorted({Neuron(row[0], row[1]) for row in held})[:3]
    one.plan_and_apply(*chosen, tokens=None)
    found = database.edits.diff("tiny", "base", "current")
    assert found.refinement == newest.id
    for row in found.slots:
        mine = [(fact, key) for layer, neuron, fact, key in held if (layer, neuron) == (row.layer, row.neuron)]
        assert (row.facts, row.relations) == (len(mine), tuple(sorted({key for _, key in mine})))
    places = {(neuron.layer, neuron.index) for neuron in chosen}
    assert {fact.fact for fact in found.facts} == {fact for *place, fact, _ in held if tuple(place) in places}
    assert {row.relation for row in found.relations} == {key for *place, _, key in held if tuple(place) in places}
    same = database.edits.diff("tiny", "current", "current")
    assert (same.slots, same.facts, same.relations) == ((), (), ())


def test_verify_finds_any_changed_byte(sequence):
    one = sequence()
    edits_ = [one.plan_and_apply(*POOL[:2], tokens=(5, 6)), one.plan_and_apply(POOL[4], tokens=None)]
    database = one.database
    sound = database.edits.verify(weights=True)
    assert all(row.ok for row in sound)
    assert [row.what for row in sound] == [
        *(f"edit {edit}: {part}" for edit in edits_ for part in ("object", "slots", "description")),
        "model tiny: log",
        "model tiny: checkpoint",
    ]
    path = database.store.objects / database.edits.get(edits_[1]).object_path
    content = path.read_bytes()
    chance = random.Random(0)
    places = {0, 7, 8, len(content) - 1, *chance.sample(range(len(content)), 60)}
    for place in places:
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << chance.randrange(8)]) + content[place + 1 :])
        assert [row.what for row in database.edits.verify() if not row.ok] == [f"edit {edits_[1]}: object"]
        assert all(row.ok for row in database.edits.verify([edits_[0]]))
    path.unlink()
    assert [row.what for row in database.edits.verify([edits_[1]]) if not row.ok] == [f"edit {edits_[1]}: object"]
    path.write_bytes(content)
    assert all(row.ok for row in database.edits.verify(edits_, model="tiny"))


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("UPDATE edit_neuron SET new_sha256 = 'x' WHERE edit_id = 1 AND neuron = 3", "edit 1: slots"),
        ("DELETE FROM edit_neuron WHERE edit_id = 1 AND neuron = 3", "edit 1: slots"),
        ("UPDATE edit SET recipe = '{}' WHERE id = 1", "edit 1: description"),
        ("UPDATE edit SET kind = 'erase' WHERE id = 1", "edit 1: description"),
        ("DELETE FROM history WHERE id = 1", "model tiny: log"),
        ("UPDATE history SET version_after = 'v0' WHERE id = 1", "model tiny: log"),
    ],
)
def test_verify_finds_what_the_database_says_wrongly(sequence, statement, what):
    one = sequence()
    one.plan_and_apply(*POOL[:2], tokens=(5, 6))
    with one.database.store.writing() as connection:
        connection.exec_driver_sql(statement)
    assert what in [row.what for row in one.database.edits.verify() if not row.ok]


def test_verify_finds_a_changed_checkpoint(fresh, small_models, tmp_path):
    database = fresh()
    shutil.copytree(small_models["bert"], tmp_path / "copy")
    database.models.add(str(tmp_path / "copy"), "copied")
    path = tmp_path / "copy" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert all(row.ok for row in database.edits.verify())
    found = {row.what: row for row in database.edits.verify(weights=True, model="copied")}
    assert list(found) == ["model copied: log", "model copied: checkpoint"]
    assert not found["model copied: checkpoint"].ok
    assert "fingerprint" in found["model copied: checkpoint"].detail


def test_what_verify_refuses(sequence, small_models):
    one = sequence()
    edit = one.plan_and_apply(POOL[0], tokens=None)
    one.database.models.add(str(small_models["gpt2"]), "other")
    with pytest.raises(UsageError, match=f"edit {edit} is of model 'tiny'"):
        one.database.edits.verify([edit], model="other")
    with pytest.raises(NotFoundError):
        one.database.edits.verify([99])
    with pytest.raises(NotFoundError):
        one.database.edits.verify(model="nobody")


# --- log and snapshots ------------------------------------------------------------------------------


def test_the_log_says_who_and_which_way(sequence, monkeypatch):
    one = sequence()
    monkeypatch.setenv("KNDB_AUTHOR", " Ada ")
    first = one.plan_and_apply(POOL[0], tokens=(5, 6))
    one.database.snapshots.create("one", "tiny")
    monkeypatch.setenv("KNDB_AUTHOR", "")
    monkeypatch.setattr("getpass.getuser", lambda: "grace")
    second = one.plan_and_apply(POOL[1], tokens=(5, 6))
    monkeypatch.setattr("getpass.getuser", fail)
    one.database.snapshots.restore("base", "tiny")
    one.database.snapshots.restore("one", "tiny")
    assert [(row.author, row.action, row.direction, row.edit) for row in one.database.edits.log("tiny")] == [
        ("Ada", "apply", None, first),
        ("grace", "apply", None, second),
        (None, "restore", "revert", second),
        (None, "restore", "revert", first),
        (None, "restore", "apply", first),
    ]
    with one.database.store.writing() as connection:
        connection.exec_driver_sql("UPDATE history SET direction = 'apply' WHERE id = 3")
        (problem, *_) = edit_checks.check_edits(connection)
    assert "history 3 says apply of edit 2, against the steps before it" in problem


def fail() -> str:
    raise OSError("no name")


def test_a_snapshot_is_shown_and_its_name_deleted(sequence):
    one = sequence()
    first = one.plan_and_apply(*POOL[:2], tokens=(5, 6))
    second = one.plan_and_apply(POOL[0], tokens=None)
    named = one.database.snapshots.create("both", "tiny")
    one.cascade(first)
    shown = one.database.snapshots.show("both", "tiny")
    assert (shown.snapshot, shown.current, [edit.id for edit in shown.edits]) == (named, False, [first, second])
    assert [(row.layer, row.neuron) for row in shown.slots] == [(n.layer, n.index) for n in POOL[:2]]
    assert shown.slots[0].norm_b == 0
    before = one.database.edits.log()
    assert one.database.snapshots.delete("both", "tiny") == named
    assert one.database.snapshots.all() == []
    assert one.database.edits.log() == before
    for ask in (one.database.snapshots.show, one.database.snapshots.delete, one.database.snapshots.restore):
        with pytest.raises(NotFoundError, match="'both'"):
            ask("both", "tiny")
    one.database.snapshots.restore(named.version, "tiny")
    assert one.database.models.get("tiny").version == named.version
    one.database.snapshots.create("both", "tiny", "base")
