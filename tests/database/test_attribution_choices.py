"""What an attribution can be told: method, target, negative scores, run and version, dtype, batch size; what fails."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_models
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

from kndb.attribution.methods import METHODS
from kndb.database import open_database
from kndb.errors import AttributionError, ModelError, NotFoundError, UsageError
from kndb.models import loading

DATA = Path(__file__).parents[2] / "data" / "facts"
METHOD_NAMES = pytest.mark.parametrize("method", list(METHODS))
SCORES = "SELECT prompt_id, layer, neuron, score FROM score WHERE run_id = ? ORDER BY 1, 2, 3"
NEURONS = "SELECT fact_id, layer, neuron FROM knowledge_neuron WHERE refinement_id = ? ORDER BY 1, 2, 3"


def dump(database):
    """All that the store holds."""
    with database.store.reading() as connection:
        return "\n".join(connection.connection.driver_connection.iterdump())


def scores_of(database, sql, run):
    return {tuple(place): score for *place, score in sql(database, SCORES, run)}


# --- methods ---------------------------------------------------------------------------------------------


@METHOD_NAMES
def test_every_method_goes_from_run_to_shared_neurons(fresh, sql, family, method):
    database = fresh(family)
    report = database.attribution.run("tiny", method=method)
    assert (report.run.method, report.run.prompts, report.run.status) == (method, 80, "complete")
    assert sql(database, "SELECT id, method FROM run") == [(report.run.id, method)]
    integrates = method == "integrated-gradients"
    assert (report.trust["completeness_error"] is not None) == integrates
    assert {"quadrature", "steps", "tolerance"} <= set(report.run.settings) or not integrates
    assert not {"quadrature", "steps", "tolerance"} & set(report.run.settings) or integrates
    assert ("seed" in report.run.settings) == (method == "random")
    again = database.attribution.run("tiny", method=method)
    assert (again.run.id, again.resumed, again.attributed, again.already_done) == (report.run.id, True, 0, 80)
    refinement = database.attribution.refine(report.run.id)
    assert refinement.run_id == report.run.id
    assert refinement.settings["threshold"] == (0.5 if method == "activation" else 0.2)
    assert {outcome.relation for outcome in refinement.relations} == {"P36", "P37"}
    held = sql(database, NEURONS, refinement.id)
    assert held
    found = database.query.shared(["P36", "P37"], refinement=refinement.id)
    assert {(row.layer, row.neuron) for row in found} == {(layer, neuron) for _, layer, neuron in held}
    assert found[0].facts == max(sum(place == row[1:] for row in held) for place in {row[1:] for row in held})


@METHOD_NAMES
def test_a_threshold_asked_for_is_taken(fresh, method):
    database = fresh()
    database.attribution.run("tiny", method=method, relations=["P36"])
    assert database.attribution.refine(threshold=0.35).settings["threshold"] == 0.35


def test_methods_live_side_by_side(fresh, sql):
    database = fresh()
    runs = {method: database.attribution.run("tiny", method=method, relations=["P36"]).run.id for method in METHODS}
    assert sorted(runs.values()) == list(range(1, len(METHODS) + 1))
    found = {method: scores_of(database, sql, run) for method, run in runs.items()}
    assert len({tuple(sorted(scores.items())) for scores in found.values()}) == len(METHODS)


def test_an_unknown_method_is_refused(fresh):
    database = fresh()
    before = dump(database)
    with pytest.raises(UsageError, match=r"integrated-gradients.*'gradient'.*kndb.attribution_methods"):
        database.attribution.run("tiny", method="gradient")
    assert dump(database) == before


def test_two_seeds_are_two_random_runs(fresh, sql):
    database = fresh()
    for seed in (0, 1):
        report = database.attribution.run("tiny", method="random", seed=seed)
        assert (report.run.id, report.resumed, report.run.settings["seed"]) == (seed + 1, False, seed)
    assert scores_of(database, sql, 1) != scores_of(database, sql, 2)
    assert database.attribution.run("tiny", method="random", seed=1).run.id == 2
    other = fresh()
    other.attribution.run("tiny", method="random", seed=1, batch_size=7)
    assert scores_of(other, sql, 1) == scores_of(database, sql, 2)


def test_a_seed_means_nothing_to_a_method_that_draws_nothing(attributed):
    database = attributed()
    assert database.attribution.run("tiny", seed=5).run.id == 1


# --- targets ---------------------------------------------------------------------------------------------


def test_the_predicted_answer_is_the_gold_one_where_the_model_knows_it(attributed, sql, family):
    database = attributed(family)
    report = database.attribution.run("tiny", target="predicted")
    assert (report.run.id, report.run.settings["target"]) == (2, "predicted")
    query = (
        "SELECT prompt_id, correct, predicted, predicted_probability, probability FROM prompt_result"
        " WHERE run_id = ? ORDER BY 1"
    )
    gold, predicted = sql(database, query, 1), sql(database, query, 2)
    assert [row[:3] for row in predicted] == [row[:3] for row in gold]
    for row in predicted:
        assert row[4] == pytest.approx(row[3], rel=1e-5)
    known = {row[0] for row in gold if row[1]}
    assert len(known) > 70
    first, second = (
        {place: score for place, score in scores_of(database, sql, run).items() if place[0] in known} for run in (1, 2)
    )
    assert second.keys() == first.keys()
    for place, score in second.items():
        assert score == pytest.approx(first[place], rel=1e-4)


def test_the_answer_can_be_a_text(attributed, sql, family):
    database = attributed(family)
    report = database.attribution.run("tiny", relations=["P36"], target="Oslo")
    assert (report.run.id, report.run.settings["target"]) == (2, "Oslo")
    query = (
        "SELECT prompt_id, object, predicted, correct, probability FROM prompt_result"
        " JOIN prompt ON prompt.id = prompt_id JOIN fact ON fact.id = fact_id"
        " JOIN relation ON relation.id = relation_id WHERE run_id = ? AND relation.key = 'P36' ORDER BY 1"
    )
    gold, asked = sql(database, query, 1), sql(database, query, 2)
    assert [row[:4] for row in asked] == [row[:4] for row in gold]
    assert sum(row[3] for row in asked) > 35
    oslo = {row[0] for row in gold if row[1] == "Oslo"}
    assert len(oslo) == 5
    for before, after in zip(gold, asked, strict=True):
        if before[0] in oslo:
            assert after[4] == pytest.approx(before[4], rel=1e-5)
        elif before[3]:
            assert after[4] < before[4]
    first, second = scores_of(database, sql, 1), scores_of(database, sql, 2)
    for place, score in second.items():
        if place[0] in oslo:
            assert score == pytest.approx(first[place], rel=1e-4)
    assert any(place[0] not in oslo for place in second)
    assert database.attribution.run("tiny", relations=["P36"], target="Oslo").attributed == 0
    assert database.attribution.run("tiny", relations=["P36"], target="Rome").run.id == 3


def test_a_text_of_several_tokens(fresh, sql, family):
    database = fresh(family)
    report = database.attribution.run("tiny", relations=["P36"], target="Oslo Rome")
    assert report.skipped == {}
    # Two tokens are not to be compared with one.
    assert set(sql(database, "SELECT answer_tokens, correct FROM prompt_result")) == {(2, None)}


@pytest.mark.parametrize("target", ["", " ", "\t\n"])
def test_an_empty_target_is_refused(fresh, target):
    database = fresh()
    before = dump(database)
    with pytest.raises(UsageError, match=r"target must be gold, predicted or .*empty"):
        database.attribution.run("tiny", target=target)
    assert dump(database) == before


# --- negative scores -------------------------------------------------------------------------------------


def test_negative_scores_are_kept_beside_the_same_positive_ones(attributed, sql, family):
    database = attributed(family)
    report = database.attribution.run("tiny", negative=True)
    assert (report.run.id, report.run.settings["negative"]) == (2, True)
    everything = database.attribution.run("tiny", negative=True, floor=0.0).run.id
    positive, both, every = (scores_of(database, sql, run) for run in (1, 2, everything))
    assert {place: score for place, score in both.items() if score > 0} == positive
    lowest = dict(sql(database, "SELECT prompt_id, min_score FROM prompt_result WHERE run_id = 2"))
    below = {place: score for place, score in every.items() if score < 0}
    assert lowest == {prompt: min(score for (of, *_), score in below.items() if of == prompt) for prompt in lowest}
    expected = {place: score for place, score in below.items() if score <= 0.1 * lowest[place[0]]}
    assert {place: score for place, score in both.items() if score < 0} == expected
    assert len(expected) >= 80
    assert 0 not in every.values()


# --- going on with a run ---------------------------------------------------------------------------------


@pytest.fixture
def more_facts(write_facts):
    """One more fact of P36: five prompts, and one of the held-out template."""
    return write_facts({"relation": "P36", "subject": "Chile", "object": "Lima"})


def test_a_named_run_goes_on(attributed, more_facts):
    database = attributed()
    database.attribution.run("tiny", relations=["P36"], floor=0.3)
    database.facts.ingest([more_facts])
    report = database.attribution.run("tiny", run=1)
    assert (report.run.id, report.resumed, report.attributed, report.already_done) == (1, True, 5, 80)
    report = database.attribution.run("tiny", relations=["P36"], floor=0.3, run=2)
    assert (report.run.id, report.attributed, report.already_done) == (2, 5, 40)


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"floor": 0.2}, "floor"),
        ({"quadrature": "gauss-legendre", "steps": 4}, "quadrature"),
        ({"most_evaluations": 300}, "most_evaluations"),
        ({"tolerance": 1e-2}, "tolerance"),
        ({"known_only": True}, "known_only"),
        ({"held_out": True}, "held_out"),
        ({"negative": True}, "negative"),
        ({"target": "predicted"}, "target"),
        ({"target": "Oslo"}, "target"),
        ({"dtype": "float64"}, "dtype"),
        ({"method": "activation"}, "method"),
    ],
    ids=str,
)
def test_a_run_of_other_settings_is_refused(attributed, more_facts, changed, name):
    database = attributed()
    database.facts.ingest([more_facts])
    before = dump(database)
    with pytest.raises(AttributionError, match=f"run 1 has {name}=.*not {name}=.*Leave out run"):
        database.attribution.run("tiny", run=1, **changed)
    assert dump(database) == before


def test_a_run_of_another_seed_is_refused(fresh):
    database = fresh()
    database.attribution.run("tiny", method="random", seed=3)
    before = dump(database)
    with pytest.raises(AttributionError, match="run 1 has seed=3, not seed=4"):
        database.attribution.run("tiny", method="random", seed=4, run=1)
    assert dump(database) == before


def test_a_run_of_another_model_is_refused(attributed, small_models):
    database = attributed()
    # The same checkpoint under another name, and another one.
    database.models.add(str(small_models["bert"]), "twin")
    database.models.add(str(small_models["gpt2"]), "other")
    before = dump(database)
    for model in ("twin", "other"):
        with pytest.raises(AttributionError, match=f"run 1 attributed tiny, not {model}.*model='tiny'"):
            database.attribution.run(model, run=1)
    assert dump(database) == before


def test_a_run_that_is_not_there(attributed):
    database = attributed()
    before = dump(database)
    with pytest.raises(NotFoundError, match=r"no run 7.*db\.query\.runs"):
        database.attribution.run("tiny", run=7)
    assert dump(database) == before


def test_a_run_of_another_version_is_refused_and_goes_on_by_its_version(attributed, more_facts, sql):
    database = attributed()
    base = database.models.get("tiny").version
    database.attribution.refine()
    edit = database.edits.plan_erase("tiny", "P36", top=10)
    changed = database.edits.apply(edit.id).version_after
    database.facts.ingest([more_facts])
    before, scores = dump(database), scores_of(database, sql, 1)
    with pytest.raises(AttributionError, match=f"version {base} of tiny, not version {changed}.*version='{base}'"):
        database.attribution.run("tiny", run=1)
    assert dump(database) == before
    report = database.attribution.run("tiny", version="base", run=1)
    assert (report.run.id, report.run.version, report.attributed, report.already_done) == (1, base, 5, 80)
    after = scores_of(database, sql, 1)
    assert {place: after[place] for place in scores} == scores
    # The base version needs no run to be named, and its new results are those of the unedited weights.
    assert database.attribution.run("tiny", version="base").run.id == 1
    database.edits.revert(edit.id)
    fresh_run = database.attribution.run("tiny", floor=0.05, relations=["P36"]).run.id
    again = scores_of(database, sql, fresh_run)
    new = after.keys() - scores.keys()
    assert new
    for place in new:
        assert after[place] == pytest.approx(again[place], rel=1e-3)


def test_versions_by_name(attributed):
    database = attributed()
    base = database.models.get("tiny").version
    database.attribution.refine()
    edit = database.edits.plan_erase("tiny", "P36", top=10)
    changed = database.edits.apply(edit.id).version_after
    database.edits.revert(edit.id)
    report = database.attribution.run("tiny", relations=["P36"], version=changed[:10])
    assert (report.run.id, report.run.version) == (2, changed)
    assert database.attribution.run("tiny", version=base).run.id == 1
    before = dump(database)
    with pytest.raises(NotFoundError):
        database.attribution.run("tiny", version="f00d")
    assert dump(database) == before


# --- what fails leaves nothing ---------------------------------------------------------------------------


def spoiled(checkpoint, folder, value):
    """A copy of a checkpoint with one number of its second layer replaced."""
    shutil.copytree(checkpoint, folder)
    (path,) = folder.glob("*.safetensors")
    tensors = load_file(path)
    name = next(
        name for name in sorted(tensors) if ".1." in name and name.endswith("weight") and tensors[name].ndim == 2
    )
    tensors[name][0, 0] = value
    save_file(tensors, path, metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("value", [math.nan, math.inf], ids=str)
@METHOD_NAMES
def test_weights_that_are_no_numbers_leave_nothing_behind(
    fresh, small_models, tmp_path, family, method, value, monkeypatch
):
    # Registering refuses such weights. Stores have models that were registered before it did.
    monkeypatch.setattr("kndb.models.acceptance._require_finite", lambda path, header: None)
    database = fresh(family)
    database.models.add(str(spoiled(small_models[family], tmp_path / "spoiled", value)), "spoiled")
    before = dump(database)
    with pytest.raises(ModelError, match="spoiled gives probabilities that are not numbers"):
        database.attribution.run("spoiled", method=method)
    assert dump(database) == before
    database.attribution.run("tiny", relations=["P36"], method="activation")


WRONG = {
    "bert": lambda adapter: replace(adapter, norms=replace(adapter.norms, attention_sum=None)),
    "gpt2": lambda adapter: replace(adapter, attention=replace(adapter.attention, scaling=1.0)),
}


def test_a_wrong_adapter_leaves_nothing_behind(attributed, family, monkeypatch):
    database = attributed(family)
    before = dump(database)
    right = loading.adapter_for
    with monkeypatch.context() as patched:
        patched.setattr(loading, "adapter_for", lambda config: WRONG[family](right(config)))
        with pytest.raises(ModelError, match=f"{family} adapter gives other probabilities.*no score was stored"):
            database.attribution.run("tiny", floor=0.3)
    assert dump(database) == before
    assert database.attribution.run("tiny", floor=0.3).run.id == 2


def test_a_run_that_can_not_go_on_stays_as_it_was(attributed, more_facts, monkeypatch):
    database = attributed()
    database.facts.ingest([more_facts])
    before = dump(database)
    right = loading.adapter_for
    with monkeypatch.context() as patched:
        patched.setattr(loading, "adapter_for", lambda config: WRONG["bert"](right(config)))
        with pytest.raises(ModelError):
            database.attribution.run("tiny")
    assert dump(database) == before


# --- dtypes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "close"), [("float64", 1e-3), ("bfloat16", 0.1)])
def test_dtypes(attributed, sql, family, dtype, close):
    database = attributed(family)
    report = database.attribution.run("tiny", dtype=dtype)
    assert (report.run.id, report.run.settings["dtype"], report.run.prompts) == (2, dtype, 80)
    assert database.query.runs()[0].settings["dtype"] == "float32"
    usual, other = (
        dict(sql(database, "SELECT prompt_id, max_score FROM prompt_result WHERE run_id = ?", run)) for run in (1, 2)
    )
    assert other.keys() == usual.keys()
    # Where a prompt's probability is nearly 1, its scores are tiny and bfloat16 has few digits of them: how few depends
    # on the processor. So the differences are held against all scores, not each against its own.
    differences = [abs(score - usual[prompt]) for prompt, score in other.items()]
    assert max(differences) < close * max(usual.values())
    assert sum(differences) < close * sum(usual.values())
    assert other != usual  # something else was computed
    if dtype == "float64":
        assert report.trust["completeness_error_max"] < 1e-2
    assert database.attribution.run("tiny", dtype=dtype).attributed == 0


@pytest.mark.parametrize(
    ("dtype", "message"),
    [
        ("tf32", "dtype='tf32' needs a CUDA device .this is cpu"),
        ("float8", "dtype must be one of float32, .*bfloat16, float16 .got 'float8'"),
        ("", "dtype must be one of .*got ''"),
    ],
)
def test_dtypes_that_are_refused(fresh, dtype, message):
    database = fresh()
    before = dump(database)
    with pytest.raises(UsageError, match=message):
        database.attribution.run("tiny", dtype=dtype, device="cpu")
    assert dump(database) == before


# --- batch sizes -----------------------------------------------------------------------------------------


def compare_batch_sizes(databases, sql, model):
    """The same refined sets, and scores that differ by less than rounding and quadrature explain."""
    refined, scores, largest = [], [], {}
    for size, database in databases.items():
        report = database.attribution.run(model, batch_size=size)
        assert report.run.prompts > 0
        scores.append(scores_of(database, sql, report.run.id))
        largest = dict(sql(database, "SELECT prompt_id, max_score FROM prompt_result WHERE max_score IS NOT NULL"))
        refined.append(sql(database, NEURONS, database.attribution.refine().id))
    first = scores[0]
    for other in scores[1:]:
        for place in first.keys() & other.keys():
            assert other[place] == pytest.approx(first[place], rel=1e-3, abs=1e-3 * largest[place[0]])
        # A score as large as the floor may be kept in one and not in the other.
        for place in first.keys() ^ other.keys():
            assert {**first, **other}[place] == pytest.approx(0.1 * largest[place[0]], rel=1e-2)
    assert refined[0]
    assert all(sets == refined[0] for sets in refined)


def test_any_batch_size_gives_the_same(fresh, sql, family):
    compare_batch_sizes({size: fresh(family) for size in (1, 3, None)}, sql, "tiny")


@pytest.mark.slow
@pytest.mark.parametrize("model", [pytest.param("lab-bert", marks=pytest.mark.long), "lab-gpt2"])
def test_any_batch_size_gives_the_same_on_lab_models(tmp_path, sql, write_facts, model):
    rows = [json.loads(line) for line in (DATA / "P37.jsonl").read_text(encoding="utf-8").splitlines()]
    templates = [row for row in rows if "template" in row]
    facts = [row for row in rows if "template" not in row][:6]
    path = write_facts(*templates, *facts)
    databases = {}
    for size in (1, 3, None):
        databases[size] = open_database(tmp_path / f"{size}.db")
        assert databases[size].facts.ingest([path]).facts_added == 6
    compare_batch_sizes(databases, sql, model)
    for database in databases.values():
        database.close()


@pytest.mark.parametrize("size", [0, -1])
def test_batch_sizes_that_are_refused(fresh, size):
    database = fresh()
    before = dump(database)
    with pytest.raises(UsageError, match="batch_size must be at least 1"):
        database.attribution.run("tiny", batch_size=size)
    assert dump(database) == before


# --- answers of several tokens ---------------------------------------------------------------------------

ANSWERS = {"France": "Paris", "Italy": "Rome Oslo", "Spain": "Lima Cairo Tokyo"}
TEMPLATES = ("[X] has a capital named [Y].", "The capital city of [X] is called [Y].", "[X] is governed from [Y].")


@pytest.fixture
def several(fresh, write_facts, family):
    """A database whose facts have answers of one to three tokens."""
    rows = [{"relation": "P36", "subject": subject, "object": answer} for subject, answer in ANSWERS.items()]
    return fresh(family, write_facts(*rows, *({"relation": "P36", "template": text} for text in TEMPLATES)))


def asked(tokenizer, family, subject, answer, template):
    """(ids, position, token) for each of an answer's tokens, by the tokenizer alone."""
    start, end = template.replace("[X]", subject).split(" [Y]")
    if family == "gpt2":
        ids = tokenizer(f"{start} {answer}")["input_ids"]
        first = len(tokenizer(start)["input_ids"])
        return [(ids[:place], place - 1, ids[place]) for place in range(first, len(ids))]
    tokens = tokenizer(answer, add_special_tokens=False)["input_ids"]
    ids = tokenizer(f"{start} {' '.join(['[MASK]'] * len(tokens))}{end}")["input_ids"]
    first = ids.index(tokenizer.mask_token_id)
    return [(ids, first + number, token) for number, token in enumerate(tokens)]


