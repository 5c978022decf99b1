"""Refinement against a plain reimplementation of its definition."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kndb.analysis.refinement import RefinementSettings, refine_relation
from kndb.errors import UsageError
from kndb.records.attribution import KnowledgeNeuron

# --- the definition, in exact arithmetic: facts are lists of coarse sets, one for each prompt ---


def refined_sets(facts, share: Fraction, least: int) -> dict[int, set]:
    """A fact's neurons that are in the coarse sets of at least max(p·n, least) of its n prompts."""
    found = {}
    for fact, coarse_sets in facts.items():
        needed = max(share * len(coarse_sets), min(least, len(coarse_sets)))
        everything = set().union(*coarse_sets)
        found[fact] = {neuron for neuron in everything if sum(neuron in coarse for coarse in coarse_sets) >= needed}
    return found


def refine_plainly(facts, share: Fraction, least: int, adapt: bool):
    passes = 0
    while True:
        found = refined_sets(facts, share, least)
        mean = Fraction(sum(map(len, found.values())), max(1, len(facts)))
        if not adapt or passes == 6 or 2 <= mean <= 5:
            break
        step = Fraction(-1, 20) if mean < 2 else Fraction(1, 20)
        moved = min(max(share + step, min(share, Fraction(1, 20))), Fraction(1))
        if moved == share:
            break
        share, passes = moved, passes + 1
    return found, share, passes, mean


def candidates_of(facts) -> list[KnowledgeNeuron]:
    """What the store hands over: each neuron of a fact with the number of its coarse sets that hold it."""
    return [
        KnowledgeNeuron(fact, *neuron, sum(neuron in coarse for coarse in coarse_sets), 0.5)
        for fact, coarse_sets in facts.items()
        for neuron in sorted(set().union(*coarse_sets))
    ]


def refine(facts, **options):
    outcome, kept = refine_relation(
        "P1", {fact: len(sets) for fact, sets in facts.items()}, candidates_of(facts), RefinementSettings(**options)
    )
    found = {fact: set() for fact in facts}
    for neuron in kept:
        found[neuron.fact_id].add((neuron.layer, neuron.neuron))
    assert len(kept) == sum(map(len, found.values()))
    return outcome, found


NEURONS = st.tuples(st.integers(0, 2), st.integers(0, 4))
FACTS = st.dictionaries(
    st.integers(1, 99), st.lists(st.frozensets(NEURONS, max_size=9), min_size=1, max_size=12), max_size=5
)


@settings(max_examples=300, deadline=None)
@given(
    facts=FACTS,
    percent=st.integers(1, 100),
    least=st.integers(1, 5),
    adapt=st.booleans(),
)
def test_against_the_definition(facts, percent, least, adapt):
    outcome, found = refine(facts, share=percent / 100, min_prompts=least, adapt=adapt)
    expected, share, passes, mean = refine_plainly(facts, Fraction(percent, 100), least, adapt)
    assert found == expected
    assert outcome.relation == "P1"
    assert outcome.share == pytest.approx(float(share), abs=1e-9)
    assert outcome.passes == passes
    assert outcome.facts == len(facts)
    assert outcome.facts_with_neurons == sum(bool(neurons) for neurons in expected.values())
    assert outcome.mean_size == pytest.approx(float(mean))


# --- by hand -------------------------------------------------------------------------------------------------


def facts_with(counts: dict[int, int], prompts: int = 10) -> dict:
    """One fact: `counts[k]` neurons that are in exactly k of its coarse sets."""
    names = iter((0, number) for number in range(10_000))
    sets = [set() for _ in range(prompts)]
    for times, many in counts.items():
        for _ in range(many):
            neuron = next(names)
            for coarse in sets[:times]:
                coarse.add(neuron)
    return {1: sets}


def test_a_mean_between_two_and_five_is_left_alone():
    for size in (2, 3, 5):
        outcome, found = refine(facts_with({10: size}))
        assert (outcome.share, outcome.passes, outcome.mean_size) == (0.7, 0, size)
        assert len(found[1]) == size


def test_too_few_neurons_lower_the_share_until_there_are_two():
    outcome, found = refine(facts_with({10: 1, 6: 1, 5: 4}))
    assert (outcome.share, outcome.passes, len(found[1])) == (0.6, 2, 2)


