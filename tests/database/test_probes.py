"""Experiments on small models that know their facts, against plain Python over the stored rows."""

import json
import random
from collections import defaultdict
from statistics import fmean

import pytest
import torch
from transformers import AutoModelForMaskedLM

from kndb.database.probes.texts import join, place_blank
from kndb.errors import AttributionError, InputError, NotFoundError, UsageError
from kndb.facts.texts import FactName, NamedText, TextFile
from kndb.store.fact_index import FactIndex, StoredFact

TABLES = ("probe", "probe_fact", "probe_activation", "probe_text")


@pytest.fixture(scope="module")
def database(small_facts, small_models, tmp_path_factory):
    """Facts, a model `tiny` of each family (`tiny` and `causal`), each refined; `tiny` has the baseline too."""
    from kndb.database import open_database

    with open_database(tmp_path_factory.mktemp("probes") / "kndb.db") as opened:
        opened.facts.ingest([small_facts])
        for name, family in (("tiny", "bert"), ("causal", "gpt2")):
            opened.models.add(str(small_models[family]), name)
            opened.attribution.run(name)
            opened.attribution.refine(model=name)
        run = opened.attribution.run("tiny", method="activation").run
        opened.attribution.refine(run.id)
        yield opened


@pytest.fixture(scope="module")
def suppressed(database):
    return database.probes.scale("suppress", "tiny", others=6)


def by_arm(rows):
    return {(row.neurons_from, row.prompts_of): row for row in rows if row.relation is None}


def rows_of(database, sql):
    return {table: sql(database, f"SELECT * FROM {table} ORDER BY 1, 2") for table in TABLES}


def test_knowledge_neurons_matter_more_than_random_ones(database, suppressed):
    found = by_arm(database.probes.summary(suppressed.id))
    assert set(found) == {(arm, of) for arm in ("knowledge", "random", "activation") for of in ("own", "other")}
    own, other, chance = found["knowledge", "own"], found["knowledge", "other"], found["random", "own"]
    assert own.change < -0.05
    assert own.change < 3 * chance.change
    assert own.change < other.change
    assert own.neurons == chance.neurons
    amplified = database.probes.scale("amplify", "tiny", others=0)
    assert {row.prompts_of for row in database.probes.facts(amplified.id)} == {"own"}
    assert by_arm(database.probes.summary(amplified.id))["knowledge", "own"].change > own.change
    wild = database.probes.scale("amplify", "tiny", others=0, factor=40.0)
    own = by_arm(database.probes.summary(wild.id))["knowledge", "own"]
    assert own.correct_before > 0.9 > own.correct_after
    assert own.flips >= own.correct_before - own.correct_after > 0


def test_the_summary_is_what_plain_python_makes_of_the_rows(database, suppressed, sql):
    relation_of = dict(sql(database, "SELECT fact.id, key FROM fact JOIN relation ON relation.id = relation_id"))
    columns = ("arm", "of", "neurons", "prompts", "before", "after", "correct_before", "correct_after", "flips")
    groups = defaultdict(list)
    for _, fact, *row in sql(database, "SELECT * FROM probe_fact WHERE probe_id = ?", suppressed.id):
        record = dict(zip(columns, row, strict=True))
        groups[relation_of[fact], record["arm"], record["of"]] += [record] * record["prompts"]
    expected = {}
    for key, prompts in groups.items():
        means = {name: fmean(prompt[name] for prompt in prompts) for name in columns[4:]}
        expected[key] = {**means, "change": (means["after"] - means["before"]) / means["before"]}
    for row in database.probes.summary(suppressed.id):
        values = [
            value
            for (relation, *arm), value in expected.items()
            if row.relation in (None, relation) and arm == [row.neurons_from, row.prompts_of]
        ]
        assert len(values) == (1 if row.relation else 2)
        wanted = {name: fmean(value[name] for value in values) for name in values[0]}
        assert row.probability_before == pytest.approx(wanted["before"])
        assert row.probability_after == pytest.approx(wanted["after"])
        assert row.change == pytest.approx(wanted["change"])
        assert (row.correct_before, row.correct_after) == pytest.approx(
            (wanted["correct_before"], wanted["correct_after"])
        )
        assert row.flips == pytest.approx(wanted["flips"])
    assert [row.relation for row in database.probes.summary(suppressed.id, ["P36"])] == ["P36"] * 6 + [None] * 6


