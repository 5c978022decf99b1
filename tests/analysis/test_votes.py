"""Votes of coarse sets, beside the refined set that came of them."""

from kndb.analysis.votes import votes
from kndb.records.attribution import KnowledgeNeuron


def plain(rows):
    return [(row.layer, row.neuron, row.prompts, row.kept, row.mean_score) for row in rows]


def test_the_most_votes_come_first():
    coarse = {1: {(0, 1): 0.5, (0, 2): 0.25}, 2: {(0, 2): 0.75, (1, 0): 0.5}, 3: {}}
    found = votes(coarse, [KnowledgeNeuron(1, 0, 2, 2, 0.5)], 1.4)
    assert plain(found) == [(0, 2, 2, True, 0.5), (0, 1, 1, False, 0.5), (1, 0, 1, False, 0.5)]
    assert {row.needed for row in found} == {1.4}


def test_negative_scores_rank_by_size():
    found = votes({1: {(0, 1): -0.1, (0, 2): -0.9}}, [], 1)
    assert [row.neuron for row in found] == [2, 1]


def test_a_refined_set_without_coarse_sets():
    refined = [KnowledgeNeuron(1, 0, 1, None, None), KnowledgeNeuron(1, 0, 2, 4, 0.5)]
    assert plain(votes({}, refined, None)) == [(0, 2, 4, True, 0.5), (0, 1, None, True, None)]
