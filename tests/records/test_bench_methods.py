"""The settings of compared methods as a user gives them."""

import json

import pytest

from kndb.errors import UsageError
from kndb.records.bench_methods import BENCH_METHODS, as_trial, bench_method, needs_neurons, of_one_token, one_by_one
from kndb.records.many_settings import MemitSettings, TargetSettings


def test_settings_are_read_by_their_types():
    assert bench_method("memit", {"preserve": 1, "layers": "0-2", "target": {"steps": 3}}) == MemitSettings(
        layers=(0, 1, 2), preserve=1.0, target=TargetSettings(steps=3)
    )
    joint = bench_method("together", {"steps": 5, "neighbours": 7, "prompts": None, "layers": [3, 1]})
    assert (joint.settings.steps, joint.keep.neighbours, joint.keep.prompts, joint.layers) == (5, 7, None, (1, 3))
    assert bench_method("update", {"lambda_new": "auto", "max_share": 1}).max_share == 1.0
    assert bench_method("optimize", {"neighbours": {"relation": 3}}).neighbours.relation == 3


@pytest.mark.parametrize("name", BENCH_METHODS)
def test_every_setting_is_stored(name):
    method = bench_method(name)
    stored = json.loads(json.dumps(as_trial(method)))
    assert stored.pop("method") == name
    assert bench_method(name, stored) == method


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("knife", {}, "method must be one of update, optimize, together, rome, memit, .* \\(got knife\\)"),
        ("memit", {"preserv": 1}, "memit has no setting 'preserv'; it has keys, layers, preserve"),
        ("together", {"stepz": 1}, "together has no setting 'stepz'; it has .*neighbours"),
        ("memit", {"preserve": "a"}, "memit.preserve must be a number \\(got 'a'\\)"),
        ("memit", {"preserve": True}, "memit.preserve must be a number \\(got True\\)"),
        ("memit", {"preserve": -1}, "memit: preserve must be a number above 0"),
        ("memit", {"rounds": 1.5}, "memit.rounds must be a whole number \\(got 1.5\\)"),
        ("memit", {"layers": "x"}, "memit.layers must be layers or null \\(got 'x'\\)"),
        ("memit", {"token": "end"}, "memit.token must be subject or answer or null \\(got 'end'\\)"),
        ("memit", {"target": 3}, "memit.target must be an object \\(got 3\\)"),
        ("update", {"lambda_new": "much"}, "update.lambda_new must be a number or auto or null \\(got 'much'\\)"),
    ],
)
def test_what_is_no_setting_is_refused(name, values, message):
    with pytest.raises(UsageError, match=message):
        bench_method(name, values)


def test_what_methods_need():
    asked = {name: bench_method(name) for name in BENCH_METHODS}
    assert [name for name, one in asked.items() if needs_neurons(one)] == ["update", "optimize", "together"]
    assert not needs_neurons(bench_method("together", {"layers": "0"}))
    assert not needs_neurons(bench_method("together"), by_depth=True)
    assert needs_neurons(bench_method("together", {"scope": "neurons"}), by_depth=True)
    assert [name for name, one in asked.items() if of_one_token(one)] == ["update", "optimize"]
    assert [name for name, one in asked.items() if one_by_one(one)] == ["update", "optimize", "rome"]