def test_too_many_neurons_raise_the_share_until_there_are_five():
    outcome, found = refine(facts_with({10: 3, 9: 2, 7: 9}))
    assert (outcome.share, outcome.passes, len(found[1])) == (0.75, 1, 5)


def test_six_passes_at_most():
    outcome, _ = refine(facts_with({3: 9}))
    assert (outcome.share, outcome.passes, outcome.mean_size) == (0.4, 6, 0)
    outcome, _ = refine(facts_with({10: 9}))
    assert (outcome.share, outcome.passes, outcome.mean_size) == (1.0, 6, 9)


def test_the_share_never_leaves_its_range():
    outcome, _ = refine(facts_with({10: 9}), share=0.9)
    assert (outcome.share, outcome.passes) == (1.0, 2)
    outcome, _ = refine(facts_with({}), share=0.15)
    assert (outcome.share, outcome.passes) == (0.05, 2)
    outcome, _ = refine(facts_with({}), share=0.02)
    assert (outcome.share, outcome.passes) == (0.02, 0)  # too few neurons never raise it


def test_a_jump_over_the_range_swings_until_the_passes_are_over():
    outcome, _ = refine(facts_with({7: 9}, prompts=10), share=0.7)
    assert (outcome.share, outcome.passes, outcome.mean_size) == (0.7, 6, 9)


def test_without_adaptation_the_share_stays():
    outcome, found = refine(facts_with({10: 9}), adapt=False)
    assert (outcome.share, outcome.passes, len(found[1])) == (0.7, 0, 9)


@pytest.mark.parametrize(("prompts", "needed"), [(1, 1), (2, 2), (3, 3), (4, 3), (5, 4), (10, 7), (20, 14), (30, 21)])
def test_the_number_of_prompts_needed(prompts, needed):
    """Max(0.7·n, 3), but all of fewer than three; 0.7·n is meant exactly, not as its binary fraction."""
    for times in range(1, prompts + 1):
        _, found = refine(facts_with({times: 2}, prompts), adapt=False)
        assert len(found[1]) == (2 if times >= needed else 0)


def test_a_share_of_prompts_that_rounds_up_asks_for_no_more():
    assert 0.28 * 100 > 28  # in binary fractions
    _, found = refine(facts_with({28: 2}, 100), share=0.28, adapt=False)
    assert len(found[1]) == 2


def test_the_mean_is_over_all_facts_even_those_without_neurons():
    facts = facts_with({10: 6}) | {2: [set()] * 10, 3: [set()] * 10}
    outcome, _ = refine(facts)
    assert (outcome.passes, outcome.facts, outcome.facts_with_neurons, outcome.mean_size) == (0, 3, 1, 2)


def test_neurons_come_back_as_they_were():
    candidates = [KnowledgeNeuron(1, 2, 3, 4, 0.25), KnowledgeNeuron(1, 0, 0, 1, 0.75)]
    _, kept = refine_relation("P1", {1: 4}, candidates, RefinementSettings(adapt=False))
    assert kept == candidates[:1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 0.0}, r"threshold must be above 0.*got 0\.0"),
        ({"threshold": 1.01}, r"threshold must be .*got 1\.01"),
        ({"threshold": float("nan")}, "threshold must be .*got nan"),
        ({"share": 0.0}, r"share must be above 0.*got 0\.0"),
        ({"share": 1.5}, r"share must be .*got 1\.5"),
        ({"min_prompts": 0}, "min_prompts must be at least 1 .got 0"),
    ],
)
def test_settings_that_make_no_sense(options, message):
    with pytest.raises(UsageError, match=message):
        RefinementSettings(**options)


def test_settings_at_the_ends_of_their_ranges():
    ends = {"threshold": 1.0, "share": 1.0, "min_prompts": 1}
    assert ends.items() <= RefinementSettings(**ends).as_settings().items()


def test_settings_are_stored_in_full():
    usual = {"threshold": 0.2, "share": 0.7, "min_prompts": 3, "adapt": True, "negative": False}
    assert RefinementSettings().as_settings() == usual
    chosen = {"threshold": 0.5, "share": 1.0, "min_prompts": 1, "adapt": False, "negative": True}
    assert RefinementSettings(**chosen).as_settings() == chosen
