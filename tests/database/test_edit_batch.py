"""Many edits at once: stacked, stored and applied all or none. What they do is worked out from the rule, by hand."""

import itertools
import json
from dataclasses import replace

import pytest
import torch

from kndb.database.edits.batch import Target
from kndb.editing.objects import diff_file
from kndb.errors import ConflictError, EditError, InputError, NotFoundError, UsageError, VersionMovedError
from kndb.records.edit_settings import OptimizeSettings, UpdateSettings

NEW = {"France": "Tokyo", "Italy": "Oslo", "Spain": "Lima", "Japan": "Paris"}


@pytest.fixture
def database(refined):
    """A database of each family in turn, in which model `tiny` is refined."""
    return refined


def targets(database):
    numbers = {fact.subject: fact.id for fact in database.facts.find(["P36"])}
    return [Target(numbers[subject], answer) for subject, answer in NEW.items()]


def updates(database, wanted, **options):
    def plan(target, version):
        return database.edits.drafts.update(
            "tiny", target.fact, target.to, UpdateSettings(rule="paper", max_share=1.0), on=version
        )

    return database.edits.draft_batch("tiny", wanted, plan, **options)


def everything(database):
    with database.store.reading() as connection:
        tables = ("edit", "edit_neuron", "applied_edit", "version", "history", "model")
        return [tuple(row) for table in tables for row in connection.exec_driver_sql(f"SELECT * FROM {table}")]


def weights(database, version="current"):
    return {name: value.clone() for name, value in database.load_model("tiny", version).named_parameters()}


def same(one, other):
    return all(one[name].equal(other[name]) for name in one)


def by_the_rule(database, edits):
    """The weights after the paper's rule for one edit after the other, computed here."""
    loaded = database.models.load("tiny").loaded
    parameters = dict(loaded.model.named_parameters())
    embedding = loaded.model.get_input_embeddings().weight.detach().double()
    for edit in edits:
        content = diff_file.read(database.store.objects, edit.object_path, edit.object_hash)
        recipe = edit.recipe
        for neuron in recipe.neurons:
            layer, index = neuron.layer, neuron.index
            (parameter,) = [key for key, of in content.layers.items() if of == layer]
            layout = next(diff.layout for diff in content.parameters if diff.parameter == parameter)
            with torch.no_grad():
                matrix = parameters[parameter]
                slot = matrix[index] if layout == "row" else matrix[:, index]
                value = slot.double()
                old, new = (
                    embedding[token] / embedding[token].norm() for token in (recipe.old_token, recipe.new_token)
                )
                slot.copy_((value - value.norm() * old + 8.0 * value.norm() * new).to(slot.dtype))
    return {name: value.detach().clone() for name, value in parameters.items()}


def test_each_edit_builds_on_those_before_it_and_all_come_back(database):
    untouched = weights(database)
    edits = database.edits.add_batch(updates(database, targets(database)))
    assert [edit.recipe.to for edit in edits] == list(NEW.values())
    assert not any(edit.applied for edit in edits)
    assert same(weights(database), untouched)
    shared = [set(one.recipe.neurons) & set(other.recipe.neurons) for one, other in itertools.pairwise(edits)]
    assert any(shared), "facts that share no neuron would show nothing"
    expected = by_the_rule(database, edits)
    steps = database.edits.apply_all([edit.id for edit in edits])
    assert [step.version_before for step in steps] == [edit.base_version for edit in edits]
    found = weights(database)
    assert all(torch.allclose(found[name], expected[name], rtol=1e-5, atol=1e-6) for name in found)
    assert database.maintenance.check().sound
    # What lies between the edits can be asked for, though only the last version was ever stopped at.
    halfway = weights(database, edits[2].base_version)
    numbers = [edit.id for edit in edits]
    assert [step.edit for step in database.edits.revert_all(numbers[2:])] == numbers[:1:-1]
    assert same(weights(database), halfway)
    with pytest.raises(ConflictError, match=rf"edit {numbers[0]} can't be taken out"):
        database.edits.revert(numbers[0])
    database.edits.revert_all([numbers[0], numbers[1]])
    assert same(weights(database), untouched)


def test_gradient_steps_of_a_batch_see_the_edits_before_them(database):
    wanted = targets(database)[:2]
    settings = OptimizeSettings(steps=5)

    def plan(target, version):
        return database.edits.drafts.optimize("tiny", target.fact, target.to, settings, on=version)

    first, second = database.edits.add_batch(database.edits.draft_batch("tiny", wanted, plan))
    database.edits.apply(first.id)
    alone = database.edits.plan_optimize("tiny", wanted[1].fact, wanted[1].to, settings)
    assert alone.id == second.id, "planned on the same weights, it is the same edit"


def test_a_preview_of_a_batch_stores_nothing_and_tells_what_comes(database, sql):
    before = everything(database)
    batch = updates(database, targets(database))
    rows = database.edits.preview_batch(batch)
    assert everything(database) == before
    assert same(dict(batch.version.model.named_parameters()), weights(database))

    def asked(column):
        for row in rows:
            texts = [text for (text,) in sql(database, "SELECT text FROM prompt WHERE fact_id = ?", row.fact)]
            answers = [database.models.ask("tiny", text, top=400) for text in texts]
            found = [next(a.probability for a in each if a.token.strip() == row.to) for each in answers]
            assert getattr(row, column) == pytest.approx(sum(found) / len(found), rel=1e-3, abs=1e-6)
            if column == "probability_after":
                wins = [each[0].token.strip() == row.to for each in answers]
                assert row.success_rate == pytest.approx(sum(wins) / len(wins))

    asked("probability_before")
    database.edits.apply_all([edit.id for edit in database.edits.add_batch(updates(database, targets(database)))])
    asked("probability_after")


