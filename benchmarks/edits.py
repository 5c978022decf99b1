"""Measures edits of many facts of a lab model, beside random neurons: by the paper's rule, or by gradient steps.

    python benchmarks/edits.py --model lab-bert --facts 100 --lambda-old 1 --lambda-new 8 --max-share 0.1
    python benchmarks/edits.py --model lab-bert --facts 100 --method optimize

Each fact is given another answer of its relation, drawn at random, and edited alone; the measures are means over
facts. `relative_change` is the mean of perplexity after ÷ before − 1. A fact whose knowledge neurons are all left out
by --max-share counts as not changed.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import kndb
from kndb.database.edit_optimize import Settings
from kndb.database.lab import own_facts
from kndb.errors import EditError
from kndb.records import Edit

OWN = ("change_rate", "success_rate", "new_answer_probability_after")
OTHERS = ("perplexity_before", "perplexity_after", "accuracy_before", "accuracy_after", "unchanged")


def main() -> None:
    """Attributes, plans and measures, and prints a JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="lab-bert")
    parser.add_argument("--method", choices=("update", "optimize"), default="update")
    parser.add_argument("--facts", type=int, default=100)
    parser.add_argument("--lambda-old", type=float, default=1.0, help="of method update")
    parser.add_argument("--lambda-new", type=float, default=8.0, help="of method update")
    parser.add_argument("--keep", type=float, default=Settings.keep, help="of method optimize")
    parser.add_argument("--max-share", type=float, help="default: 0.1 for update, 1 for optimize")
    parser.add_argument("--sample", type=int, default=50, help="facts of other relations measured for each edit")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--db", help="a store to use; one with a refinement of the model is not attributed again")
    options = parser.parse_args()
    if options.max_share is None:
        options.max_share = 0.1 if options.method == "update" else 1.0
    with tempfile.TemporaryDirectory() as scratch, kndb.open(options.db or Path(scratch) / "kndb.db") as database:
        print(json.dumps(measure(database, options), indent=2))


def measure(database: kndb.Database, options: argparse.Namespace) -> dict[str, object]:
    """Edits the facts one by one; nothing is applied."""
    database.facts.ingest([own_facts()])
    database.models.get(options.model)
    if not database.attribution.refinements(options.model):
        database.attribution.run(options.model)
        database.attribution.refine(model=options.model)
    draw = random.Random(options.seed)
    facts = database.facts.find()
    answers = defaultdict(set)
    for fact in facts:
        answers[fact.relation].add(fact.object)
    totals: dict[str, list[float]] = defaultdict(list)
    unplanned = 0
    for fact in draw.sample(facts, options.facts):
        target = draw.choice(sorted(answers[fact.relation] - {fact.object}))
        try:
            started = time.perf_counter()
            edit = plan(database, options, fact.id, target)
        except EditError:
            unplanned += 1
            continue
        planned = time.perf_counter()
        measures = database.edits.evaluate(edit.id, sample=options.sample, seed=options.seed).measures
        totals["neurons"].append(edit.neurons)
        totals["seconds_to_plan"].append(planned - started)
        for who in ("edited", "control"):
            for group, names in (("own", OWN), ("own_held_out", OWN), ("intra", OTHERS), ("inter", OTHERS)):
                for name in names:
                    totals[f"{who}.{group}.{name}"].append(measures[who][group].get(name, 0.0))
            for group in ("intra", "inter"):
                ratio = measures[who][group]["perplexity_after"] / measures[who][group]["perplexity_before"]
                totals[f"{who}.{group}.relative_change"].append(ratio - 1)
        _report(totals)
    means = {name: sum(values) / len(values) for name, values in totals.items()}
    for name in [name for name in means if name.endswith(("change_rate", "success_rate"))]:
        means[f"{name}.all_facts"] = sum(totals[name]) / options.facts
    settings = {name: value for name, value in vars(options).items() if name != "db"}
    return {**settings, "facts_without_usable_neurons": unplanned, **means}


def _report(totals: dict[str, list[float]]) -> None:
    """Says how it goes: means so far."""
    names = ("own.success_rate", "own_held_out.success_rate", "intra.relative_change", "inter.relative_change")
    count = len(totals["neurons"])
    parts = [
        f"{who}.{name} {sum(totals[f'{who}.{name}']) / count:.4f}" for who in ("edited", "control") for name in names
    ]
    print(f"{count} facts", *parts, sep="; ", file=sys.stderr)


def plan(database: kndb.Database, options: argparse.Namespace, fact: int, target: str) -> Edit:
    """Plans one edit by the chosen method."""
    if options.method == "optimize":
        settings = Settings(keep=options.keep)
        return database.edits.plan_optimize(options.model, fact, target, settings=settings, max_share=options.max_share)
    return database.edits.plan_update(
        options.model,
        fact,
        target,
        lambda_old=options.lambda_old,
        lambda_new=options.lambda_new,
        max_share=options.max_share,
    )


if __name__ == "__main__":
    main()