def test_answers_of_several_tokens_against_brute_force(several, sql, small_models, family):
    report = several.attribution.run("tiny", negative=True)
    assert (report.skipped, report.run.prompts, report.run.skipped) == ({}, 9, 0)
    loader = AutoModelForMaskedLM if family == "bert" else AutoModelForCausalLM
    model = tiny_models.doubled(loader.from_pretrained(small_models[family]))
    tokenizer = AutoTokenizer.from_pretrained(small_models[family])
    results = {
        (subject, text): row
        for subject, text, *row in sql(
            several,
            "SELECT subject, template.text, prompt_id, answer_tokens, probability, predicted, predicted_probability,"
            " correct, max_score, min_score FROM prompt_result JOIN prompt ON prompt.id = prompt_id"
            " JOIN fact ON fact.id = fact_id JOIN template ON template.id = template_id",
        )
    }
    scores = scores_of(several, sql, report.run.id)
    assert len(results) == 9
    for (subject, text), row in results.items():
        questions = asked(tokenizer, family, subject, ANSWERS[subject], text)
        prompt, tokens, probability, predicted, predicted_probability, correct, largest, lowest = row
        assert tokens == len(questions) == len(ANSWERS[subject].split())
        expected = torch.stack([tiny_models.brute_force(model, *one) for one in questions]).mean(0)
        single = [float(tiny_models.probability(model, *one)) for one in questions]
        assert probability == pytest.approx(math.prod(single), rel=1e-3)
        with torch.no_grad():
            rows = [model(input_ids=torch.tensor([ids])).logits[0, place].softmax(-1) for ids, place, _ in questions]
        assert predicted == tokenizer.decode([int(one.argmax()) for one in rows]).strip()
        assert predicted_probability == pytest.approx(math.prod(float(one.max()) for one in rows), rel=1e-3)
        assert bool(correct) == all(
            int(one.argmax()) == token for one, (*_, token) in zip(rows, questions, strict=True)
        )
        close = 2e-3 * float(expected.abs().max())
        assert largest == pytest.approx(float(expected.max()), abs=close)
        assert lowest == pytest.approx(float(expected.min()), abs=close)
        mine = {place[1:]: score for place, score in scores.items() if place[0] == prompt}
        for (layer, neuron), score in mine.items():
            assert score == pytest.approx(float(expected[layer, neuron]), abs=close)
        reach = (expected >= 0.1 * expected.max() + close) | (expected <= 0.1 * expected.min() - close)
        assert {tuple(place) for place in reach.nonzero().tolist()} <= mine.keys()