def test_facts_without_an_edit_are_named_or_passed_over(database):
    wanted = targets(database)
    wanted[0] = Target(wanted[0].fact, "Paris", "answers.csv:2")
    wanted[3] = Target(wanted[3].fact, "Atlantis and more", "answers.csv:5")
    before = everything(database)
    with pytest.raises(EditError, match=r"2 of 4 facts.*answers.csv:2: .*Paris. already.*answers.csv:5: .*skip_unus"):
        updates(database, wanted)
    assert everything(database) == before
    ticks = []
    batch = updates(database, wanted, skip_unusable=True, progress=lambda *tick: ticks.append(tick))
    assert [one.target.place for one in batch.unusable] == ["answers.csv:2", "answers.csv:5"]
    assert [target.fact for target in batch.targets] == [wanted[1].fact, wanted[2].fact]
    assert ticks == [(1, 4), (2, 4), (3, 4), (4, 4)]
    several = [replace(one, to="Atlantis and more") for one in wanted[:2]]
    with pytest.raises(EditError, match=r"several tokens.*several tokens") as refused:
        updates(database, several)
    advice = "give an answer of one token, or plan it with db.edits.plan_together(model='tiny', targets=FILE)"
    assert str(refused.value).count("give an answer of one token") == 1
    assert str(refused.value).endswith(f"Fix these rows, or leave them out; {advice}")
    with pytest.raises(EditError, match=r"Fix these rows, or leave them out$"):
        updates(database, [wanted[0]], skip_unusable=True)
    with pytest.raises(UsageError, match=f"fact {wanted[0].fact} is named twice"):
        updates(database, [wanted[0], wanted[0]])
    with pytest.raises(UsageError, match="no fact to edit"):
        updates(database, [])


def test_a_batch_is_refused_as_a_whole_if_the_version_moved(database):
    batch = updates(database, targets(database)[:2])
    erase = database.edits.plan_erase("tiny", "P37")
    database.edits.apply(erase.id)
    before = everything(database)
    with pytest.raises(VersionMovedError, match="plan it again"):
        database.edits.add_batch(batch)
    assert everything(database) == before


def test_of_several_edits_all_are_applied_or_none(database):
    edits = database.edits.add_batch(updates(database, targets(database)))
    numbers = [edit.id for edit in edits]
    before = everything(database)
    with pytest.raises(ConflictError, match=rf"edit {numbers[-1]} can't be applied"):
        database.edits.apply_all([numbers[0], numbers[-1]])
    with pytest.raises(EditError, match=f"edit {numbers[0]} is named twice"):
        database.edits.apply_all([numbers[0], numbers[0]])
    with pytest.raises(EditError, match=f"edit {numbers[1]} is not applied"):
        database.edits.revert_all([numbers[1]])
    with pytest.raises(NotFoundError):
        database.edits.apply_all([*numbers, 99])
    with pytest.raises(UsageError, match="there is no edit"):
        database.edits.apply_all([])
    assert everything(database) == before


# --- the file -----------------------------------------------------------------------------------------


def lines(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("family", ["bert"], indirect=False)
def test_facts_are_found_by_number_and_by_name(database, tmp_path):
    number = database.facts.find(["P36"], subject="France")[0].id
    rows = [
        {"fact": number, "to": "Tokyo", "note": "any other column"},
        {"relation": "P36", "subject": "Italy", "to": " Oslo "},
        {"fact": number + 0, "relation": "P36", "subject": "France", "to": "Lima"},
    ]
    found = database.edits.targets(lines(tmp_path / "answers.jsonl", *rows))
    italy = database.facts.find(["P36"], subject="Italy")[0].id
    assert found == [
        Target(number, "Tokyo", "answers.jsonl:1"),
        Target(italy, "Oslo", "answers.jsonl:2"),
        Target(number, "Lima", "answers.jsonl:3"),
    ]
    table = tmp_path / "answers.csv"
    table.write_text(f'id,subject,relation,to\n{number},"France",P36,Tokyo\n', encoding="utf-8")
    assert database.edits.targets(table) == [Target(number, "Tokyo", "answers.csv:2")]


@pytest.mark.parametrize("family", ["bert"], indirect=False)
@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        ([{"fact": 999, "to": "Rome"}], NotFoundError, r"1 of 1 rows .*answers.jsonl:1 names fact 999, which is no"),
        ([{"relation": "P36", "subject": "Mars", "to": "Rome"}], NotFoundError, r"names P36 'Mars', which is no"),
        ([{"fact": 1, "relation": "P37", "subject": "?", "to": "Rome"}], NotFoundError, "names fact 1, which is no"),
        ([{"fact": 1}], InputError, r"answers.jsonl:1: the row must have `to`, and `fact` .* \(got fact\)"),
        ([{"subject": "France", "to": "Rome"}], InputError, r"must have .* \(got subject, to\)"),
        ([{"fact": "1", "to": "Rome"}], InputError, r"'fact' must be a whole number \(got \"1\"\)"),
        ([], InputError, "there is no row in it"),
    ],
)
def test_lists_that_are_refused(database, tmp_path, rows, error, message):
    with pytest.raises(error, match=message):
        database.edits.targets(lines(tmp_path / "answers.jsonl", *rows))
    (tmp_path / "answers.txt").write_text("a fact and an answer", encoding="utf-8")
    with pytest.raises(InputError, match=r"answers\.txt: it holds .* none of the formats that are read"):
        database.edits.targets(tmp_path / "answers.txt")
