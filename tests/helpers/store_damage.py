"""Ways in which a database file comes to be damaged, each with what `kndb db check` has to say of it."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

Damaging = Callable[[Path], None]


class Damage(NamedTuple):
    """A way to damage a database: what is done to its file, and a pattern of what the check then says."""

    do: Damaging
    said: str


def statements(*texts: str) -> Damaging:
    """Runs SQL on a database, as another program can: without foreign keys and CHECK constraints."""

    def do(path: Path) -> None:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as driver:
            for pragma in ("foreign_keys=OFF", "ignore_check_constraints=ON", "writable_schema=OFF"):
                driver.execute(f"PRAGMA {pragma}")
            for text in texts:
                driver.execute(text)

    return do


def _write(change: Callable[[bytes], bytes], suffix: str = "") -> Damaging:
    def do(path: Path) -> None:
        file = path.with_name(path.name + suffix)
        file.write_bytes(change(file.read_bytes() if file.exists() else b""))

    return do


def _without_objects(path: Path) -> None:
    for file in path.with_suffix(".objects").rglob("*.safetensors"):
        file.unlink()


def sql(said: str, *texts: str) -> Damage:
    """Damage by SQL."""
    return Damage(statements(*texts), said)


HUGE = 2**62
SCHEMA = {
    "a missing table": sql("table score is missing", "DROP TABLE score"),
    "a missing small table": sql("table snapshot is missing", "DROP TABLE snapshot"),
    "a dropped column": sql("column fact.source is missing", "ALTER TABLE fact DROP COLUMN source"),
    "a renamed column": sql("column run.method is missing", "ALTER TABLE run RENAME COLUMN method TO way"),
    "a foreign column": sql("column fact.more is not kndb's", "ALTER TABLE fact ADD COLUMN more TEXT"),
    "a missing index": sql("index ix_fact_subject is missing", "DROP INDEX ix_fact_subject"),
    "an index of something else": sql(
        "index ix_fact_subject is an index of fact .object.; it must be an index of fact .subject.",
        "DROP INDEX ix_fact_subject",
        "CREATE INDEX ix_fact_subject ON fact (object)",
    ),
    "a foreign trigger": sql(
        "trigger spy is not kndb's",
        "CREATE TRIGGER spy AFTER INSERT ON history BEGIN DELETE FROM snapshot; END",
    ),
    "a foreign view": sql("view facts is not kndb's", "CREATE VIEW facts AS SELECT * FROM fact"),
    "a view in place of a table": sql(
        "table snapshot is missing; a view",
        "ALTER TABLE snapshot RENAME TO elsewhere",
        "CREATE VIEW snapshot AS SELECT * FROM elsewhere",
    ),
    "a foreign table": sql("table other is not kndb's", "CREATE TABLE other (x)"),
    "a column of another type": sql(
        "column relation.label is BLOB, nullable; it must be TEXT, nullable",
        "ALTER TABLE relation DROP COLUMN label",
        "ALTER TABLE relation ADD COLUMN label BLOB",
    ),
    "no revision": sql("no schema revision", "DELETE FROM alembic_version"),
    "no table of revisions": sql("no schema revision", "DROP TABLE alembic_version"),
}
VALUES = {
    "a blob for a name": sql("table model, row 1, column name: a blob of 2 bytes", "UPDATE model SET name = x'ff00'"),
    "a blob for a subject": sql("column subject: a blob", "UPDATE fact SET subject = x'41' WHERE id = 1"),
    "a blob for a version": sql("column version: a blob", "UPDATE model SET version = x'41'"),
    "text that is no UTF-8": sql("column object", "UPDATE fact SET object = CAST(x'41ff' AS TEXT) WHERE id = 1"),
    "NUL in a text": sql("column text", "UPDATE prompt SET text = 'a' || char(0) || 'b' WHERE id = 1"),
    "JSON that does not parse": sql("column settings: it is no JSON", "UPDATE run SET settings = '{\"floor\": '"),
    "JSON of another shape": sql("column settings: it must be an object", "UPDATE run SET settings = '[1, 2]'"),
    "a number for JSON": sql("column settings: 5; it must be a JSON object", "UPDATE refinement SET settings = 5"),
    "a recipe of another shape": sql("column recipe", "UPDATE edit SET recipe = '{\"neurons\": 7}'"),
    "a recipe that is a list": sql("column recipe: it must be an object", "UPDATE edit SET recipe = '[]'"),
    "deep JSON": sql("nested too deeply", f"UPDATE edit SET recipe = '{'[' * 50000}'"),
    "edits of a version": sql("column edits: it has an item", "UPDATE version SET edits = '[\"1\"]'"),
    "measures of another shape": sql("column measures", "UPDATE evaluation SET measures = '{\"edited\": [1]}'"),
    "settings of a trial": sql("column settings: it has no", "UPDATE edit_trial SET settings = '{}'"),
    "results of a trial": sql(
        "column measures", 'UPDATE edit_trial_result SET measures = \'{"edited": {"success": []}}\''
    ),
    "settings of a probe": sql("column settings: it must be an object", "UPDATE probe SET settings = 'null'"),
    "layers of another shape": sql("column layers_above", "UPDATE prompt_result SET layers_above = '[3]'"),
    "an infinite score": sql("column score: inf", "UPDATE score SET score = 9e999"),
    "an infinite mean": sql("column mean_score: -inf", "UPDATE knowledge_neuron SET mean_score = -9e999"),
    "text for a score": sql("column score: 'high'", "UPDATE score SET score = 'high'"),
    "a negative layer": sql("column layer: -1", "UPDATE OR REPLACE knowledge_neuron SET layer = -1"),
    "a layer that the model has not": sql("has 2 layers", "UPDATE OR REPLACE knowledge_neuron SET layer = 7"),
    "a huge neuron": sql("column neuron", f"UPDATE OR REPLACE knowledge_neuron SET neuron = {HUGE}"),
    "a model of huge size": sql("column layers", f"UPDATE model SET layers = {HUGE}, neurons = {HUGE}"),
    "a flag that is none": sql("column held_out: 7; it must be 0 or 1", "UPDATE template SET held_out = 7"),
    "a negative count": sql("column facts: -3", "UPDATE relation_neuron SET facts = -3"),
    "huge counts": sql("relation_neuron", f"UPDATE relation_neuron SET facts = {HUGE}"),
    "a time that is none": sql("column created_at: 'soon'", "UPDATE run SET created_at = 'soon'"),
    "a hash that is none": sql("column old_sha256", "UPDATE edit_neuron SET old_sha256 = 'abc'"),
    "a status that is none": sql("CHECK|check constraint|integrity", "UPDATE run SET status = 'lost'"),
    "a broken reference": sql("refers to a row of relation", "UPDATE fact SET relation_id = 99 WHERE id = 1"),
    "a fact that is gone": sql("refers to a row of fact", "DELETE FROM fact WHERE id = 1"),
    "a model that is gone": sql("refers to a row of model", "DELETE FROM model"),
    "sums that differ": sql("relation_neuron", "DELETE FROM relation_neuron"),
    "a history cut short": sql("history", "DELETE FROM history"),
    "missing objects": Damage(_without_objects, "is missing"),
}
FILES = {
    "a truncated file": Damage(_write(lambda content: content[: len(content) // 2]), "damaged|malformed|integrity"),
    "a file of its first page": Damage(_write(lambda content: content[:4096]), "damaged|malformed|integrity"),
    "pages of noise": Damage(
        _write(lambda content: content[:8192] + bytes(range(256)) * 64 + content[8192 + 16384 :]),
        "damaged|malformed|integrity",
    ),
    "an empty file": Damage(_write(lambda _: b""), "is empty"),
    "no database": Damage(_write(lambda content: b"once a database" * (len(content) // 15)), "not an SQLite database"),
    "a log of noise": Damage(_write(lambda _: bytes(range(256)) * 300, "-wal"), ""),
}
EVERY = {**SCHEMA, **VALUES, **FILES}
