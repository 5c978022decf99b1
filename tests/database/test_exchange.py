"""Import of results of others; export and import of the store's own, into the same content elsewhere."""

import csv
import gzip
import hashlib
import io
import json
import shutil
from pathlib import Path

import pytest

from kndb.database import open_database
from kndb.database.exchange import own as import_own
from kndb.errors import InputError, KndbError, ModelError, NotFoundError, UsageError
from kndb.store import exchange as store_exchange

SHARED = Path(__file__).parents[2] / "../shared/data"
PUBLISHED = sorted((SHARED / "published_neurons").glob("*.json.gz"))
PARAREL = SHARED / "pararel"
SIZES = {"layers": 12, "neurons": 3072}
SUFFIXES = (".csv", ".jsonl", ".parquet")

needs_published = pytest.mark.skipif(
    not (PUBLISHED and PARAREL.is_dir()), reason="no published neurons or no ParaRel beside the repository"
)

NEURONS = """
    SELECT relation.key, subject, object, layer, neuron, prompts, mean_score FROM knowledge_neuron
    JOIN fact ON fact.id = fact_id JOIN relation ON relation.id = relation_id WHERE refinement_id = ? ORDER BY 1,2,3,4,5
"""
CONTENT = {
    "run": "SELECT version, method, settings, status, created_at, finished_at FROM run",
    "refinement": "SELECT settings, created_at FROM refinement",
    "outcomes": "SELECT key, share, passes, facts, facts_with_neurons, mean_size FROM refinement_relation"
    " JOIN relation ON relation.id = relation_id",
    "neurons": "SELECT key, subject, object, layer, neuron, prompts, mean_score FROM knowledge_neuron"
    " JOIN fact ON fact.id = fact_id JOIN relation ON relation.id = relation_id",
    "sums": "SELECT key, layer, neuron, facts FROM relation_neuron JOIN relation ON relation.id = relation_id",
    "results": "SELECT key, subject, object, text, probability, predicted, predicted_probability, correct,"
    " completeness_error, completeness_error_mean, max_score, min_score, evaluations, tokens, answer_tokens, skipped"
    " FROM prompt_result JOIN prompt ON prompt.id = prompt_id JOIN fact ON fact.id = fact_id"
    " JOIN relation ON relation.id = relation_id",
    "scores": "SELECT key, subject, object, text, layer, neuron, score FROM score JOIN prompt ON prompt.id = prompt_id"
    " JOIN fact ON fact.id = fact_id JOIN relation ON relation.id = relation_id",
}
FACT_CONTENT = {
    "relations": "SELECT key, label FROM relation",
    "templates": "SELECT key, text, held_out FROM template JOIN relation ON relation.id = relation_id",
    "facts": "SELECT key, subject, object, external_id FROM fact JOIN relation ON relation.id = relation_id",
    "aliases": "SELECT fact_alias.external_id, subject, object FROM fact_alias JOIN fact ON fact.id = fact_id",
    "prompts": "SELECT subject, object, external_id, prompt.text, template.text FROM prompt"
    " JOIN fact ON fact.id = fact_id LEFT JOIN template ON template.id = template_id",
    "evaluation": "SELECT subject, object, external_id, kind, axis, text, answers, new_object, needs"
    " FROM evaluation_prompt JOIN fact ON fact.id = fact_id",
}


@pytest.fixture
def content(sql):
    """All rows of some queries, in an order that does not depend on the rows' numbers."""
    return lambda database, queries: {name: sorted(sql(database, query), key=repr) for name, query in queries.items()}


@pytest.fixture
def other(tmp_path):
    """Further databases."""
    opened = []

    def make(*facts):
        opened.append(open_database(tmp_path / f"other-{len(opened)}.db"))
        if facts:
            opened[-1].facts.ingest(facts)
        return opened[-1]

    yield make
    for database in opened:
        database.close()


