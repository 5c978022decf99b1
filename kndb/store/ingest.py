"""Adding fact lists to the store.

A relation's prompts are every template filled with every named subject, whichever of the two came first, and
the prompts that files write out. A prompt that is both belongs to its template, so the order of ingests makes
no difference. Nothing is ever changed by reading a file again, save a label that was missing. Prompts that only
measure edits are in a table of their own (`evaluation_prompts`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import Connection

from ..advice import Placeholder, option
from ..errors import InputError, RejectedLine
from ..records.facts import BLANK, SUBJECT_SLOT, FactFile, FactRecord, IngestReport
from ..sentences import CLOSING_MARKS
from . import evaluation_prompts
from .backends.finding import backend_of

MOST_PROMPTS = 20_000_000
"""That one ingest may add: some 3 GB in the store. Facts times templates grow much faster than the file they are in."""

_CLOSING = CLOSING_MARKS + "".join(filter(str.isspace, map(chr, range(0x3001))))

_ADD_RELATION = """
    INSERT INTO relation (key, label) VALUES (?, ?)
    ON CONFLICT (key) DO UPDATE SET label = excluded.label WHERE relation.label IS NULL AND excluded.label IS NOT NULL
"""
_ADD_TEMPLATE = """
    INSERT INTO template (relation_id, text, held_out) VALUES (?, ?, ?)
    ON CONFLICT DO NOTHING
"""
_ADD_FACT = """
    INSERT INTO fact (relation_id, subject, object, external_id, source) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT DO NOTHING
"""
_ADD_ALIAS = """
    INSERT INTO fact_alias (external_id, fact_id)
    SELECT ?, id FROM fact
    WHERE relation_id = ? AND subject = ? AND object = ? AND (external_id IS NULL OR external_id <> ?)
    ON CONFLICT DO NOTHING
"""
# CROSS JOIN keeps the facts in the outer loop, so that both indexes of prompt grow at their end.
_ADD_FILLED_PROMPTS = f"""
    INSERT INTO prompt (fact_id, template_id, text)
    SELECT fact.id, template.id, replace(template.text, '{SUBJECT_SLOT}', fact.subject)
    FROM fact CROSS JOIN template ON template.relation_id = fact.relation_id
    WHERE fact.subject IS NOT NULL AND fact.relation_id IN kndb_numbers(?)
    ORDER BY fact.id, template.id
    ON CONFLICT DO NOTHING
"""  # noqa: S608 - SUBJECT_SLOT is a constant
_WRITTEN_PROMPTS = """
    SELECT EXISTS (
        SELECT 1 FROM prompt JOIN fact ON fact.id = prompt.fact_id
        WHERE prompt.template_id IS NULL AND fact.subject IS NOT NULL AND fact.relation_id IN kndb_numbers(?)
            AND EXISTS (SELECT 1 FROM template WHERE template.relation_id = fact.relation_id))
"""
_CLAIM_PROMPTS = f"""
    UPDATE prompt SET template_id = made.template_id
    FROM (
        SELECT written.id, min(template.id) AS template_id
        FROM fact
        JOIN prompt AS written ON written.fact_id = fact.id AND written.template_id IS NULL
        JOIN template ON template.relation_id = fact.relation_id
            AND replace(template.text, '{SUBJECT_SLOT}', fact.subject) = written.text
        WHERE fact.subject IS NOT NULL AND fact.relation_id IN kndb_numbers(?)
        GROUP BY written.id
    ) AS made
    WHERE prompt.id = made.id
