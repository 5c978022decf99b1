"""Edits by ROME, MEMIT, AlphaEdit, EMMET and FT-M as a user has them: planned, applied, measured, shared, replanned."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from plain_answers import whole
from transformers import AutoTokenizer

import kndb
from kndb.cli.edit.reports import short_warning, warnings
from kndb.database import open_database
from kndb.database.edits.batch import Target
from kndb.database.edits.claims import ClaimError, check_claims
from kndb.editing.objects import diff_file
from kndb.errors import EditError, UsageError
from kndb.exchange.edit_bundle import BundledEdit
from kndb.records.edit_settings import EvaluationSettings
from kndb.records.recipes import facts_of, new_answers

SEARCH = kndb.TargetSettings(bound=20.0, decay=0.0, essence=0.0, probability=0.6)
NEW = {("P36", "France"): "Tokyo", ("P36", "Japan"): "Rome Oslo", ("P37", "Peru"): "French"}
"""One new answer has two tokens."""
ANSWER = {"layers": (1,), "token": "answer", "keys": "each"}
METHODS = {
    "memit": kndb.MemitSettings(**ANSWER, target=SEARCH, preserve=0.01, rounds=3),
    "alphaedit": kndb.AlphaEditSettings(**ANSWER, target=SEARCH, threshold=100.0, rounds=3),
    "emmet": kndb.EmmetSettings(**ANSWER, target=SEARCH, slack=0.01, rounds=3),
    "finetune": kndb.FinetuneSettings(layers=(1,), learning_rate=0.3, probability=0.6, steps=60),
    "rome": kndb.RomeSettings(layers=(0,), token="subject", target=SEARCH),
}
QUICK = replace(METHODS["memit"], rounds=1, target=replace(SEARCH, steps=3))


@pytest.fixture
def database(refined):
    """A database of each family in turn, with model `tiny`."""
    return refined


def targets(database, new=NEW):
    return [Target(database.facts.find([key], subject=subject)[0].id, to) for (key, subject), to in new.items()]


def content(database, edit):
    return diff_file.read(database.store.objects, edit.object_path, edit.object_hash)


def weights(database, version="current"):
    return {name: value.clone() for name, value in database.load_model("tiny", version).named_parameters()}


def same(one, other):
    return all(value.equal(other[name]) for name, value in one.items())


def test_facts_whose_answers_win_on_no_prompt_are_named(database, family, small_models):
    tokenizer, partly = AutoTokenizer.from_pretrained(small_models[family]), 0
    for steps in (1, 4, 6, 8, 10, 13, 17, 22):
        settings = replace(METHODS["finetune"], steps=steps)
        edit = database.edits.plan_many("tiny", targets(database), settings)
        database.edits.apply(edit.id)
        model = database.load_model("tiny").eval()
        won = {
            fact.id: any(
                all(whole(model, tokenizer, family, template.replace("[X]", fact.subject), fact.to)[1])
                for template in templates(database, fact.relation)
            )
            for fact in edit.recipe.facts
        }
        database.edits.revert(edit.id)
        nowhere = sorted(number for number, wins in won.items() if not wins)
        assert edit.recipe.report.without_success == (tuple(nowhere) or None)
        said = " ".join(warnings("tiny", edit.recipe))
        if nowhere and any(won.values()):
            partly += 1
            for fact in edit.recipe.facts:
                named = f"{fact.subject} · {fact.relation} → {fact.to}"
                assert (named in said) is (fact.id in nowhere)
            assert f"{len(nowhere)} win nowhere" in short_warning(edit.recipe)
        else:
            assert "prompts (" not in said or "none of the facts'" in said
    assert partly


@pytest.mark.parametrize("method", ["memit", "alphaedit", "emmet", "finetune"])
def test_every_fact_gets_its_answer_and_every_byte_comes_back(database, method, family, small_models):
    before = weights(database)
    edit = database.edits.plan_many("tiny", targets(database), METHODS[method])
    recipe = edit.recipe
    assert (edit.kind, edit.applied, recipe.report.prompts) == (method, False, 15)
    assert [(fact.relation, fact.subject, to) for fact, to in new_answers(recipe)] == [
        (*key, to) for key, to in NEW.items()
    ]
    assert [fact.old_answer for fact in recipe.facts] == [fact.object for fact in facts_of(recipe)]
    assert same(before, weights(database)), "a plan changes nothing"
    database.edits.apply(edit.id)
    model, tokenizer = database.load_model("tiny").eval(), AutoTokenizer.from_pretrained(small_models[family])
    won = [
        all(whole(model, tokenizer, family, template.replace("[X]", subject), to)[1])
        for (key, subject), to in NEW.items()
        for template in templates(database, key)
    ]
    assert sum(won) / len(won) == pytest.approx(recipe.report.success, abs=1e-5)
    assert recipe.report.success >= 0.8
    changed = {name for name, value in weights(database).items() if not before[name].equal(value)}
    assert changed == {tensor.parameter for tensor in database.edits.tensors(edit.id)}
    measures = database.edits.evaluate(edit.id, EvaluationSettings(sample=4)).measures
    assert measures["edited"]["own"]["success_rate"] == pytest.approx(recipe.report.success, abs=1e-5)
    assert (measures["control"], measures["control_neurons"]) == ({}, [])
    database.edits.revert(edit.id)
    assert same(before, weights(database))
    assert database.maintenance.check().sound
    assert all(row.ok for row in database.edits.verify())


def templates(database, key):
    with database.store.reading() as connection:
        rows = connection.exec_driver_sql(
            "SELECT template.text FROM template JOIN relation ON relation.id = relation_id WHERE key = ? AND "
            "NOT held_out",
            (key,),
        )
        return [row[0] for row in rows]


@pytest.mark.parametrize("family", ["gpt2"])
def test_rome_changes_one_fact_by_a_factor_of_rank_one(database):
    (first, *others) = targets(database)
    edit = database.edits.plan_many("tiny", [first], METHODS["rome"])
    assert edit.title == "France · P36 · Paris → Tokyo"
    (changed,) = database.edits.tensors(edit.id)
    assert changed.slots == 64
    made = content(database, edit)
    (parameter,) = {diff.parameter for diff in (*made.parameters, *made.tensors)}
    before = weights(database)[parameter].double()
    database.edits.apply(edit.id)
    change = weights(database)[parameter].double() - before
    values = torch.linalg.svdvals(change)
    assert values[1] < 1e-4 * values[0], "one key gets one output"
    with pytest.raises(EditError, match="rome changes 1 fact at once"):
        database.edits.plan_many("tiny", [first, *others], METHODS["rome"])


def test_the_recipe_says_which_keys_were_left_as_they_are(database, family):
    recipe = database.edits.plan_many("tiny", targets(database), QUICK).recipe
    (used,) = recipe.covariances
    assert (used.layer, used.tokens, used.source) == (1, "every", "facts that are not edited")
    edited = {fact.id for fact in recipe.facts}
    with database.store.reading() as connection:
        rows = connection.exec_driver_sql(
            "SELECT prompt.id, prompt.text, fact.object, fact.id, fact.subject, relation.key FROM prompt JOIN fact ON "
            "fact.id = fact_id JOIN relation ON relation.id = fact.relation_id LEFT JOIN template ON template.id = "
            "template_id WHERE NOT coalesce(template.held_out, 0)"
        ).fetchall()
    encoder = database.models.load("tiny").encoder
    counted = [
        encoder.encode(number, text, answer).ids
        for number, text, answer, fact, subject, key in rows
        if fact not in edited and (key, subject) not in NEW
    ]
    assert used.texts == len(counted)
    # A causal model's prompt of an answer of one token has no token of it, and its first token doesn't count.
    assert used.keys == sum(map(len, counted)) - (len(counted) if family == "gpt2" else 0)
    other = database.edits.plan_many("tiny", targets(database), QUICK, seed=1).recipe.covariances[0]
    assert (other.keys, other.texts) == (used.keys, used.texts)
    assert other.digest != used.digest


@pytest.mark.parametrize("family", ["bert"])
def test_other_facts_of_the_subject_are_kept_by_name(database):
    subjects = {fact.subject for fact in database.facts.find(["P36"])} & {
        fact.subject for fact in database.facts.find(["P37"])
    }
    subject = sorted(subjects)[0]
    (fact,) = database.facts.find(["P36"], subject=subject)
    settings = replace(QUICK, layers=(0,), token="subject", keys="mean", target=replace(SEARCH, steps=3, essence=1.0))
    recipe = database.edits.plan_many("tiny", [Target(fact.id, "Rome")], settings).recipe
    assert recipe.kept_facts == tuple(one.id for one in database.facts.find(["P37"], subject=subject))
    assert recipe.prompts_each == 3


@pytest.mark.parametrize("family", ["bert"])
def test_a_plan_that_was_stopped_goes_on_to_the_same_bytes(database, tmp_path):
    path, settings = tmp_path / "targets", METHODS["memit"]
    whole_plan = database.edits.drafts.many("tiny", targets(database), settings)

    class StoppedError(Exception):
        pass

    def stop(done, total):
        if done == total // 3:
            raise StoppedError

    with pytest.raises(StoppedError):
        database.edits.drafts.many("tiny", targets(database), settings, targets_file=path, progress=stop)
    assert path.exists()
    seen: list[int] = []
    edit = database.edits.plan_many(
        "tiny", targets(database), settings, targets_file=path, progress=lambda done, _: seen.append(done)
    )
    assert min(seen) > 4, "the first round's targets are there"
    assert diff_file.encode(whole_plan.content) == diff_file.encode(content(database, edit))
    assert not path.exists()


@pytest.mark.parametrize(("method", "family"), [("memit", "bert"), ("alphaedit", "gpt2"), ("together", "bert")])
def test_batches_are_what_planning_one_after_the_other_by_hand_gives(database, method):
    """And nothing that a batch needs is anywhere but in the store and the drafts."""
    wanted = targets(database)
    joint = kndb.TogetherSettings(steps=3, check=3, validation=0.0)

    def drafted(some, on=None, before=()):
        drafts = database.edits.drafts
        if method == "together":
            return drafts.together("tiny", some, joint, kndb.KeptFacts(3, 3, 1), layers=[1], on=on)
        settings = replace(METHODS[method], rounds=1, target=replace(SEARCH, steps=5))
        return drafts.many("tiny", some, settings, on=on, before=before)

    before = weights(database)
    batch = database.edits.draft_batches("tiny", wanted, 2, drafted)
    in_memory = dict(batch.version.model.named_parameters())
    assert all(before[name].equal(value) for name, value in in_memory.items())
    rows = database.edits.preview_together(batch)
    assert [row.to for row in rows] == list(NEW.values())
    stored = database.edits.add_batch(batch)
    assert [len(facts_of(edit.recipe)) for edit in stored] == [2, 1]
    first = database.edits.add(drafted(wanted[:2]))
    assert first.id == stored[0].id, "the same bytes are the same edit"
    database.edits.apply(first.id)
    second = database.edits.add(drafted(wanted[2:]))
    assert second.object_hash == stored[1].object_hash
    if method == "alphaedit":
        assert [edit.recipe.earlier for edit in stored] == [0, 2]
    database.edits.apply(second.id)
    database.edits.revert_all([first.id, second.id])
    assert same(before, weights(database))
    with pytest.raises(UsageError, match=r"batch_size must be at least 1 \(got 0\)"):
        database.edits.draft_batches("tiny", wanted, 0, drafted)


@pytest.mark.parametrize("family", ["gpt2"])
def test_earlier_keys_of_the_store_keep_their_outputs(database):
    """The second edit of a history leaves the first one's keys alone, as the same edit without a history does not."""
    (france, japan, peru) = targets(database)
    settings = replace(METHODS["alphaedit"], rounds=1, keys="mean")
    base = database.edits.drafts.many("tiny", [peru], settings)
    assert base.content.recipe.earlier == 0
    first = database.edits.plan_many("tiny", [france], settings)
    database.edits.apply(first.id)
    later = database.edits.plan_many("tiny", [peru], settings)
    assert later.recipe.earlier == 1
    # A fact that is edited again is not among them.
    assert database.edits.drafts.many("tiny", [france, japan], settings).content.recipe.earlier == 0
    assert database.edits.drafts.many("tiny", [japan], settings).content.recipe.earlier == 1


