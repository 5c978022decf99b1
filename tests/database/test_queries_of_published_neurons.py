"""The published neurons of BERT (EleutherAI's replication of the paper) on ParaRel, counted in plain Python.

Facts whose triple stands in ParaRel under several identifiers take the first set that the files give for one of them.
"""

from __future__ import annotations

import gzip
import json
import shutil
import statistics
from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import combinations, combinations_with_replacement
from math import comb
from pathlib import Path

import numpy as np
import pytest

from kndb.database import Database, open_database

SHARED = Path(__file__).parents[2] / "../shared/data"
PARAREL = SHARED / "pararel"
PUBLISHED = sorted((SHARED / "published_neurons").glob("*.json.gz"))
LAYERS, NEURONS = 12, 3072

pytestmark = pytest.mark.skipif(
    not (PARAREL.is_dir() and PUBLISHED), reason="no ParaRel or no published neurons beside the repository"
)

Triple = tuple[str, str, str]
Place = tuple[int, int]


@dataclass(frozen=True)
class Published:
    """The database, and what plain Python read: each fact's set, the facts by relation, and unknown identifiers."""

    database: Database
    refinement: int
    sets: dict[Triple, frozenset[Place]]
    by_relation: dict[str, list[Triple]]

    def holders(self, triples) -> Counter[Place]:
        return Counter(place for triple in triples for place in self.sets[triple])