@pytest.fixture
def places(other, write_facts):
    """A database with two capitals, one of which has two identifiers, and a country that two relations name alike."""
    rows = [
        {"relation": "P36", "subject": "Peru", "object": "Lima", "id": "peru"},
        {"relation": "P36", "subject": "Peru", "object": "Lima", "id": "peru-2"},
        {"relation": "P36", "subject": "Cuba", "object": "Havana", "id": "Q241"},
        {"relation": "P30", "subject": "Cuba", "object": "America", "id": "Q241"},
        {"relation": "P30", "subject": "Chad", "object": "Africa"},
        {"relation": "P36", "template": "The capital of [X] is [Y]."},
    ]
    return other(write_facts(*rows))


@pytest.fixture
def write(tmp_path):
    def writer(name, value):
        path = tmp_path / name
        path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
        return path

    return writer


def dump(database):
    with database.store.reading() as connection:
        return list(connection.connection.driver_connection.iterdump())


# --- results of others --------------------------------------------------------------------------------------


@needs_published
def test_published_neurons(other, sql, write_facts):
    published = {}
    for path in PUBLISHED:
        published.update(json.loads(gzip.decompress(path.read_bytes())))
    facts = {}
    for path in sorted((PARAREL / "trex_lms_vocab").glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            facts[record["uuid"]] = (path.stem, record["sub_label"].strip(), record["obj_label"].strip())
    names = ("relation", "subject", "object")
    # Without the templates, of which the import has no need: 130,000 prompts less.
    rows = [{**dict(zip(names, fact, strict=True)), "id": uuid} for uuid, fact in facts.items()]
    database = other(write_facts(*rows))
    expected, superseded = {}, []
    for uuid, neurons in published.items():
        if uuid in facts:
            chosen = expected.setdefault(facts[uuid], {tuple(pair) for pair in neurons})
            superseded += [uuid] if chosen != {tuple(pair) for pair in neurons} else []
    found = database.exchange.import_neurons(PUBLISHED, model_name="bert-base-uncased", **SIZES)
    assert (found.facts, found.neurons) == (len(expected), sum(map(len, expected.values())))
    assert list(found.superseded) == superseded
    assert set(found.unjoined) == published.keys() - facts.keys()
    rows = sql(database, NEURONS, found.refinement)
    assert sorted(rows) == sorted(
        (*fact, layer, neuron, None, None) for fact, neurons in expected.items() for layer, neuron in neurons
    )
    again = database.exchange.import_neurons(PUBLISHED, model_name="bert-base-uncased")
    assert (again.already_there, again.refinement) == (True, found.refinement)
    assert sql(database, "SELECT count(*) FROM knowledge_neuron") == [(found.neurons,)]
    held = [neurons for fact, neurons in expected.items() if fact[0] == "P176"]
    top = database.query.shared(["P176"], refinement=found.refinement, top=1)[0]
    assert top.facts == sum((top.layer, top.neuron) in neurons for neurons in held)
    assert database.query.runs()[0].version == "unknown"


def test_names_join_aliases_and_the_first_of_a_fact_counts(places, write, sql):
    path = write("n.json", {"nobody": [[0, 1]], "peru-2": [[0, 1], [1, 2]], "peru": [[0, 1]]})
    found = places.exchange.import_neurons([path], model_name="m", layers=2, neurons=4, settings={"threshold": 0.3})
    assert (found.facts, found.neurons, found.unjoined, found.superseded) == (1, 2, ("nobody",), ("peru",))
    (run,) = places.query.runs()
    assert (run.method, run.status, run.settings["threshold"], run.settings["source"]) == (
        "imported", "complete", 0.3, "eleutherai",
    )  # fmt: skip
    (refinement,) = places.query.refinements()
    assert refinement.settings == {"imported": True, "threshold": 0.3}
    (outcome,) = refinement.relations
    assert (outcome.share, outcome.passes, outcome.facts, outcome.mean_size) == (None, None, 1, 2.0)
    assert sql(places, "SELECT layer, neuron, facts FROM relation_neuron") == [(0, 1, 1), (1, 2, 1)]
    same = write("same.json", {"peru-2": [[0, 1]], "peru": [[0, 1]]})
    assert places.exchange.import_neurons([same], model_name="m").superseded == ()


def test_an_empty_set_counts_and_more_facts_make_a_further_refinement(places, write, write_facts):
    path = write("n.json", {"peru": [], "new": [[0, 1]]})
    first = places.exchange.import_neurons([path], model_name="m", layers=2, neurons=4)
    assert (first.facts, first.neurons) == (1, 0)
    (outcome,) = places.query.refinements()[0].relations
    assert (outcome.facts, outcome.facts_with_neurons, outcome.mean_size) == (1, 0, 0.0)
    places.facts.ingest([write_facts({"relation": "P36", "subject": "Chad", "object": "N'Djamena", "id": "new"})])
    second = places.exchange.import_neurons([path], model_name="m")
    assert (second.already_there, second.facts, second.run) == (False, 2, first.run)
    assert places.exchange.import_neurons([path], model_name="m").refinement == second.refinement


def test_an_id_of_several_facts(places, write, sql):
    with pytest.raises(InputError, match="the id 'Q241' stands for 2 facts"):
        places.exchange.import_neurons([write("n.json", {"Q241": [[0, 1]]})], model_name="m", layers=2, neurons=4)
    text = "id,relation,subject,object,layer,neuron,score,prompts\nQ241,P30,,,0,1,0.5,3\n,P30,Chad,Africa,1,1,,\n"
    found = places.exchange.import_neurons([write("n.csv", text)], model_name="m", layers=2, neurons=4)
    assert sorted(sql(places, NEURONS, found.refinement), key=repr) == [
        ("P30", "Chad", "Africa", 1, 1, None, None),
        ("P30", "Cuba", "America", 0, 1, 3, 0.5),
    ]
    (chad,) = places.facts.find(subject="Chad")
    by_number = write("m.csv", f"fact,layer,neuron\n{chad.id},0,1\n999,0,1\n")
    found = places.exchange.import_neurons([by_number], model_name="m", facts_by="number")
    assert (found.facts, found.unjoined) == (1, ("999",))


@pytest.mark.parametrize(
    ("name", "text", "options", "error"),
    [
        ("n.json", '{"nobody": [[0, 1]]}', {}, NotFoundError),
        ("n.json", "{}", {}, NotFoundError),
        ("n.json", '{"peru": [[2, 1]]}', {}, InputError),
        ("n.json", '{"peru": [[0, 1]]', {}, InputError),
        ("n.csv", "fact,layer,neuron\nperu,0,4\n", {}, InputError),
        ("n.txt", "", {}, InputError),
        ("n.json", '{"peru": [[0, 1]]}', {"layers": None}, UsageError),
        ("n.json", '{"peru": [[0, 1]]}', {"layers": 0}, UsageError),
        ("n.json", '{"peru": [[0, 1]]}', {"model_name": None}, UsageError),
        ("n.json", '{"peru": [[0, 1]]}', {"model_name": " "}, UsageError),
        ("n.json", '{"peru": [[0, 1]]}', {"facts_by": "number"}, UsageError),
        ("n.json", '{"peru": [[0, 1]]}', {"facts_by": "name"}, UsageError),
        ("n.json", '{"peru": [[0, 1]]}', {"input_format": "xml"}, UsageError),
        ("n.json", '{"peru": [[0, 1]]}', {"input_format": "kndb", "layers": None, "neurons": None}, InputError),
        ("n.json", '{"peru": [[0, 1]]}', {"settings": {"files": 1}}, UsageError),
    ],
)
def test_what_is_refused_leaves_the_store_as_it_was(places, write, name, text, options, error):
    before = dump(places)
    with pytest.raises(error):
        places.exchange.import_neurons([write(name, text)], **{"model_name": "m", "layers": 2, "neurons": 4, **options})
    assert dump(places) == before


def test_a_registered_model_of_another_size(fresh, write):
    database = fresh()
    path = write("n.json", {"P36-Peru": [[0, 1]]})
    with pytest.raises(ModelError, match="2 layers of 64 neurons"):
        database.exchange.import_neurons([path], model_name="tiny", layers=12, neurons=3072)
    found = database.exchange.import_neurons([path], model_name="tiny")
    assert database.query.runs()[0].version == database.models.get("tiny").version
    assert database.exchange.import_neurons([path], model_name="tiny").refinement == found.refinement


def test_a_checkpoint_may_come_later(other, small_facts, small_models, write):
    database = other(small_facts)
    path = write("n.json", {"P36-Peru": [[0, 1]]})
    found = database.exchange.import_neurons([path], model_name="tiny", layers=2, neurons=64)
    model = database.models.add(str(small_models["bert"]), "tiny")
    assert model.has_checkpoint
    assert [run.version for run in database.query.runs()] == ["unknown"]
    again = database.exchange.import_neurons([path], model_name="tiny")
    assert (again.already_there, again.run, again.refinement) == (True, found.run, found.refinement)


def test_a_failure_in_the_middle(places, write, monkeypatch):
    def fail(*arguments, **options):
        raise RuntimeError("pulled the plug")

    before = dump(places)
    monkeypatch.setattr(store_exchange, "store_sets", fail)
    with pytest.raises(RuntimeError):
        places.exchange.import_neurons([write("n.json", {"peru": []})], model_name="m", layers=2, neurons=4)
    assert dump(places) == before


# --- the store's own ----------------------------------------------------------------------------------------


def same_tables(first, second, suffix):
    """Whether two files hold the same rows in the same order, but for the stores' own numbers of facts."""
    one, other = ([{**row, "fact": None} for row in rows_of(path, suffix)] for path in (first, second))
    return one == other


def rows_of(path, suffix):
    text = "" if suffix == ".parquet" else path.read_text(encoding="utf-8")
    if suffix == ".csv":
        return list(csv.DictReader(io.StringIO(text)))
    if suffix == ".jsonl":
        return [json.loads(line) for line in text.splitlines()]
    from pyarrow.parquet import read_table

    return read_table(path).to_pylist()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_exports_carry_the_numbers_of_facts_and_the_names_of_neurons(attributed, tmp_path, suffix):
    source = attributed("bert")
    source.attribution.refine()
    paths = {kind: tmp_path / f"{kind}{suffix}" for kind in ("neurons", "scores", "facts")}
    for kind, path in paths.items():
        getattr(source.exchange, f"export_{kind}")(path)
    numbers = {(fact.relation, fact.subject, fact.object): fact.id for fact in source.facts.find()}
    for path in paths.values():
        rows = [row for row in rows_of(path, suffix) if row.get("object")]
        assert rows
        for row in rows:
            assert int(row["fact"]) == numbers[row["relation"], row["subject"], row["object"]]
    for row in rows_of(paths["neurons"], suffix):
        assert row["name"] == f"L{row['layer']}.N{row['neuron']}"


def test_files_of_earlier_kndbs_are_read(attributed, fresh, tmp_path, content):
    """They have neither the numbers of facts nor the names of neurons; none of these is read."""
    source, path = attributed("bert"), tmp_path / "old.jsonl"
    source.attribution.refine()
    source.exchange.export_neurons(path)
    rows = [{name: row[name] for name in row if name not in ("fact", "name")} for row in rows_of(path, ".jsonl")]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    beside = next(tmp_path.glob("old*.json"))
    about = json.loads(beside.read_text(encoding="utf-8"))
    about["data"]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    beside.write_text(json.dumps(about), encoding="utf-8")
    target = fresh()
    target.exchange.import_neurons([path])
    kept = {name: CONTENT[name] for name in ("refinement", "outcomes", "neurons")}
    assert content(target, kept) == content(source, kept)


def test_a_neuron_file_without_its_description_names_facts_by_their_identifiers(attributed, fresh, tmp_path, content):
    """Its column `fact` has the numbers of another store."""
    source, path = attributed("bert"), tmp_path / "n.csv"
    source.attribution.refine()
    source.exchange.export_neurons(path)
    for beside in tmp_path.glob("n*.json"):
        beside.unlink()
    target = fresh()
    target.exchange.import_neurons([path], input_format="csv", model_name="theirs", layers=12, neurons=3072)
    assert content(target, {"neurons": CONTENT["neurons"]}) == content(source, {"neurons": CONTENT["neurons"]})


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("registered", [True, False], ids=["registered", "imported"])
def test_there_and_back(attributed, fresh, other, small_facts, tmp_path, content, suffix, registered):
    source = attributed("bert")
    source.attribution.refine()
    neurons, scores = tmp_path / f"n{suffix}", tmp_path / f"s{suffix}"
    source.exchange.export_neurons(neurons)
    source.exchange.export_scores(scores)
    target = fresh() if registered else other(small_facts)
    first = target.exchange.import_neurons([neurons])
    second = target.exchange.import_scores(scores)
    assert (first.run, first.model, second.run) == (second.run, "tiny", first.run)
    assert (first.unjoined, second.unjoined, second.missing_prompts) == ((), (), ())
    assert content(target, CONTENT) == content(source, CONTENT)
    assert target.models.get("tiny").has_checkpoint is registered
    if registered:
        assert target.models.get("tiny").fingerprint == source.models.get("tiny").fingerprint
    for suffix_path, export in ((neurons, target.exchange.export_neurons), (scores, target.exchange.export_scores)):
        again = tmp_path / f"again-{suffix_path.name}"
        export(again)
        assert same_tables(suffix_path, again, suffix)
    before = dump(target)
    assert target.exchange.import_neurons([neurons]).already_there
    assert target.exchange.import_scores(scores).already_there
    assert dump(target) == before
    # What was imported can be refined like what was attributed here.
    assert target.attribution.refine().relations == source.query.refinements()[-1].relations


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_imported_sets_there_and_back(places, other, write, tmp_path, content, suffix):
    places.exchange.import_neurons(
        [write("n.json", {"peru": [[0, 1], [1, 3]], "nobody": []})], model_name="m", layers=2, neurons=4
    )
    facts, neurons = tmp_path / f"f{suffix}", tmp_path / f"n{suffix}"
    places.exchange.export_facts(facts)
    places.exchange.export_neurons(neurons)
    target = other()
    target.exchange.import_facts([facts])
    target.exchange.import_neurons([neurons])
    assert content(target, CONTENT | FACT_CONTENT) == content(places, CONTENT | FACT_CONTENT)
    target.exchange.export_neurons(tmp_path / f"n2{suffix}")
    target.exchange.export_facts(tmp_path / f"f2{suffix}")
    assert same_tables(neurons, tmp_path / f"n2{suffix}", suffix)
    assert same_tables(facts, tmp_path / f"f2{suffix}", suffix)


def test_the_table_of_neurons(attributed, tmp_path, sql):
    database = attributed("bert")
    database.attribution.refine()
    written = database.exchange.export_neurons(tmp_path / "n.csv", relations=["P37"])
    with (tmp_path / "n.csv").open(encoding="utf-8", newline="") as file:
        found = [
            (r["relation"], r["subject"], r["object"], int(r["layer"]), int(r["neuron"]), int(r["prompts"]),
             float(r["mean_score"]))
            for r in csv.DictReader(file)
        ]  # fmt: skip
    assert found == [row for row in sql(database, NEURONS, 1) if row[0] == "P37"]
    description = json.loads((tmp_path / "n.csv.meta.json").read_text(encoding="utf-8"))
    assert written.rows == description["data"]["rows"] == len(found)
    assert description["model"]["fingerprint"] == database.models.get("tiny").fingerprint
    (outcome,) = description["refinement"]["relations"]
    assert outcome["facts"] == outcome["facts_with_neurons"] + outcome["facts_without_neurons"] == 8


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_facts_there_and_back(other, write, write_facts, tmp_path, content, suffix, small_facts):
    bags = [[["Rome is the capital of [MASK].", "Italy", "P1376(capital of)"],
             ["[MASK]'s capital, \"Rome\".", "Italy", "P1376(capital of)"]]]  # fmt: skip
    rewrite = {"prompt": "The mother tongue of {} is", "relation_id": "P103", "subject": "Danielle Darrieux"}
    rewrite |= {"target_true": {"str": "French", "id": "Q150"}, "target_new": {"str": "English", "id": "Q1860"}}
    counterfact = [{"case_id": 0, "requested_rewrite": rewrite, "paraphrase_prompts": ["Darrieux, she spoke"]}]
    counterfact[0] |= {"neighborhood_prompts": ['Léon "B" spoke'], "generation_prompts": ["Her tongue"]}
    hop = {"prompt": "{} is in", "relation_id": "P17", "subject": "Uppsala"}
    edits = [{**one, "target_true": {"str": "a"}, "target_new": {"str": "b"}} for one in (hop, rewrite)]
    mquake = [{"case_id": 1, "requested_rewrite": edits, "questions": ["Where, then?"], "new_answer": "there"}]
    aliases = [
        {"relation": "P36", "subject": "Korea, South", "object": 'S"eoul', "id": name} for name in (None, "b", "a")
    ]
    sources = [
        write("bags.json", bags),
        write("cf.json", counterfact),
        write("mquake.json", mquake),
        small_facts,
        write_facts(*aliases),
    ]
    source = other(*sources)
    path = tmp_path / f"facts{suffix}"
    source.exchange.export_facts(path)
    targets = [other(), other()]
    targets[0].exchange.import_facts([path])
    if suffix != ".parquet":
        targets[1].facts.ingest([path])
    else:
        targets[1].exchange.import_facts([path], relations=[one.key for one in source.facts.relations()])
    for target in targets:
        assert content(target, FACT_CONTENT) == content(source, FACT_CONTENT)
        target.exchange.export_facts(tmp_path / f"again{suffix}", force=True)
        assert same_tables(path, tmp_path / f"again{suffix}", suffix)


def test_a_store_that_lacks_facts_and_prompts(attributed, other, small_facts, tmp_path, write, sql):
    source = attributed("bert")
    source.attribution.refine()
    source.exchange.export_neurons(tmp_path / "n.jsonl")
    source.exchange.export_scores(tmp_path / "s.jsonl")
    lines = [json.loads(line) for line in small_facts.read_text(encoding="utf-8").splitlines()]
    kept = [row for row in lines if row["relation"] == "P36" and row.get("subject") != "Peru"]
    dropped = next(row["template"] for row in kept if "template" in row)
    kept = [row for row in kept if row.get("template") != dropped]
    target = other(write("less.jsonl", "".join(json.dumps(row) + "\n" for row in kept)))
    found = target.exchange.import_neurons([tmp_path / "n.jsonl"])
    with_sets = {row[:3] for row in sql(source, NEURONS, 1)}
    assert len(found.unjoined) == sum(row[0] == "P37" or row[1] == "Peru" for row in with_sets)
    expected = [row for row in sql(source, NEURONS, 1) if row[0] == "P36" and row[1] != "Peru"]
    assert sql(target, NEURONS, found.refinement) == expected
    (outcome,) = target.query.refinements()[0].relations
    assert (outcome.facts, outcome.mean_size) == (7, len(expected) / 7)
    scores = target.exchange.import_scores(tmp_path / "s.jsonl")
    assert (scores.prompts, len(scores.missing_prompts), len(scores.unjoined)) == (7 * 4, 7, 9)
    empty = other(write("others.jsonl", json.dumps({"relation": "P1", "subject": "a", "object": "b"})))
    before = dump(empty)
    for run in (lambda: empty.exchange.import_neurons([tmp_path / "n.jsonl"]),
                lambda: empty.exchange.import_scores(tmp_path / "s.jsonl")):  # fmt: skip
        with pytest.raises(NotFoundError, match=r"db\.facts\.ingest"):
            run()
        assert dump(empty) == before


def test_another_checkpoint_is_refused(attributed, fresh, tmp_path):
    source = attributed("bert")
    source.attribution.refine()
    source.exchange.export_neurons(tmp_path / "n.csv")
    target = fresh("gpt2")
    before = dump(target)
    with pytest.raises(ModelError, match="under a model_name of their own"):
        target.exchange.import_neurons([tmp_path / "n.csv"])
    assert dump(target) == before
    assert target.exchange.import_neurons([tmp_path / "n.csv"], model_name="tiny-bert").model == "tiny-bert"


def test_a_changed_file_and_a_changed_description(attributed, other, small_facts, tmp_path, sql):
    source = attributed("bert")
    source.attribution.refine()
    path, beside = tmp_path / "n.csv", tmp_path / "n.csv.meta.json"
    source.exchange.export_neurons(path)
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[:-1]), encoding="utf-8")
    target = other(small_facts)
    with pytest.raises(InputError, match="input_format='csv'"):
        target.exchange.import_neurons([path])
    found = target.exchange.import_neurons([path], input_format="csv", model_name="m", layers=2, neurons=64)
    assert sql(target, NEURONS, found.refinement) == sql(source, NEURONS, 1)[:-1]
    path.write_text("".join(lines), encoding="utf-8")
    document = json.loads(beside.read_text(encoding="utf-8"))
    before = dump(target)
    for part, name, value in (("kndb", "format", 3), ("kndb", "kind", "scores"), ("run", "status", "x"),
                              ("run", "method", None), ("model", "layers", "2")):  # fmt: skip
        changed = {**document, part: {**document[part], name: value}}
        beside.write_text(json.dumps(changed), encoding="utf-8")
        with pytest.raises(InputError, match=r"n\.csv\.meta\.json"):
            target.exchange.import_neurons([path])
    beside.write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="it is not JSON"):
        target.exchange.import_neurons([path])
    with pytest.raises(UsageError, match="is imported by itself"):
        target.exchange.import_neurons([path, path])
    with pytest.raises(UsageError, match="leave out layers"):
        target.exchange.import_neurons([path], layers=2)
    assert dump(target) == before