def test_own_rows_are_what_transformers_gives_prompt_by_prompt(database, suppressed, small_models, sql):
    """Independently: one prompt at a time, the neurons silenced where they come out of the activation function."""
    model = AutoModelForMaskedLM.from_pretrained(small_models["bert"]).eval()
    tokenizer = database.models.load("tiny").tokenizer
    row = next(row for row in database.probes.facts(suppressed.id) if row.neurons_from == "knowledge")
    held = sql(
        database,
        "SELECT layer, neuron FROM knowledge_neuron WHERE refinement_id = ? AND fact_id = ?",
        suppressed.refinement,
        row.fact_id,
    )
    prompts = sql(
        database,
        "SELECT prompt.text FROM prompt JOIN template ON template.id = template_id WHERE fact_id = ? AND NOT held_out",
        row.fact_id,
    )
    answer = tokenizer.convert_tokens_to_ids(database.facts.get(row.fact_id).object)
    after = []
    for (text,) in prompts:
        ids = tokenizer(text.replace("[Y]", tokenizer.mask_token), return_tensors="pt")["input_ids"]
        position = int((ids[0] == tokenizer.mask_token_id).nonzero())

        def silence(layer, position=position):
            def hook(_module, _inputs, output):
                factors = torch.ones_like(output)
                for neuron in (neuron for other, neuron in held if other == layer):
                    factors[0, position, neuron] = 0.0
                return output * factors

            return hook

        handles = [
            block.intermediate.register_forward_hook(silence(number))
            for number, block in enumerate(model.bert.encoder.layer)
        ]
        with torch.no_grad():
            after.append(float(model(input_ids=ids).logits[0, position].softmax(-1)[answer]))
        for handle in handles:
            handle.remove()
    assert row.prompts == len(prompts) == 5
    assert row.neurons == len(held)
    assert row.probability_after == pytest.approx(fmean(after), rel=1e-4)


def test_a_seed_gives_the_same_numbers_again(database, suppressed):
    def plain(probe):
        return database.probes.facts(probe.id)

    again = database.probes.scale("suppress", "tiny", others=6)
    other = database.probes.scale("suppress", "tiny", others=6, seed=1)
    assert plain(again) == plain(suppressed)
    assert again.id != suppressed.id
    changed = {(row.neurons_from, row.prompts_of) for row in set(plain(other)) - set(plain(again))}
    assert ("random", "own") in changed
    assert ("knowledge", "other") in changed
    assert not changed & {("knowledge", "own"), ("activation", "own")}
    few = database.probes.scale("suppress", "tiny", others=6, facts=2, relations=["P37"])
    assert len({row.fact_id for row in plain(few)}) == 2
    assert {row.relation for row in plain(few)} == {"P37"}
    # What a fact's rows are does not depend on which other facts are probed.
    wanted = {row.fact_id for row in plain(few)}
    for one, all_ in zip(plain(few), [row for row in plain(again) if row.fact_id in wanted], strict=True):
        assert one.probability_after == pytest.approx(all_.probability_after, rel=1e-4)


def test_settings_tell_how_it_was_made(database, suppressed):
    settings = suppressed.settings
    names = ("kind", "factor", "refinement", "baseline", "others", "seed", "facts", "relations", "dtype")
    assert [settings[name] for name in names] == ["suppress", 0.0, 1, 3, 6, 0, None, [], "float32"]
    assert settings["version"] == settings["refinement_version"] == suppressed.version


def test_without_a_baseline_that_arm_is_left_out(database):
    probe = database.probes.scale("suppress", "causal", others=1)
    assert probe.settings["baseline"] is None
    assert {row.neurons_from for row in database.probes.facts(probe.id)} == {"knowledge", "random"}
    with pytest.raises(UsageError, match=r"baseline=.* is by integrated-gradients, not by activation"):
        database.probes.scale("suppress", "causal", baseline=probe.refinement, others=1)


def test_the_same_set_in_two_arms_does_the_same(database):
    named = database.probes.scale("suppress", "tiny", refinement=3, baseline=3, others=1)
    arms = defaultdict(dict)
    for row in database.probes.facts(named.id):
        arms[row.fact_id, row.prompts_of][row.neurons_from] = row.probability_after
    assert all(one["activation"] == pytest.approx(one["knowledge"], rel=1e-4) for one in arms.values())


class Stopped(BaseException):
    """What Ctrl-C raises is no Exception either."""


