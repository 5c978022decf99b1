"""Texts that would drive a terminal, and a database in which every text that comes from people is one."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
from pathlib import Path

EVIL = "\x1b[31mX\x1b]0;t\x07\x9b2J\u202eR\u2066\u200f\x85\u2028\x7f\r\n"
"""CSI and OSC sequences, C1 controls, overrides and marks of direction, separators, line breaks."""
OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def fill_with(path: Path, evil: str = EVIL) -> None:
    """Writes the text into each column of a database whose texts come from files, colleagues or the environment.

    Args:
        path: the database, as `make_rich` made it.
        evil: the text.
    """
    with contextlib.closing(sqlite3.connect(path)) as driver:
        for table, column in (
            ("relation", "label"),
            ("fact", "subject"),
            ("fact", "object"),
            ("fact", "source"),
            ("template", "text"),
            ("prompt", "text"),
            ("prompt_result", "predicted"),
            ("model", "source"),
            ("model", "family"),
            ("edit", "author"),
            ("history", "author"),
            ("probe_text", "text"),
        ):
            driver.execute(f'UPDATE "{table}" SET "{column}" = coalesce("{column}", \'\') || ?', (evil,))
        driver.execute("UPDATE relation SET key = key || ? WHERE key = 'P37'", (evil,))
        driver.execute("UPDATE run SET method = method || ? WHERE id = 2", (evil,))
        driver.execute("INSERT INTO snapshot SELECT model_id, ?, version, created_at FROM snapshot", (evil,))
        for number, text in driver.execute("SELECT id, recipe FROM edit").fetchall():
            recipe = _changed(json.loads(text), evil)
            driver.execute("UPDATE edit SET recipe = ? WHERE id = ?", (json.dumps(recipe, ensure_ascii=False), number))
        driver.commit()


def _changed(recipe: dict, evil: str) -> dict:
    if "fact" not in recipe:
        return recipe | {"relation": recipe["relation"] + evil}
    fact = recipe["fact"] | {"subject": recipe["fact"]["subject"] + evil}
    return recipe | {"old_answer": recipe["old_answer"] + evil, "to": recipe["to"] + evil, "fact": fact}