@pytest.mark.parametrize("family", ["bert"])
def test_layers_are_chosen_by_trying(database):
    """Nothing reads the subject's place after the last layer, so that layer can't be the better one there."""
    settings = kndb.MemitSettings(token="subject", target=SEARCH, preserve=0.01)
    choice = kndb.LayerChoice(validation=1.0)
    new = {("P36", "France"): "Tokyo", ("P36", "Japan"): "Rome", ("P37", "Peru"): "French"}
    found = database.edits.drafts.try_layers("tiny", targets(database, new), settings, choice)
    by_layers = {one.layers: one for one in found.tried}
    assert by_layers.keys() == {(0,), (1,)}
    assert by_layers[(1,)].success == 0.0
    assert by_layers[(0,)].success > 0
    assert (found.settings.layers, found.settings.token) == ((0,), "subject")
    recipe = database.edits.plan_many("tiny", targets(database, new), settings, choose=choice).recipe
    assert (recipe.layers, recipe.tried) == ((0,), found.tried)
    alone = database.edits.drafts.many("tiny", targets(database, new), replace(settings, layers=(0,)))
    assert recipe.report.held_out_success == alone.content.recipe.report.held_out_success == by_layers[(0,)].success
    both = database.edits.drafts.try_layers("tiny", targets(database, new), replace(settings, token=None), choice)
    assert {one.token for one in both.tried} == {"subject", "answer"}
    assert [one.score for one in both.tried] == sorted((one.score for one in both.tried), reverse=True)
    tuned = database.edits.drafts.try_layers("tiny", targets(database, new), METHODS["finetune"], choice)
    assert {one.layers for one in tuned.tried} == {(0,), (1,)}
    assert {one.token for one in tuned.tried} == {None}
    with pytest.raises(UsageError, match="validation must be a number above 0"):
        kndb.LayerChoice(validation=0.0)