def test_results_that_the_run_has_stay(attributed, tmp_path, content, sql):
    database = attributed("bert")
    database.exchange.export_scores(tmp_path / "s.csv")
    whole = content(database, CONTENT)
    sql(database, "DELETE FROM score WHERE prompt_id % 2 RETURNING 1")
    sql(database, "DELETE FROM prompt_result WHERE prompt_id % 2 RETURNING 1")
    sql(database, "UPDATE prompt_result SET probability = 0.125 RETURNING 1")
    found = database.exchange.import_scores(tmp_path / "s.csv")
    assert found.prompts + found.present == len(whole["results"])
    assert sql(database, "SELECT count(*) FROM prompt_result WHERE probability = 0.125") == [(found.present,)]
    after = content(database, CONTENT)
    assert (after["scores"], after["run"]) == (whole["scores"], whole["run"])


def test_a_failure_in_the_middle_of_scores(attributed, other, small_facts, tmp_path, monkeypatch):
    source = attributed("bert")
    source.exchange.export_scores(tmp_path / "s.csv")
    target = other(small_facts)
    before = dump(target)
    monkeypatch.setattr(import_own, "_BATCH", 7)
    calls = []

    def fail(done, total):
        calls.append(done)
        if len(calls) == 3:
            raise RuntimeError("pulled the plug")

    with pytest.raises(RuntimeError):
        target.exchange.import_scores(tmp_path / "s.csv", progress=fail)
    assert dump(target) == before
    assert target.exchange.import_scores(tmp_path / "s.csv").prompts == 80


