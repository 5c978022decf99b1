"""Freezes a database of the newest schema revision as `frozen/REVISION.sql`, with a few rows in every table.

    python tests/store/freeze.py

Run once per revision, before the next one is written, and never again: the tests open every frozen database
and upgrade it.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from kndb.records.facts import FactFile, FactRecord, TemplateRecord
from kndb.store import facts
from kndb.store.engine import open_store
from kndb.store.schema import head_revision

FROZEN = Path(__file__).parent / "frozen"
NOW = "2025-01-02T03:04:05+00:00"
FACTS = FactFile(
    "facts.jsonl",
    {"P176": "manufacturer", "P36": None},
    (
        TemplateRecord("P176", "[X] is produced by [Y]."),
        TemplateRecord("P176", "The maker of [X] is [Y] today.", held_out=True),
    ),
    (
        FactRecord("P176", "iPod Touch", "Apple", "f1"),
        FactRecord("P176", "Škoda 'Favorit'", "Škoda", None, ("[Y] made the Favorit.",)),
        FactRecord("P36", None, "Paris", "bag-1", ("France's capital is [Y].",)),
    ),
)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


CONDITIONS = (
    '{"checked": [{"condition": "success>=0.95", "confident": false, "value": 1.0, "low": 0.2, "high": 1.0, '
    '"holds": true}], "skipped": [], "edits": 1, "version": null, "evaluation": 1, '
    '"settings": {"sample": 300, "seed": 0}}'
)
BASE, EDITED, OBJECT = digest("base"), digest("edited"), digest("object")
ROWS: dict[str, list[tuple[object, ...]]] = {
    "model": [(1, "bert", "data/lab-bert", digest("model"), "bert", 4, 512, EDITED, NOW, digest("chat"))],
    "version": [(1, BASE, "[]", NOW, None), (1, EDITED, "[1]", NOW, None)],
    "run": [
        (1, 1, BASE, "ig", '{"floor": 0.1, "steps": 20}', "complete", NOW, NOW),
        (2, 1, EDITED, "ig", "{}", "running", NOW, None),
    ],
    "prompt_result": [
        (1, 3, 0.75, "Apple", 0.75, 1, 0.01, 0.001, 0.5, 81, 7, None, 2, -0.125, 3, '{"3": 0.01}'),
        (1, 4, *[None] * 9, "answer-merges-with-prompt", *[None] * 4),
    ],
    "run_fact": [(1, 1), (2, 1), (2, 3)],
    "evaluation_prompt": [
        (1, 1, "paraphrase", "rephrase", "Who makes the iPod Touch? [Y]", "[]", None, "{}"),
        (
            2,
            1,
            "portability",
            "Reasoning",
            "The iPod is made in [Y]",
            '["Seoul"]',
            "Samsung",
            '{"answers": [["a [Y]", ["b"]]]}',
        ),
        (3, 3, "generation", "generation_prompts", "Paris is", "[]", None, "{}"),
    ],
    "score": [(1, 3, 0, 7, -0.125), (1, 3, 3, 511, 0.5)],
    "refinement": [(1, 1, '{"share": 0.7, "threshold": 0.2}', NOW)],
    "refinement_relation": [(1, 1, 0.7, 1, 2, 1, 0.5)],
    "knowledge_neuron": [(1, 1, 3, 511, 1, 0.5)],
    "relation_neuron": [(1, 1, 3, 511, 1)],
    "fact_alias": [("f1-again", 1)],
    "probe": [
        (1, 1, BASE, "suppress", 1, '{"factor": 0.0, "seed": 0}', NOW),
        (2, 1, BASE, "activation", 1, '{"seed": 0}', NOW),
    ],
    "probe_fact": [(1, 1, "knowledge", "own", 1, 1, 0.75, 0.25, 1.0, 0.0, 1.0)],
    "probe_activation": [(2, 1, "head-and-tail", 2, 0.5)],
    "probe_text": [(2, 1, 1, "head-and-tail", "Apple made the iPod Touch.", 0.75)],
    "edit": [
        (
            1,
            1,
            "erase",
            "{}",
            OBJECT,
            f"{OBJECT[:2]}/{OBJECT}.safetensors",
            BASE,
            1,
            1,
            NOW,
            "ada",
            '{"7": 1}',
            CONDITIONS,
        )
    ],
    "edit_neuron": [(1, 3, 511, "layer.3.weight", digest("old"), digest("new"), digest("old"))],
    "edit_tensor": [(1, "head.weight", digest("old"), digest("new"), digest("old"))],
    "applied_edit": [(1, 0, 1)],
    "history": [(1, 1, "apply", 1, BASE, EDITED, NOW, "ada", None, CONDITIONS)],
    "snapshot": [(1, "before", BASE, NOW)],
    "evaluation": [(1, 1, BASE, EDITED, "{}", '{"success": 1.0}', NOW)],
    "evaluation_measure": [
        (1, "edited", "own", "success_rate", 1.0, 0.2, 1.0, 1),
        (1, "control", "inter", "perplexity_after", None, None, None, None),
    ],
    "edit_trial": [(1, 1, BASE, "bench", '{"method": "update"}', "running", NOW, None)],
    "edit_trial_result": [(1, "single", 0, 1, '{"edited": {}}')],
    "work_unit": [
        ("run 2", 0, "[1, 3]", "leased", "somebody", NOW, 1, "a worker died", None),
        ("probe of something", 0, "[1]", "done", None, None, 0, None, '{"facts": []}'),
    ],
}


def freeze() -> Path:
    """Writes the frozen database and gives its path."""
    path = FROZEN / f"{head_revision()}.sql"
    with tempfile.TemporaryDirectory() as folder, open_store(Path(folder, "kndb.db"), create=True) as store:
        with store.writing() as connection:
            facts.ingest(connection, [FACTS])
            for table, rows in ROWS.items():
                marks = ", ".join("?" * len(rows[0]))
                connection.exec_driver_sql(f"INSERT INTO {table} VALUES ({marks})", rows)
        with store.reading() as connection:
            dump = connection.connection.driver_connection.iterdump()
            path.write_text("\n".join(dump) + "\n", encoding="utf-8")
    return path


if __name__ == "__main__":
    freeze()