@pytest.mark.parametrize("family", ["gpt2"])
def test_a_share_of_the_facts_is_drawn_by_the_seed(database):
    wanted = [Target(fact.id, "Rome") for fact in database.facts.find(["P36"]) if fact.object != "Rome"]
    settings = replace(QUICK, layers=None, token="answer")
    tried = [
        database.edits.drafts.try_layers("tiny", wanted, settings, kndb.LayerChoice(validation=0.4, seed=seed)).tried
        for seed in (0, 0)
    ]
    assert tried[0] == tried[1]


@pytest.mark.parametrize(("method", "family"), [("memit", "gpt2"), ("alphaedit", "bert"), ("finetune", "gpt2")])
def test_it_is_planned_again_on_the_weights_without_another(database, method):
    settings = METHODS[method]
    if method != "finetune":
        settings = replace(settings, rounds=1, target=replace(SEARCH, steps=10))
    (italy,) = database.facts.find(["P36"], subject="Italy")
    alone = database.edits.plan_many("tiny", targets(database), settings)
    before = weights(database)
    first = database.edits.plan_many("tiny", [Target(italy.id, "Lima")], settings)
    database.edits.apply(first.id)
    later = database.edits.plan_many("tiny", targets(database), settings)
    assert later.object_hash != alone.object_hash
    database.edits.apply(later.id)
    done = database.edits.rebase(first.id)
    again = database.edits.get(done.replayed[0].edit)
    assert again.recipe.rebased_from == later.id
    assert again.recipe.covariances == alone.recipe.covariances
    assert again.recipe.earlier == alone.recipe.earlier
    after = weights(database)
    database.edits.revert(again.id)
    assert same(before, weights(database))
    database.edits.apply(alone.id)
    assert same(after, weights(database)), "on the same weights, the same plan"
    assert database.maintenance.check().sound


