"""Which of the store's facts a model knows: the share of prompts whose most probable answer is the fact's.

    kndb ingest data/facts && kndb model add real-models/SmolLM2-135M-Instruct
    python benchmarks/known_facts.py --model SmolLM2-135M-Instruct

Forward passes only. An answer of several tokens is known if each of them is the most probable one after those before
it. Prints a JSON object: `prompts`, `known` and `probability` (mean, of the fact's answer) over all prompts, over
those of held-out templates, by relation and by template; `facts`, and how many of them are known on at least half of
their prompts; and the prompts that the model can't be asked, by reason.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

import kndb
from kndb.models.answers import batched_log_probabilities
from kndb.models.network import Network
from kndb.models.prompting import Skipped

AT_ONCE = 512
PROMPTS = """
    SELECT prompt.id, fact.id, relation.key, template.text, template.held_out, prompt.text, fact.object
    FROM prompt JOIN fact ON fact.id = prompt.fact_id JOIN relation ON relation.id = fact.relation_id
    JOIN template ON template.id = prompt.template_id ORDER BY prompt.id
"""


class Prompt(NamedTuple):
    """A prompt that a template made."""

    id: int
    fact: int
    relation: str
    template: str
    held_out: int
    text: str
    answer: str


class Asked(NamedTuple):
    """A prompt, whether its answer is known, and the answer's probability."""

    prompt: Prompt
    known: bool
    probability: float


def main() -> None:
    """Asks, and prints a JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a registered model")
    parser.add_argument("--relation", action="append", default=[], help="only this one; repeatable")
    parser.add_argument("--db", help="the store; default: $KNDB_DB, else ./kndb.db")
    options = parser.parse_args()
    with kndb.open(options.db) as database:
        print(json.dumps(measure(database, options.model, options.relation), indent=2))


def measure(database: kndb.Database, model: str, relations: list[str]) -> dict[str, Any]:
    """Asks a model all prompts of some relations (none named: of all)."""
    _, rows = database.query.sql(PROMPTS)
    prompts = [prompt for prompt in map(Prompt._make, rows) if not relations or prompt.relation in relations]
    version = database.models.load(model)
    network = Network(version.model, version.adapter)
    encoded, skipped = {}, Counter[str]()
    for prompt in prompts:
        found = version.encoder.encode(prompt.id, prompt.text, prompt.answer)
        if isinstance(found, Skipped):
            skipped[found.reason] += 1
        else:
            encoded[prompt.id] = found
    questions = [question for prompt in encoded.values() for question in prompt.questions]
    known: dict[int, bool] = dict.fromkeys(encoded, True)
    logarithm: dict[int, float] = dict.fromkeys(encoded, 0.0)
    for start in range(0, len(questions), AT_ONCE):
        part = questions[start : start + AT_ONCE]
        for places, found in batched_log_probabilities(network, part, batch_size=64):
            for place, row in zip(places, found, strict=True):
                question = part[place]
                known[question.prompt_id] &= int(row.argmax()) == question.answer
                logarithm[question.prompt_id] += float(row[question.answer])
        print(f"{min(start + AT_ONCE, len(questions))} of {len(questions)} questions", file=sys.stderr)
    asked = [Asked(one, known[one.id], math.exp(logarithm[one.id])) for one in prompts if one.id in encoded]
    relation_of = {one.prompt.relation: None for one in asked}
    templates = {(one.prompt.relation, one.prompt.template, one.prompt.held_out): None for one in asked}
    training = [one for one in asked if not one.prompt.held_out]
    return {
        "skipped": dict(skipped),
        "training": counted(training),
        "held_out": counted(one for one in asked if one.prompt.held_out),
        "by_relation": {key: counted(one for one in training if one.prompt.relation == key) for key in relation_of},
        "by_template": [
            {"relation": relation, "template": text, "held_out": bool(held_out)}
            | counted(one for one in asked if (one.prompt.relation, one.prompt.template) == (relation, text))
            for relation, text, held_out in templates
        ],
    }


def counted(asked: Iterable[Asked]) -> dict[str, float | int | None]:
    """How many prompts and facts there are, and how many of them are known."""
    rows = list(asked)
    by_fact: dict[int, list[bool]] = defaultdict(list)
    for row in rows:
        by_fact[row.prompt.fact].append(row.known)
    return {
        "prompts": len(rows),
        "known": sum(row.known for row in rows) / len(rows) if rows else None,
        "probability": sum(row.probability for row in rows) / len(rows) if rows else None,
        "facts": len(by_fact),
        "facts_known": sum(2 * sum(flags) >= len(flags) for flags in by_fact.values()),
    }


if __name__ == "__main__":
    main()