@pytest.mark.parametrize("error", [Stopped, AttributionError])
def test_nothing_is_stored_of_what_does_not_finish(database, sql, monkeypatch, tmp_path, error):
    before = rows_of(database, sql)

    def stop(done, total):
        with database.store.writing():  # The store is free while the model computes.
            pass
        raise error

    with pytest.raises(error):
        database.probes.scale("suppress", "tiny", progress=stop)
    texts = tmp_path / "texts.jsonl"
    texts.write_text('{"fact": 1, "kind": "neither", "text": "To live in Rome."}\n', encoding="utf-8")
    with pytest.raises(error):
        database.probes.activation("tiny", [texts], progress=stop)
    monkeypatch.setattr(database.store, "writing", _raising_at_its_end(database.store.writing, error))
    with pytest.raises(error):
        database.probes.scale("suppress", "tiny", others=0, facts=1)
    monkeypatch.undo()
    assert rows_of(database, sql) == before


def _raising_at_its_end(writing, error):
    from contextlib import contextmanager

    @contextmanager
    def failing():
        with writing() as connection:
            yield connection
            raise error

    return failing


def test_numbers_and_names_that_there_are_not(database, suppressed):
    probes = database.probes
    with pytest.raises(NotFoundError, match="no probe 999; the nearest are"):
        probes.get(999)
    with pytest.raises(NotFoundError, match="no refinement 99"):
        probes.scale("suppress", "tiny", refinement=99)
    with pytest.raises(UsageError, match="is of model 'causal', not 'tiny'"):
        probes.scale("suppress", "tiny", refinement=2)
    with pytest.raises(NotFoundError, match="no relation 'P99'"):
        probes.scale("suppress", "tiny", relations=["P99"])
    with pytest.raises(NotFoundError):
        probes.facts(suppressed.id, ["P99"])
    assert probes.latest("suppress", "tiny") is not None
    assert probes.latest("activation", "causal") is None
    assert {probe.model for probe in probes.all("tiny")} == {"tiny"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "activation"}, "kind must be one of suppress, amplify"),
        ({"factor": 1.0}, "factor must be from 0, below 1, to suppress .got 1"),
        ({"kind": "amplify", "factor": 1.0}, "factor must be above 1 to amplify .got 1"),
        ({"kind": "amplify", "factor": float("nan")}, "factor must be above 1 to amplify .got nan"),
        ({"others": -1}, "others must be at least 0 .got -1"),
        ({"facts": 0}, "facts must be at least 1 .got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1 .got 0"),
        ({"seed": -1}, "seed must be from 0 .*got -1"),
        ({"dtype": "int8"}, "dtype must be one of .*got 'int8'"),
    ],
)
def test_settings_that_make_no_sense(database, settings, message):
    with pytest.raises(UsageError, match=message):
        database.probes.scale(**{"kind": "suppress", "model": "tiny", **settings})


def test_a_baseline_is_taken_for_want_of_better_and_said_to_be_one(fresh, caplog):
    database = fresh("bert")
    with pytest.raises(NotFoundError, match="no refinement of model 'tiny' yet"):
        database.probes.scale("suppress", "tiny")
    run = database.attribution.run("tiny", method="activation", relations=["P36"]).run
    database.attribution.refine(run.id)
    assert database.probes.scale("suppress", "tiny", facts=1, others=1).settings["refinement_method"] == "activation"
    assert "its scores are by activation" in caplog.text
    with pytest.raises(AttributionError, match="no fact of P37 has knowledge neurons"):
        database.probes.scale("suppress", "tiny", refinement=1, relations=["P37"])


# --- activations over texts ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bags(database, tmp_path_factory):
    """The paper's files for P36: two known facts and one that the store lacks."""
    folder = tmp_path_factory.mktemp("bags")
    pairs = [["France", "Paris"], ["Italy", "Rome"], ["Chad", "N'Djamena"]]
    (folder / "query_pairs.json").write_text(json.dumps({"P36": pairs}), encoding="utf-8")
    entries = [
        {
            "th_bags": [f"The capital city of {head} is called {tail}.", f"{tail} is in {head}.", f"{head} rests."],
            "h_bags": [f"The people of {head} mostly speak.", f"In {head}, the official language is."],
        }
        for head, tail in pairs
    ]
    path = folder / "final_distant_allbags_P36_new.json"
    path.write_text(json.dumps(entries), encoding="utf-8")
    return path