@pytest.fixture
def colleague(small_models, family, tmp_path):
    """Another database with the same checkpoint, under another name, and no facts yet."""
    with open_database(tmp_path / "other.db") as opened:
        opened.models.add(str(small_models[family]), "mine")
        yield opened


@pytest.mark.parametrize("family", ["bert"])
def test_an_edit_goes_to_a_colleague_with_its_facts(database, colleague, small_facts, tmp_path):
    edit = database.edits.plan_many("tiny", targets(database), QUICK)
    database.edits.push([edit.id], tmp_path / "edit.kndb")
    (pulled,) = colleague.edits.pull(tmp_path / "edit.kndb")
    assert (pulled.kind, pulled.unknown_facts) == ("memit", len(NEW))
    with pytest.raises(EditError, match=r"came from another store, and fact .* was not in this one"):
        colleague.edits.evaluate(pulled.edit, EvaluationSettings(sample=2))
    rows = small_facts.read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "turned.jsonl").write_text("".join(reversed(rows)), encoding="utf-8")
    colleague.facts.ingest([tmp_path / "turned.jsonl"])
    colleague.edits.pull(tmp_path / "edit.kndb")
    ours, theirs = (one.edits.evaluate(1, EvaluationSettings(sample=20)).measures for one in (database, colleague))
    for group in ("own", "own_held_out", "intra", "inter"):
        assert theirs["edited"][group] == pytest.approx(ours["edited"][group], rel=1e-3, abs=1e-5), group
    colleague.edits.apply(pulled.edit)
    database.edits.apply(edit.id)
    theirs = {name: value.clone() for name, value in colleague.load_model("mine").named_parameters()}
    assert same(weights(database), theirs)