"""  # noqa: S608 - SUBJECT_SLOT is a constant
"""A prompt that a file wrote out, and a template makes as well, is the template's."""
_COUNT_FILLED_PROMPTS = """
    SELECT key, facts, templates FROM (
        SELECT key,
            (SELECT count(*) FROM fact WHERE relation_id = relation.id AND subject IS NOT NULL) AS facts,
            (SELECT count(*) FROM template WHERE relation_id = relation.id) AS templates
        FROM relation WHERE id IN kndb_numbers(?)
    ) AS counted
    ORDER BY facts * templates DESC, key
"""
_COUNT_PROMPTS = """
    SELECT count(*) FROM prompt JOIN fact ON fact.id = prompt.fact_id
    WHERE fact.relation_id IN kndb_numbers(?) AND fact.subject IS NOT NULL
"""
_ADD_NAMED_PROMPT = """
    INSERT INTO prompt (fact_id, text)
    SELECT id, ? FROM fact WHERE relation_id = ? AND subject = ? AND object = ?
    ON CONFLICT DO NOTHING
"""
_ADD_UNNAMED_PROMPT = """
    INSERT INTO prompt (fact_id, text)
    SELECT id, ? FROM fact WHERE relation_id = ? AND subject IS NULL AND external_id = ?
    ON CONFLICT DO NOTHING
"""
_COUNT_BLANK_LAST = f"""
    SELECT count(*) FROM prompt JOIN fact ON fact.id = prompt.fact_id
    WHERE fact.relation_id IN kndb_numbers(?)
    AND rtrim(substr(prompt.text, kndb_place(prompt.text, '{BLANK}') + {len(BLANK)}), ?) = ''
"""  # noqa: S608 - BLANK is a constant


def ingest(connection: Connection, files: Iterable[FactFile], most_prompts: int = MOST_PROMPTS) -> IngestReport:
    """Adds what fact files hold: relations, templates, facts, and the prompts that follow.

    Of what is there already, the first stays: a fact's external id and source, a template's `held_out`. A
    label that was missing is filled in; another identifier of a fact is kept as an alias.

    Args:
        connection: a writing transaction.
        files: the files, as `kndb.facts.read` gives them.
        most_prompts: how many prompts may be added.

    Returns:
        What was new; `prompts_blank_last` counts all prompts of these relations, new or not.

    Raises:
        InputError: if a fact without a subject comes with another object than its identifier has by now, or there are
            too many prompts.
    """
    before = _counts(connection)
    relations: dict[str, int] = {}
    rejected: list[RejectedLine] = []
    edited: set[tuple[str, str | None, str | None]] = set()
    seen = 0
    for file in files:
        relations |= _add_relations(connection, file)
        _add_templates(connection, file, relations)
        _add_facts(connection, file, relations)
        _add_written_prompts(connection, file, relations)
        evaluation_prompts.add(connection, file.facts, relations)
        rejected += file.rejected
        seen += len(file.facts)
        edited |= {record.name for record in file.facts if record.edit is not None}
    ids = json.dumps(sorted(relations.values()))
    _require_few_prompts(connection, ids, most_prompts)
    # These join all that is there. Planned for the rows of before, where these were few, they may take hours.
    backend = backend_of(connection)
    backend.grown(connection, "relation", "template", "fact", "fact_alias", "prompt")
    connection.exec_driver_sql(_ADD_FILLED_PROMPTS, (ids,))
    backend.grown(connection, "prompt")
    if connection.exec_driver_sql(_WRITTEN_PROMPTS, (ids,)).scalar_one():
        connection.exec_driver_sql(_CLAIM_PROMPTS, (ids,))
    after = _counts(connection)
    return IngestReport(
        facts_added=after["fact"] - before["fact"],
        facts_seen=seen,
        prompts_added=after["prompt"] - before["prompt"],
        templates_added=after["template"] - before["template"],
        relations=len(relations),
        rejected=tuple(rejected),
        prompts_blank_last=int(connection.exec_driver_sql(_COUNT_BLANK_LAST, (ids, _CLOSING)).scalar_one()),
        evaluation_prompts_added=after["evaluation_prompt"] - before["evaluation_prompt"],
        new_answers=len(edited),
    )