@pytest.mark.parametrize("model", ["tiny", "causal"])
def test_activations_over_the_papers_bags(database, bags, model):
    probe = database.probes.activation(model, [bags], keep=2)
    assert probe.settings["facts_unknown"] == 1
    # "Paris is in France." gives a causal model nothing to read before its blank.
    assert probe.settings["texts_skipped"]["tail-not-found"] == (2 if model == "tiny" else 4)
    rows = database.probes.activations(probe.id)
    assert {(row.kind, row.texts) for row in rows if row.kind != "neither"} == {
        ("head-and-tail", 2 if model == "tiny" else 1),
        ("head", 2),
    }
    for fact in {row.fact_id for row in rows}:
        record = database.facts.get(fact)
        texts = database.probes.texts(probe.id, fact)
        assert [text.rank for text in texts] == [1, 2, -1, -2]
        values = {text.rank: text.activation for text in texts}
        assert values[1] >= values[2] >= values[-2] >= values[-1]
        for text in texts:
            assert text.text.count("[Y]") == 1
            assert (record.subject in text.text) == (text.kind != "neither")
            assert record.object not in text.text
    overall = {row.kind: row for row in database.probes.activation_summary(probe.id) if row.relation is None}
    for kind, row in overall.items():
        assert row.mean_activation == pytest.approx(fmean(one.mean_activation for one in rows if one.kind == kind))
    again = database.probes.activation(model, [bags], keep=2)
    assert database.probes.texts(again.id) == database.probes.texts(probe.id)
    assert database.probes.latest("activation", model) == again


def test_a_mean_activation_is_what_the_attribution_of_activations_says(database, tmp_path, sql):
    """The method `activation` stores w̄ itself: here is the mean of those of a fact's neurons for its own prompts."""
    run = database.attribution.run("tiny", method="activation", floor=0.0, negative=True).run
    path = tmp_path / "texts.jsonl"
    prompts = sql(
        database,
        "SELECT fact_id, prompt.id, prompt.text FROM prompt JOIN template ON template.id = template_id"
        " WHERE NOT held_out AND fact_id IN (SELECT fact_id FROM knowledge_neuron WHERE refinement_id = 1)",
    )
    rows = [{"fact": fact, "kind": "head", "text": text} for fact, _, text in prompts]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    probe = database.probes.activation("tiny", [path], refinement=1)
    scores = {
        (prompt, layer, neuron): score
        for prompt, layer, neuron, score in sql(
            database, "SELECT prompt_id, layer, neuron, score FROM score WHERE run_id = ?", run.id
        )
    }
    held = defaultdict(list)
    for fact, layer, neuron in sql(
        database, "SELECT fact_id, layer, neuron FROM knowledge_neuron WHERE refinement_id = 1"
    ):
        held[fact].append((layer, neuron))
    for row in database.probes.activations(probe.id):
        own = [prompt for fact, prompt, _ in prompts if fact == row.fact_id]
        values = [scores.get((prompt, *neuron), 0.0) for prompt in own for neuron in held[row.fact_id]]
        assert row.mean_activation == pytest.approx(fmean(values), rel=1e-4, abs=1e-6)


def test_texts_of_no_fact_of_the_store(database, tmp_path):
    path = tmp_path / "texts.jsonl"
    path.write_text('{"fact": "nobody", "kind": "head", "text": "x y"}\n', encoding="utf-8")
    with pytest.raises(InputError, match="none of its 1 facts is in the store"):
        database.probes.activation("tiny", [path])


FACT = StoredFact(1, 1, "P36", "New York", "York")


@pytest.mark.parametrize(
    ("kind", "text", "first", "expected"),
    [
        ("head-and-tail", "New York is not York.", True, {"New York is not [Y]."}),
        ("head-and-tail", "York, Yorkshire: York", True, {"[Y], Yorkshire: York"}),
        ("head-and-tail", "York, Yorkshire: York", False, {"York, Yorkshire: [Y]"}),
        ("head-and-tail", "New York in Yorkshire", True, {None}),
        ("head-and-tail", "York [Y] York", True, {"York [Y] York"}),
        ("head", "New York is big", True, {"New York [Y] big", "New York is [Y]"}),
        ("head", "so New York", True, {"[Y] New York"}),
        ("head", "so New York", False, {None}),
        ("neither", "a-b c", True, {"[Y] c", "a-b [Y]"}),
        ("neither", "...", True, {None}),
    ],
)
def test_which_word_is_left_out(kind, text, first, expected):
    named = NamedText(FactName(number=1), kind, text)
    assert {place_blank(named, FACT, random.Random(seed), first=first) for seed in range(20)} == expected


def test_an_external_id_of_two_facts_is_refused():
    index = FactIndex([(FACT, None), (StoredFact(2, 1, "P36", "Y", "Z"), "id")], [("id", 1)])
    file = TextFile("x", (NamedText(FactName(external_id="id"), "head", "x"),))
    with pytest.raises(InputError, match="facts 1, 2 share"):
        join([file], index, 0)
