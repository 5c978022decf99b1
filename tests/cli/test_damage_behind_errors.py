"""An error that nobody foresaw is told as one, unless a damaged database explains it."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest

from kndb.cli import damage
from kndb.errors import StoreDamagedError


@pytest.fixture
def write(place):
    """Writes records as JSON lines, and gives the file's name."""

    def writer(name, records):
        (place / name).write_text("".join(f"{json.dumps(record)}\n" for record in records), encoding="utf-8")
        return name

    return writer


def test_without_a_database_there_is_no_damage(place):
    assert damage.damage_behind(TypeError("a slip")) is None


def test_a_sound_database_is_no_reason_and_a_damaged_one_is(place, kndb, write):
    facts = write("f.jsonl", [{"relation": "P36", "subject": "Peru", "object": "Lima", "template": "[X] [Y]"}])
    kndb("ingest", facts)
    assert damage.damage_behind(TypeError("a slip")) is None
    with closing(sqlite3.connect(place / "kndb.db")) as driver:
        driver.execute("UPDATE fact SET subject = x'ff'")
        driver.commit()
    found = damage.damage_behind(TypeError("a slip"))
    assert isinstance(found, StoreDamagedError)
    assert "column subject" in str(found)


@pytest.mark.parametrize("column", ["subject", "object", "external_id"])
def test_facts_are_not_shown_with_what_no_fact_can_have(place, kndb, write, column):
    kndb("ingest", write("f.jsonl", [{"relation": "P36", "subject": "Peru", "object": "Lima", "id": "a"}]))
    with closing(sqlite3.connect(place / "kndb.db")) as driver:
        driver.execute(f"UPDATE fact SET {column} = x'ff'")
        driver.commit()
    for words in (("query", "facts"), ("query", "fact", 1)):
        assert "kndb db check" in kndb(*words, code=4).err


def test_evaluation_prompts_of_another_form_are_not_exported(place, kndb, write):
    record = {"relation": "P36", "subject": "Peru", "object": "Lima", "template": "[X] [Y]"}
    prompt = {"kind": "locality", "axis": "x", "text": "A [Y]", "answers": ["B"]}
    kndb("ingest", write("f.jsonl", [{**record, "evaluation": [prompt]}]))
    for damaged in ("[5]", "{}", "nothing"):
        with closing(sqlite3.connect(place / "kndb.db")) as driver:
            assert driver.execute("UPDATE evaluation_prompt SET answers = ?", (damaged,)).rowcount == 1
            driver.commit()
        assert "kndb db check" in kndb("export", "facts", "--to", "g.jsonl", code=4).err