def _require_few_prompts(connection: Connection, ids: str, most: int) -> None:
    """Refuses lists whose templates and facts make too many prompts, before any is made."""
    counts = connection.exec_driver_sql(_COUNT_FILLED_PROMPTS, (ids,)).all()
    there = connection.exec_driver_sql(_COUNT_PROMPTS, (ids,)).scalar_one()
    if sum(facts * templates for _, facts, templates in counts) - there > most:
        key, facts, templates = counts[0]
        raise InputError(
            f"these lists make more than {most:,} new prompts, the most that are added at a time: of relation {key}, "
            f"each of {facts:,} facts is asked by each of {templates:,} templates. Read fewer relations with "
            f"{option('relations', [Placeholder('KEY')])}, leave templates out, or allow more with "
            f"{option('most_prompts', 4 * most)}"
        )


def _counts(connection: Connection) -> dict[str, int]:
    tables = ("fact", "prompt", "template", "evaluation_prompt")
    queries = {table: f"SELECT count(*) FROM {table}" for table in tables}  # noqa: S608
    return {table: connection.exec_driver_sql(query).scalar_one() for table, query in queries.items()}


def _add_relations(connection: Connection, file: FactFile) -> dict[str, int]:
    """Adds the file's relations and gives the ids of all of them."""
    _execute_many(connection, _ADD_RELATION, list(file.relations.items()))
    query = "SELECT key, id FROM relation WHERE key IN kndb_texts(?)"
    rows = connection.exec_driver_sql(query, (json.dumps(list(file.relations)),))
    return {row[0]: row[1] for row in rows}


def _add_templates(connection: Connection, file: FactFile, relations: Mapping[str, int]) -> None:
    rows = [(relations[record.relation], record.text, record.held_out) for record in file.templates]
    _execute_many(connection, _ADD_TEMPLATE, rows)


def _add_facts(connection: Connection, file: FactFile, relations: Mapping[str, int]) -> None:
    rows = [
        (relations[record.relation], record.subject, record.object, record.external_id, file.source)
        for record in file.facts
    ]
    _execute_many(connection, _ADD_FACT, rows)
    backend_of(connection).grown(connection, "fact")  # It is looked up row by row from here on.
    aliases = [
        (record.external_id, relations[record.relation], record.subject, record.object, record.external_id)
        for record in file.facts
        if record.external_id is not None and record.subject is not None
    ]
    _execute_many(connection, _ADD_ALIAS, aliases)
    _require_same_objects(connection, [record for record in file.facts if record.subject is None], relations)


def _require_same_objects(connection: Connection, unnamed: list[FactRecord], relations: Mapping[str, int]) -> None:
    if not unnamed:
        return
    query = """
        SELECT relation_id, external_id, object FROM fact
        WHERE subject IS NULL AND relation_id IN kndb_numbers(?)
    """
    ids = json.dumps(sorted({relations[record.relation] for record in unnamed}))
    stored = {(row[0], row[1]): row[2] for row in connection.exec_driver_sql(query, (ids,))}
    for record in unnamed:
        found = stored[relations[record.relation], record.external_id]
        if found != record.object:
            raise InputError(
                f"fact {record.external_id!r} of relation {record.relation} has the object {found!r} in the store, and "
                f"{record.object!r} here; facts without a subject need identifiers of their own"
            )


def _add_written_prompts(connection: Connection, file: FactFile, relations: Mapping[str, int]) -> None:
    named: list[tuple[object, ...]] = []
    unnamed: list[tuple[object, ...]] = []
    for record in file.facts:
        relation = relations[record.relation]
        if record.subject is None:
            unnamed += [(text, relation, record.external_id) for text in record.prompts]
        else:
            named += [(text, relation, record.subject, record.object) for text in record.prompts]
    _execute_many(connection, _ADD_NAMED_PROMPT, named)
    _execute_many(connection, _ADD_UNNAMED_PROMPT, unnamed)


def _execute_many(connection: Connection, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
    """Runs the driver's own executemany, more than twice as fast as SQLAlchemy's insert."""
    if rows:
        connection.exec_driver_sql(statement, list(rows))