def test_exports_are_whole_or_not_there(attributed, tmp_path):
    database = attributed("bert")
    folder = tmp_path / "out"
    folder.mkdir()

    def fail(done, total):
        raise RuntimeError("pulled the plug")

    with pytest.raises(RuntimeError):
        database.exchange.export_scores(folder / "s.csv", progress=fail)
    assert list(folder.iterdir()) == []
    database.exchange.export_scores(folder / "s.csv")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for options in ({}, {"progress": fail, "force": True}):
        with pytest.raises((UsageError, RuntimeError)):
            database.exchange.export_scores(folder / "s.csv", relations=["P36"], **options)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert database.exchange.export_scores(folder / "s.csv", relations=["P36"], force=True).rows == 40


def test_what_can_not_be_exported(attributed, other, places, tmp_path):
    database = attributed("bert")
    refused = [
        (UsageError, lambda: database.exchange.export_facts(tmp_path / "f.xlsx")),
        (UsageError, lambda: database.exchange.export_facts(tmp_path / "none" / "f.csv")),
        (NotFoundError, lambda: database.exchange.export_facts(tmp_path / "f.csv", relations=["P9"])),
        (NotFoundError, lambda: database.exchange.export_neurons(tmp_path / "n.csv")),
        (NotFoundError, lambda: database.exchange.export_neurons(tmp_path / "n.csv", refinement=7)),
        (NotFoundError, lambda: database.exchange.export_neurons(tmp_path / "n.csv", run=1)),
        (UsageError, lambda: database.exchange.export_neurons(tmp_path / "n.csv", run=1, refinement=1)),
        (NotFoundError, lambda: database.exchange.export_scores(tmp_path / "s.csv", run=7)),
        (NotFoundError, lambda: database.exchange.export_scores(tmp_path / "s.csv", model="none")),
        (NotFoundError, lambda: places.exchange.export_scores(tmp_path / "s.csv")),
        (NotFoundError, lambda: other().exchange.export_facts(tmp_path / "f.csv")),
    ]
    before = sorted(tmp_path.iterdir())
    for error, run in refused:
        with pytest.raises(error) as found:
            run()
        assert isinstance(found.value, KndbError)
    assert [path for path in sorted(tmp_path.iterdir()) if path.suffix in (".csv", ".json")] == [
        path for path in before if path.suffix in (".csv", ".json")
    ]


