"""Writes texts for `kndb probe activation` from kndb's own facts, for models that know no other words.

    python benchmarks/probe_texts.py > texts.jsonl
    kndb probe activation --model lab-bert --texts texts.jsonl

For each fact: its relation's held-out sentence with subject and object (head and tail), sentences of other relations
about its subject (head), and sentences of other relations about other subjects (neither). The sentences of the other
relations keep their blank. Held-out sentences played no part in finding the neurons.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

from kndb.facts import fill

FACTS = Path(__file__).parents[1] / "data" / "facts"
EACH = 5
"""Sentences about the head alone, and about neither."""


def main() -> None:
    """Writes one JSON object a line: fact (relation, subject, object), kind, text."""
    chance = random.Random(0)
    rows = [json.loads(line) for path in sorted(FACTS.glob("*.jsonl")) for line in path.read_text("utf-8").splitlines()]
    held_out: dict[str, list[str]] = {}
    for row in rows:
        if row.get("held_out"):
            held_out.setdefault(row["relation"], []).append(row["template"])
    facts = [row for row in rows if "subject" in row]
    subjects = sorted({fact["subject"] for fact in facts})
    for fact in facts:
        others = [text for relation, texts in held_out.items() if relation != fact["relation"] for text in texts]
        texts = [
            ("head-and-tail", fill(text, fact["subject"]).replace("[Y]", fact["object"]))
            for text in held_out[fact["relation"]]
        ]
        texts += [("head", fill(text, fact["subject"])) for text in chance.sample(others, EACH)]
        elsewhere = chance.sample([name for name in subjects if name != fact["subject"]], EACH)
        texts += [
            ("neither", fill(text, name)) for text, name in zip(chance.sample(others, EACH), elsewhere, strict=True)
        ]
        named = {name: fact[name] for name in ("relation", "subject", "object")}
        for kind, text in texts:
            sys.stdout.write(json.dumps({"fact": named, "kind": kind, "text": text}, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
