"""Settings of edits: refused where they are made, and stored with trials and evaluations as they always were."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from kndb.errors import UsageError
from kndb.records.edit_settings import (
    EvaluationSettings,
    Neighbours,
    OptimizeSettings,
    TrialSettings,
    UpdateSettings,
)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: UpdateSettings(rule="rome"), r"rule must be one of gradient, output, paper \(got rome\)"),
        (
            lambda: UpdateSettings(lambda_new=math.nan),
            r"lambda_new must be a number of at least 0, or auto \(got nan\)",
        ),
        (lambda: UpdateSettings("output", -1.0), r"lambda_old must be a number of at least 0 \(got -1.0\)"),
        (lambda: UpdateSettings(lambda_old=1.0), "the gradient leads away from the present answer"),
        (lambda: UpdateSettings(max_share=0.0), r"max_share must be a number above 0, at most 1 \(got 0.0\)"),
        (lambda: UpdateSettings(neurons=0), r"neurons must be at least 1 \(got 0\)"),
        (lambda: OptimizeSettings(max_share=1.5), "max_share must be a number above 0, at most 1"),
        (lambda: OptimizeSettings(at_once=0), r"at_once must be at least 1 \(got 0\)"),
        (lambda: OptimizeSettings(seed=2**63), "seed must be a number from 0"),
        (lambda: Neighbours(-1), r"neighbours must be at least 0 \(got -1\)"),
        (lambda: Neighbours(prompts=0), r"prompts must be at least 1 \(got 0\)"),
        (lambda: EvaluationSettings(sample=0), r"sample must be at least 1 \(got 0\)"),
        (lambda: EvaluationSettings(generate=-1), r"generate must be at least 1, or 0 for nothing \(got -1\)"),
        (lambda: TrialSettings(facts=0), r"facts must be at least 1 \(got 0\)"),
    ],
)
def test_what_can_not_be_is_refused_where_it_is_made(make, message):
    with pytest.raises(UsageError, match=message):
        make()


def test_trials_are_stored_with_all_that_their_edits_depend_on():
    """A trial goes on where one of equal settings stopped: the default has the JSON that it always had."""
    assert UpdateSettings().as_trial() == {
        "method": "update", "rule": "gradient", "lambda_old": None, "lambda_new": None, "max_share": 1.0,
        "neurons": None,
    }  # fmt: skip
    assert UpdateSettings("paper").as_trial()["max_share"] == 0.1
    usual = {"method": "optimize", "keep": 16.0, "steps": 60, "max_share": 1.0, "neurons": None}
    assert OptimizeSettings().as_trial() == usual
    every = OptimizeSettings()
    changed = [
        replace(every, **{name: value})
        for name, value in (
            ("learning_rate", 0.1), ("bound", 2.0), ("target", 0.1), ("drift", 0.5), ("at_once", 3), ("seed", 4),
            ("neighbours", Neighbours(1)), ("neighbours", Neighbours(prompts=None)), ("max_share", 0.5), ("neurons", 2),
        )
    ]  # fmt: skip
    stored = [str(sorted(one.as_trial().items(), key=str)) for one in [every, *changed]]
    assert len(set(stored)) == len(stored)


def test_an_evaluation_names_its_continuations_only_where_there_are_any():
    assert EvaluationSettings().as_json() == {"sample": 300, "seed": 0}
    assert EvaluationSettings(5, 1, 50).as_json() == {"sample": 5, "seed": 1, "generate": 50}
    assert TrialSettings(relations=["P37", "P36", "P37"]).as_json()["relations"] == ["P36", "P37"]