@pytest.mark.parametrize("family", ["gpt2"])
def test_a_recipe_that_says_what_is_not_so_is_refused(database):
    edit = database.edits.plan_many("tiny", targets(database), QUICK)
    made, version = content(database, edit), database.models.load("tiny")
    manifest = BundledEdit(edit.object_hash, "memit", "", None, "2026-01-01T00:00:00Z", (), True, (), ())
    check_claims(manifest, made, version)
    recipe = made.recipe
    for wrong, message in (
        ({"settings": replace(QUICK, layers=(7,))}, "names layer 7, which the model does not have"),
        ({"settings": replace(QUICK, layers=None)}, "does not say which layers change"),
        ({"settings": replace(QUICK, layers=(0,)), "covariances": None}, "which its recipe does not name"),
        (
            {"covariances": (replace(recipe.covariances[0], layer=0),)},
            "names covariances of other layers than those that change",
        ),
        (
            {"answers": (replace(recipe.answers[0], to="x" * 20_000), *recipe.answers[1:])},
            "has a text of 20,000 letters",
        ),
    ):
        with pytest.raises(ClaimError, match=message):
            check_claims(manifest, replace(made, recipe=replace(recipe, **wrong)), version)


@pytest.mark.parametrize("family", ["bert"])
def test_rows_that_cannot_be_planned_may_be_passed_over(database):
    (italy,) = database.facts.find(["P36"], subject="Italy")
    wanted = [*targets(database), Target(italy.id, " ", "rows.csv:5")]
    with pytest.raises(EditError, match=r"rows.csv:5, ' ': the answer is empty. Fix .* with skip_unusable=True"):
        database.edits.plan_many("tiny", wanted, QUICK)
    draft = database.edits.drafts.many("tiny", wanted, QUICK, skip_unusable=True)
    assert [one.target.place for one in draft.unusable] == ["rows.csv:5"]
    assert len(draft.content.recipe.facts) == len(NEW)
    twice = [*targets(database), Target(targets(database)[0].fact, "Rome")]
    with pytest.raises(UsageError, match="is named twice"):
        database.edits.plan_many("tiny", twice, QUICK)
    with pytest.raises(EditError, match="the model has no layer 9; it has layers 0 to 1"):
        database.edits.plan_many("tiny", targets(database), replace(QUICK, layers=(9,)))


@pytest.mark.parametrize("family", ["bert"])
def test_batches_name_what_they_pass_over(database):
    (italy,) = database.facts.find(["P36"], subject="Italy")
    wanted = [Target(italy.id, " ", "rows.csv:2"), *targets(database)]

    def drafted(some, on, before):
        return database.edits.drafts.many("tiny", some, QUICK, on=on, before=before, skip_unusable=True)

    batch = database.edits.draft_batches("tiny", wanted, 1, drafted, skip_unusable=True)
    assert [one.target.place for one in batch.unusable] == ["rows.csv:2"]
    assert len(batch.drafts) == len(NEW)
    before = weights(database)
    with pytest.raises(EditError, match=r"rows.csv:2"):
        database.edits.draft_batches("tiny", wanted, 1, drafted)
    assert same(before, weights(database))