@METHOD_NAMES
def test_every_method_takes_answers_of_several_tokens(several, sql, method):
    report = several.attribution.run("tiny", method=method)
    assert (report.skipped, report.run.prompts) == ({}, 9)
    assert sql(several, "SELECT answer_tokens, count(*) FROM prompt_result GROUP BY 1") == [(1, 3), (2, 3), (3, 3)]
    refinement = several.attribution.refine(min_prompts=1, share=0.3)
    found = several.query.shared(["P36"], refinement=refinement.id)
    assert found
    facts = sql(several, "SELECT DISTINCT fact_id FROM knowledge_neuron WHERE refinement_id = ?", refinement.id)
    assert len(facts) == 3


def test_batch_size_one_gives_the_same_for_answers_of_several_tokens(several, sql, fresh, write_facts, family):
    several.attribution.run("tiny")
    rows = [{"relation": "P36", "subject": subject, "object": answer} for subject, answer in ANSWERS.items()]
    other = fresh(family, write_facts(*rows, *({"relation": "P36", "template": text} for text in TEMPLATES)))
    other.attribution.run("tiny", batch_size=1)
    first, second = scores_of(several, sql, 1), scores_of(other, sql, 1)
    assert second.keys() == first.keys()
    for place, score in second.items():
        assert score == pytest.approx(first[place], rel=1e-3)


def test_the_settings_are_stored_as_they_are_documented(fresh, sql):
    database = fresh()
    database.attribution.run("tiny", relations=["P36"])
    ((stored,),) = sql(database, "SELECT settings FROM run")
    assert json.loads(stored) == {
        "quadrature": "bisection",
        "steps": None,
        "tolerance": 1e-3,
        "most_evaluations": 256,
        "floor": 0.1,
        "known_only": False,
        "negative": False,
        "held_out": False,
        "target": "gold",
        "dtype": "float32",
    }
