"""Requests and settings: Python's keywords are those of the values, with the same defaults; both ways agree."""

from __future__ import annotations

import inspect
from dataclasses import MISSING, fields, replace

import pytest

import kndb
from kndb.errors import UsageError

BESIDE = ("self", "progress", "engine")
"""What decides nothing that is kept."""


def parameters(method):
    found = inspect.signature(method).parameters
    return {name: one.default for name, one in found.items() if name not in BESIDE}


def values(*kinds):
    return {
        one.name: inspect.Parameter.empty if one.default is MISSING else one.default
        for kind in kinds
        for one in fields(kind)
    }


def test_the_keywords_of_attributions_are_those_of_the_values():
    expected = values(kndb.AttributionRequest, kndb.AttributionSettings)
    del expected["quadrature"]
    rules = {name: one.default for name, one in inspect.signature(kndb.Quadrature.choose).parameters.items()}
    rules["quadrature"] = rules.pop("name")
    assert parameters(kndb.Database.attribution.func(_Nothing()).run) == {**expected, **rules}


def test_the_keywords_of_experiments_are_those_of_the_values():
    probes = kndb.Database.probes.func(_Nothing())
    settings = values(kndb.ProbeSettings)
    assert parameters(probes.scale) == {**values(kndb.ScalingRequest), **settings}
    del settings["batch_size"]
    assert parameters(probes.activation) == {**values(kndb.ReadingRequest), **settings}


class _Nothing:
    store = models = None


def test_values_and_keywords_ask_for_the_same(attributed):
    database = attributed()
    request = kndb.AttributionRequest("tiny", relations=["P36"])
    report = database.attribution.run_request(request, kndb.AttributionSettings())
    assert (report.attributed, report.run.id) == (0, 1)
    again = database.attribution.run_request(replace(request, relations=()), kndb.AttributionSettings(batch_size=3))
    assert (again.attributed, again.run.id) == (0, 1)


def test_values_are_checked_when_they_are_made():
    request = kndb.ScalingRequest("suppress", "tiny")
    with pytest.raises(UsageError, match="factor must be from 0, below 1, to suppress"):
        replace(request, factor=2.0)
    with pytest.raises(UsageError, match="name at least one"):
        kndb.ReadingRequest("tiny", [])
    with pytest.raises(UsageError, match="keep must be at least 0"):
        kndb.ReadingRequest("tiny", ["texts.jsonl"], keep=-1)
