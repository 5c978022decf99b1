"""The real data, where it is at hand, against counts that plain Python makes of it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from kndb import facts

ROOT = Path(__file__).parents[2]
SHARED = ROOT / "../shared/data"
PARAREL = SHARED / "pararel"
BAGS = SHARED / "official/data_11.json"
OWN = ROOT / "data/facts"

needs_pararel = pytest.mark.skipif(not PARAREL.is_dir(), reason="no ParaRel beside the repository")
needs_bags = pytest.mark.skipif(not BAGS.is_file(), reason="no bags of the paper's code beside the repository")
needs_own = pytest.mark.skipif(not OWN.is_dir(), reason="no facts of the project in this tree")


def lines_of(folder):
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").split("\n"):
            if line.strip():
                yield path.stem, json.loads(line)


@needs_pararel
def test_pararel():
    files = facts.read(PARAREL)
    read_facts = [(f.relation, f.subject, f.object, f.external_id) for file in files for f in file.facts]
    expected = [
        (relation, record["sub_label"], record["obj_label"], record["uuid"])
        for relation, record in lines_of(PARAREL / "trex_lms_vocab")
    ]
    assert len(expected) > 10_000
    assert sorted(read_facts) == sorted(expected)
    read_templates = [(template.relation, template.text) for file in files for template in file.templates]
    patterns = PARAREL / "pattern_data/graphs_json"
    assert read_templates == [(relation, record["pattern"].strip()) for relation, record in lines_of(patterns)]
    assert all(not file.rejected for file in files)


@needs_pararel
def test_pararel_templates_for_causal_models():
    texts = [template.text for file in facts.read(PARAREL) for template in file.templates]
    expected = [text for text in texts if text.rstrip(" .").endswith("[Y]")]
    assert 0 < len(expected) < len(texts)
    assert [text for text in texts if facts.blank_is_last(text)] == expected


@needs_pararel
def test_speed():
    started = time.perf_counter()
    count = sum(len(file.facts) for file in facts.read(PARAREL))
    # Measured: 0.2 s for 13,912 facts. The limit leaves room for a busy machine, not for a quadratic reader.
    assert time.perf_counter() - started < count / 29_000 * 20


@needs_bags
def test_official_bags():
    (file,) = facts.read(BAGS)
    bags = json.loads(BAGS.read_text(encoding="utf-8"))
    assert len(file.facts) == len(bags)
    for fact, bag in zip(file.facts, bags, strict=True):
        assert fact.object == bag[0][1]
        assert fact.relation == bag[0][2].split("(")[0]
        assert [prompt.replace("[Y]", "[MASK]") for prompt in fact.prompts] == [entry[0] for entry in bag]
    # Two facts stand in the list twice, with the same prompts.
    distinct = {(bag[0][1], bag[0][2], tuple(sorted(entry[0] for entry in bag))) for bag in bags}
    assert len({fact.external_id for fact in file.facts}) == len(distinct) == len(bags) - 2


@needs_own
def test_own_facts():
    files = facts.read(OWN)
    records = [record for _, record in lines_of(OWN)]
    templates = [record for record in records if "template" in record]
    assert sum(len(file.templates) for file in files) == len(templates)
    assert sum(len(file.facts) for file in files) == len([record for record in records if "subject" in record])
    held_out = sum(template.held_out for file in files for template in file.templates)
    assert held_out == sum(record["held_out"] for record in templates)
    labels = {record["relation"]: record["relation_label"] for record in records}
    assert {key: label for file in files for key, label in file.relations.items()} == labels
