"""Reading results and facts for a file: rows by name, in an order that their content decides.

A table that was exported, imported into another store and exported there is the same but for the facts' numbers
(column `fact`), which each store has its own of. Rows are read a few at a time: a large run has millions of scores.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, text

from ..records.facts import Relation
from . import evaluation_prompts
from .facts import relations

_NEURONS = """
SELECT relation.key AS relation, fact.subject, fact.object, fact.external_id AS id, fact.id AS fact,
    'L' || knowledge_neuron.layer || '.N' || knowledge_neuron.neuron AS name, knowledge_neuron.layer,
    knowledge_neuron.neuron, knowledge_neuron.prompts, knowledge_neuron.mean_score
FROM fact
CROSS JOIN relation ON relation.id = fact.relation_id
CROSS JOIN knowledge_neuron ON knowledge_neuron.refinement_id = :refinement AND knowledge_neuron.fact_id = fact.id
WHERE fact.relation_id = :relation
ORDER BY fact.subject NULLS FIRST, fact.object, fact.external_id NULLS FIRST, knowledge_neuron.layer,
    knowledge_neuron.neuron
"""
_RESULTS = """
SELECT prompt.id AS prompt_id, relation.key AS relation, fact.subject, fact.object, fact.external_id AS id,
    fact.id AS fact, prompt.text AS prompt, probability, predicted, predicted_probability, correct, completeness_error,
    completeness_error_mean, max_score, min_score, evaluations, tokens, answer_tokens, skipped,
    worst_layer, layers_above
FROM fact
CROSS JOIN relation ON relation.id = fact.relation_id
CROSS JOIN prompt ON prompt.fact_id = fact.id
CROSS JOIN prompt_result ON prompt_result.run_id = :run AND prompt_result.prompt_id = prompt.id
WHERE fact.relation_id = :relation
ORDER BY fact.subject NULLS FIRST, fact.object, fact.external_id NULLS FIRST, prompt.text
"""
_SCORES = """
SELECT prompt_id, layer, neuron, score FROM score
WHERE run_id = :run AND prompt_id IN kndb_numbers(:prompts)
ORDER BY prompt_id, layer, neuron
"""
_FACTS = "SELECT id, subject, object, external_id FROM fact WHERE relation_id = ? ORDER BY id"
_SENTENCES = """
SELECT prompt.fact_id, prompt.text FROM fact CROSS JOIN prompt ON prompt.fact_id = fact.id
WHERE fact.relation_id = ? AND prompt.template_id IS NULL ORDER BY prompt.id
"""
_ALIASES = """
SELECT fact_alias.fact_id, fact_alias.external_id FROM fact CROSS JOIN fact_alias ON fact_alias.fact_id = fact.id
WHERE fact.relation_id = ? ORDER BY fact_alias.external_id
"""
_TEMPLATES = "SELECT text, held_out FROM template WHERE relation_id = ? ORDER BY id"
_CHUNK = 500


def chosen_relations(connection: Connection, keys: Sequence[str]) -> list[Relation]:
    """The relations of some keys, which exist (none named: all), by key."""
    return [relation for relation in relations(connection) if not keys or relation.key in keys]


def neuron_rows(connection: Connection, refinement_id: int, chosen: Sequence[Relation]) -> Iterator[dict[str, Any]]:
    """The neurons of a refinement's sets, with their facts, by relation, subject, object, identifier and neuron."""
    for relation in chosen:
        rows = connection.execute(text(_NEURONS), {"refinement": refinement_id, "relation": relation.id})
        yield from map(dict, rows.mappings())


def result_rows(connection: Connection, run_id: int, chosen: Sequence[Relation]) -> Iterator[dict[str, Any]]:
    """The results of a run's prompts, with their scores, by relation, subject, object, identifier and prompt."""
    for relation in chosen:
        results = connection.execute(text(_RESULTS), {"run": run_id, "relation": relation.id}).mappings()
        while rows := results.fetchmany(_CHUNK):
            scores: dict[int, list[list[Any]]] = {row["prompt_id"]: [] for row in rows}
            values_of = {"run": run_id, "prompts": json.dumps(list(scores))}
            for prompt_id, *score in connection.execute(text(_SCORES), values_of):
                scores[prompt_id].append(score)
            for row in rows:
                values = dict(row)
                values["scores"] = scores[values.pop("prompt_id")]
                layers = json.loads(row["layers_above"] or "{}")
                values["layers_above"] = [[int(layer), error] for layer, error in layers.items()] or None
                values["correct"] = None if row["correct"] is None else bool(row["correct"])
                yield values


def count_results(connection: Connection, run_id: int, chosen: Sequence[Relation]) -> int:
    """The number of rows of `result_rows`."""
    query = """
        SELECT COUNT(*) FROM prompt_result JOIN prompt ON prompt.id = prompt_id JOIN fact ON fact.id = fact_id
        WHERE run_id = ? AND relation_id IN kndb_numbers(?)
    """
    return int(connection.exec_driver_sql(query, (run_id, json.dumps([one.id for one in chosen]))).scalar_one())


def fact_rows(connection: Connection, chosen: Sequence[Relation]) -> Iterator[dict[str, Any]]:
    """The project's own list of some relations: for each its templates, then its facts, in the store's order.

    A fact's further identifiers follow in rows of their own. What a row does not name is missing.
    """
    for relation in sorted(chosen, key=lambda one: one.id):
        head: dict[str, Any] = {"relation": relation.key}
        if relation.label is not None:
            head["relation_label"] = relation.label
        for template, held_out in connection.exec_driver_sql(_TEMPLATES, (relation.id,)):
            yield {**head, "template": template, "held_out": bool(held_out)}
        sentences = _by_fact(connection, _SENTENCES, relation.id)
        aliases = _by_fact(connection, _ALIASES, relation.id)
        for number, subject, object_, external_id in connection.exec_driver_sql(_FACTS, (relation.id,)):
            fact = head if subject is None else {**head, "subject": subject}
            fact = {**fact, "object": object_, "fact": number}
            named = fact if external_id is None else {**fact, "id": external_id}
            more = {"sentences": sentences.get(number), "evaluation": _evaluation(connection, number)}
            yield {**named, **{name: value for name, value in more.items() if value}}
            for alias in aliases.get(number, ()):
                yield {**fact, "id": alias}


def _by_fact(connection: Connection, statement: str, relation_id: int) -> dict[int, list[str]]:
    """Texts of a relation's facts, by the facts' numbers."""
    found: dict[int, list[str]] = {}
    for number, one in connection.exec_driver_sql(statement, (relation_id,)):
        found.setdefault(number, []).append(one)
    return found


def _evaluation(connection: Connection, fact_id: int) -> list[dict[str, Any]]:
    """A fact's evaluation prompts as own lists have them; what a prompt has not is left out."""
    found = []
    for prompt in evaluation_prompts.of_fact(connection, fact_id):
        fields = {
            "kind": prompt.kind,
            "axis": prompt.axis,
            "text": prompt.text,
            "answers": list(prompt.answers),
            "new_object": prompt.new_object,
            "needs": evaluation_prompts.needs_as_json(prompt),
        }
        found.append({name: value for name, value in fields.items() if value})
    return found
