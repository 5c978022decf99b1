"""Prompts without a fact list: facts of a relation of their own, found again by prompt and answer."""

from __future__ import annotations

import json
from collections.abc import Sequence

from sqlalchemy import Connection, text

from ..records.facts import BLANK, FREE_PROMPTS, FactFile, FactRecord
from .ingest import ingest

LABEL = "free prompts"
SOURCE = "kndb attribute --prompt"
GAP = "…"
"""Stands in a fact's subject where its first prompt has the blank."""

_PRESENT = """
SELECT fact.id, fact.subject FROM fact
JOIN relation ON relation.id = fact.relation_id AND relation.key = :key
JOIN prompt ON prompt.fact_id = fact.id AND prompt.text IN kndb_texts(:prompts)
WHERE fact.object = :answer AND fact.subject IS NOT NULL
ORDER BY fact.id LIMIT 1
"""
_FACT = """
SELECT fact.id FROM fact JOIN relation ON relation.id = fact.relation_id
WHERE relation.key = :key AND fact.subject = :subject AND fact.object = :answer
"""


def add_free_prompts(connection: Connection, prompts: Sequence[str], answer: str) -> int:
    """Stores prompts as those of one fact, and gives its number.

    The fact that has one of these prompts and the answer already is taken, and gets the others too. A new one has its
    first prompt for a subject, with `…` in place of the blank.

    Args:
        connection: a writing transaction.
        prompts: sentences with one `[Y]` each, at least one.
        answer: the answer to all of them.
    """
    values = {"key": FREE_PROMPTS, "prompts": json.dumps(list(prompts)), "answer": answer}
    present = connection.execute(text(_PRESENT), values).first()
    subject = prompts[0].replace(BLANK, GAP) if present is None else str(present.subject)
    record = FactRecord(FREE_PROMPTS, subject, answer, None, tuple(dict.fromkeys(prompts)))
    ingest(connection, [FactFile(SOURCE, {FREE_PROMPTS: LABEL}, (), (record,))])
    found = connection.execute(text(_FACT), {"key": FREE_PROMPTS, "subject": subject, "answer": answer})
    return int(found.scalar_one())