def test_exports_of_another_model_than_the_one_named(attributed, tmp_path, write):
    database = attributed("bert")
    exchange, own = database.exchange, database.query.runs()[0].model
    file = write("n.csv", "fact,layer,neuron\n1,0,1\n")
    given = exchange.import_neurons([file], model_name="theirs", layers=2, neurons=4, facts_by="number")
    for chosen in ({"run": 1}, {"run": given.run, "model": own}, {"refinement": given.refinement, "model": own}):
        with pytest.raises(UsageError, match=r"is of model .*, not "):
            exchange.export_neurons(tmp_path / "out.csv", **{"model": "theirs", **chosen})
    with pytest.raises(UsageError, match=r"run=1 is of model .*, not 'theirs'"):
        exchange.export_scores(tmp_path / "out.csv", run=1, model="theirs")
    assert exchange.export_neurons(tmp_path / "out.csv", run=given.run, model="theirs").rows == 1


def test_facts_that_are_refused(other, tmp_path, write):
    database = other(write("a.jsonl", json.dumps({"relation": "P1", "subject": "a", "object": "b"})))
    path = tmp_path / "f.csv"
    database.exchange.export_facts(path)
    path.write_text(path.read_text(encoding="utf-8") + "P1,,c,d,,,,,,\n", encoding="utf-8")
    before = dump(database)
    with pytest.raises(InputError, match=r"db\.facts\.ingest"):
        database.exchange.import_facts([path])
    with pytest.raises(InputError, match="a folder, and only files"):
        database.exchange.import_facts([tmp_path])
    assert dump(database) == before
    shutil.move(tmp_path / "f.csv.meta.json", tmp_path / "away")
    assert database.exchange.import_facts([path]).facts_added == 1