def with_one_template_each(folder):
    """A copy of ParaRel with one template for each relation: prompts don't matter here, and take long to write."""
    shutil.copytree(PARAREL / "trex_lms_vocab", folder / "trex_lms_vocab", copy_function=shutil.copyfile)
    graphs = folder / "pattern_data" / "graphs_json"
    graphs.mkdir(parents=True)
    for path in (PARAREL / "pattern_data" / "graphs_json").glob("*.jsonl"):
        first, _, _ = path.read_text(encoding="utf-8").partition("\n")
        (graphs / path.name).write_text(first, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """ParaRel and the published neurons, imported; beside them the same files, read in plain Python."""
    folder = tmp_path_factory.mktemp("published")
    database = open_database(folder / "kndb.db")
    database.facts.ingest([with_one_template_each(folder / "pararel")])
    imported = database.exchange.import_neurons(
        PUBLISHED, input_format="eleutherai", model_name="bert-base-uncased", layers=LAYERS, neurons=NEURONS
    )
    triples = {}
    for path in sorted((PARAREL / "trex_lms_vocab").glob("*.jsonl")):
        for line in filter(None, path.read_text(encoding="utf-8").split("\n")):
            record = json.loads(line)
            triples[record["uuid"]] = (path.stem, record["sub_label"], record["obj_label"])
    sets: dict[Triple, frozenset[Place]] = {}
    for path in PUBLISHED:
        for identifier, places in json.loads(gzip.decompress(path.read_bytes())).items():
            if identifier in triples:
                sets.setdefault(triples[identifier], frozenset(map(tuple, places)))
    by_relation = defaultdict(list)
    for triple in sets:
        by_relation[triple[0]].append(triple)
    yield Published(database, imported.refinement, sets, dict(sorted(by_relation.items())))
    database.close()


def test_every_fact_with_an_identifier_in_the_files_is_joined(published):
    with published.database.store.reading() as connection:
        rows = connection.exec_driver_sql(
            "SELECT key, subject, object, layer, neuron FROM knowledge_neuron JOIN fact ON fact.id = fact_id"
            " JOIN relation ON relation.id = relation_id WHERE refinement_id = ?",
            (published.refinement,),
        ).all()
    found = defaultdict(set)
    for *triple, layer, neuron in rows:
        found[tuple(triple)].add((layer, neuron))
    assert found == {triple: set(places) for triple, places in published.sets.items() if places}
    assert len(found) > 6_000
    assert len(published.by_relation) == 20


def test_shared_neurons_of_p176(published):
    facts = published.by_relation["P176"]
    of_relation = {key: published.holders(triples) for key, triples in published.by_relation.items()}
    held = published.holders(facts)
    having = sum(bool(published.sets[triple]) for triple in facts)
    expected = [
        (*place, number, number / having, {key: counts[place] for key, counts in of_relation.items() if counts[place]})
        for place, number in sorted(held.items(), key=lambda item: (-item[1], item[0]))
    ]
    found = published.database.query.shared(["P176"], refinement=published.refinement)
    assert [(row.layer, row.neuron, row.facts, row.share, dict(row.relations)) for row in found] == expected
    assert found[0].facts > 100


@pytest.mark.parametrize("across", [1, 2, 10, 20])
def test_neurons_across_relations(published, across):
    query, refinement = published.database.query, published.refinement
    relations = Counter(place for triples in published.by_relation.values() for place in published.holders(triples))
    expected = {place for place, number in relations.items() if number >= across}
    found = query.shared(across=across, refinement=refinement)
    assert {(row.layer, row.neuron) for row in found} == expected
    facts = published.holders(published.sets)
    assert all(row.facts == facts[row.layer, row.neuron] for row in found)
    assert bool(expected) == (across <= max(relations.values()))


def test_neurons_between_two_relations(published):
    one, other = (set(published.holders(published.by_relation[key])) for key in ("P176", "P178"))
    found = published.database.query.shared(["P176", "P178"], across=2, refinement=published.refinement)
    assert {(row.layer, row.neuron) for row in found} == one & other
    assert found


def test_overlap_of_five_relations_pair_by_pair(published):
    keys = sorted(published.by_relation, key=lambda key: len(published.by_relation[key]))[:4]
    keys = sorted([*keys, "P176"])
    facts = [triple for key in keys for triple in published.by_relation[key] if published.sets[triple]]
    sizes: dict[tuple[str, str], list[tuple[int, bool]]] = defaultdict(list)
    for one, other in combinations(facts, 2):
        shared = len(published.sets[one] & published.sets[other])
        sizes[one[0], other[0]].append((shared, one[2] == other[2]))
    found = published.database.query.overlap(keys, refinement=published.refinement)
    assert [(cell.relation, cell.other) for cell in found.cells] == list(combinations_with_replacement(keys, 2))
    for cell in found.cells:
        pairs = sizes[cell.relation, cell.other]
        alike = [shared for shared, same_object in pairs if same_object]
        different = [shared for shared, same_object in pairs if not same_object]
        assert (cell.pairs, cell.same_object_pairs) == (len(pairs), len(alike))
        assert cell.mean == pytest.approx(statistics.fmean(shared for shared, _ in pairs))
        assert cell.same_object_mean == (pytest.approx(statistics.fmean(alike)) if alike else None)
        assert cell.different_object_mean == pytest.approx(statistics.fmean(different))


def test_overlap_of_all_relations(published):
    having = {
        key: [triple for triple in triples if published.sets[triple]] for key, triples in published.by_relation.items()
    }
    within, across = published.database.query.overlap(refinement=published.refinement).summary
    everything = [triple for triples in having.values() for triple in triples]

    def pairs_within(groups, weight):
        """For each group, all pairs of its members; then those of each relation."""
        total = sum(comb(weight(group), 2) for group in groups(everything))
        return sum(comb(weight(group), 2) for triples in having.values() for group in groups(triples)), total

    def by_neuron(triples):
        return published.holders(triples).values()

    def by_object(triples):
        return Counter(triple[2] for triple in triples).values()

    def by_neuron_and_object(triples):
        return Counter((place, triple[2]) for triple in triples for place in published.sets[triple]).values()

    def all_of_them(triples):
        return [len(triples)]

    shared, pairs, alike_shared, alike = (
        pairs_within(groups, int) for groups in (by_neuron, all_of_them, by_neuron_and_object, by_object)
    )
    for line, of in ((within, lambda sums: sums[0]), (across, lambda sums: sums[1] - sums[0])):
        assert (line.pairs, line.same_object_pairs) == (of(pairs), of(alike))
        assert line.pooled_mean == pytest.approx(of(shared) / of(pairs))
        assert line.same_object_mean == pytest.approx(of(alike_shared) / of(alike))
        assert line.different_object_mean == pytest.approx((of(shared) - of(alike_shared)) / (of(pairs) - of(alike)))
    means = [
        sum(comb(number, 2) for number in by_neuron(triples)) / comb(len(triples), 2) for triples in having.values()
    ]
    assert within.mean_of_means == pytest.approx(statistics.fmean(means))
    assert within.pooled_mean > 2 * across.pooled_mean


def test_layers(published):
    found = published.database.query.layers(refinement=published.refinement)
    pairs = Counter(layer for places in published.sets.values() for layer, _ in places)
    different = Counter(layer for layer, _ in set().union(*published.sets.values()))
    assert [(row.layer, row.pairs, row.neurons) for row in found] == [
        (layer, pairs[layer], different[layer]) for layer in range(LAYERS)
    ]
    assert [row.share for row in found] == pytest.approx([pairs[layer] / pairs.total() for layer in range(LAYERS)])


def test_counts(published):
    rows = published.database.query.counts(refinement=published.refinement)
    assert [row.relation for row in rows] == [*published.by_relation, None]
    for row in rows:
        triples = list(published.sets) if row.relation is None else published.by_relation[row.relation]
        sizes = [len(published.sets[triple]) for triple in triples]
        assert (row.facts, row.facts_with_none, row.largest) == (len(sizes), sizes.count(0), max(sizes))
        assert row.neurons == len(published.holders(triples))
        assert row.mean == pytest.approx(statistics.fmean(sizes))
        assert (row.first_quartile, row.median, row.third_quartile) == pytest.approx(np.percentile(sizes, [25, 50, 75]))
