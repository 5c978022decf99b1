"""Measures edits of many facts, each alone: of a lab model, or of a registered checkpoint whose facts are refined.

    python benchmarks/edits.py --model lab-bert --facts 100 --rule paper --lambda-old 1 --lambda-new 8 --max-share 0.1
    python benchmarks/edits.py --model lab-bert --facts 100 --method optimize
    python benchmarks/edits.py --db real.db --model smollm2 --facts 50 --method optimize --intra 10 --no-control

Without --db, a lab model is attributed in a store that is thrown away. With --db, the newest refinement of the model in
that store is used, and nothing is written to it; attribute known facts of several relations before:

    kndb attribute --model smollm2 --relation P36 --relation P37 --known-only && kndb refine

Each fact is given another answer of its relation, drawn at random, of one token; never one that is right for its
subject too. It is edited in memory, measured, and taken back. The values are means over facts: of success (the new
answer is the most probable one) over the fact's prompts, of paraphrase over its held-out ones; `_change` is perplexity
after ÷ before − 1, `_locality` the share of prompts with the same answer, over --intra other facts of the relations and
--inter facts of relations without an edited one. A fact that can't be edited counts as not changed. Seconds are of
processor time.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

import kndb
from kndb import OptimizeSettings, TrialSettings, UpdateSettings
from kndb.database.edits.draft import Draft
from kndb.database.edits.trial_facts import TrialTarget
from kndb.database.edits.trial_measures import TrialRun
from kndb.database.lab import own_facts
from kndb.records.edit_settings import EditSettings


class TimedRun(TrialRun):
    """A trial that knows how long its plans took."""

    def plan(self, target: TrialTarget, method: EditSettings) -> Draft:
        """As `TrialRun.plan`; the seconds are added to `TAKEN`."""
        started = time.process_time()
        try:
            return super().plan(target, method)
        finally:
            TAKEN.append(time.process_time() - started)


TAKEN: list[float] = []
"""Processor seconds of each plan."""


def main() -> None:
    """Attributes if need be, plans and measures, and prints a JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="lab-bert", help="a lab model, or one registered in the store")
    parser.add_argument("--method", choices=("update", "optimize"), default="update")
    parser.add_argument("--facts", type=int, default=100)
    parser.add_argument("--relation", action="append", help="whose facts to edit; default: all with knowledge neurons")
    parser.add_argument("--rule", default=UpdateSettings.rule, help="of method update")
    parser.add_argument("--lambda-old", type=float, default=UpdateSettings.lambda_old, help="of method update")
    parser.add_argument("--lambda-new", type=float, default=UpdateSettings.lambda_new, help="of method update")
    parser.add_argument("--keep", type=float, default=OptimizeSettings.keep, help="of method optimize")
    parser.add_argument("--steps", type=int, default=OptimizeSettings.steps, help="of method optimize")
    parser.add_argument("--max-share", type=float, help="default: that of the method")
    parser.add_argument("--intra", type=int, default=50, help="other facts of the relations measured for each edit")
    parser.add_argument("--inter", type=int, help="facts of other relations measured; default: as --intra")
    parser.add_argument("--no-control", action="store_true", help="measure no random neurons")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--db", help="a store with a refinement of the model")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, kndb.open(options.db or Path(scratch) / "kndb.db") as database:
        if options.db is None:
            database.facts.ingest([own_facts()])
            database.models.get(options.model)
            database.attribution.run(options.model)
            database.attribution.refine(model=options.model)
        print(json.dumps(measure(database, options), indent=2))


def measure(database: kndb.Database, options: argparse.Namespace) -> dict[str, object]:
    """Edits the facts one by one; nothing is stored."""
    version = database.models.load(options.model)
    refinement = database.query.refinement(None, options.model, edit=None).id
    method: EditSettings
    if options.method == UpdateSettings.method:
        method = UpdateSettings(options.rule, options.lambda_old, options.lambda_new, options.max_share)
    else:
        share = OptimizeSettings.max_share if options.max_share is None else options.max_share
        method = OptimizeSettings(keep=options.keep, steps=options.steps, max_share=share)
    relations = options.relation or refined_relations(database, refinement)
    settings = TrialSettings(
        options.facts, options.intra, options.inter or options.intra, relations=relations, seed=options.seed
    )
    run = TimedRun(database.store, database.edits.drafts, version, None, refinement, settings)
    totals: dict[str, list[float]] = defaultdict(list)
    unplanned: list[str] = []
    started = time.process_time()
    for done, target in enumerate(run.facts.targets, 1):
        found = run.single(target, method, control=not options.no_control)
        if "unplanned" in found:
            unplanned.append(f"{target.fact.title}: {found['unplanned']}")
            continue
        totals["neurons"].append(found["neurons"])
        for who in ("edited", "control"):
            for name, value in found.get(who, {}).items():
                totals[f"{who}.{name}"].append(value)
        _report(done, totals)
    means = {name: sum(values) / len(values) for name, values in totals.items()}
    for name in [name for name in means if name.endswith(("success", "paraphrase"))]:
        means[f"{name}.all_facts"] = sum(totals[name]) / (len(totals[name]) + len(unplanned))
    planned = sorted(TAKEN)
    return {
        **{name: value for name, value in vars(options).items() if name != "db"},
        "facts": len(run.facts.targets),
        "facts_of": dict(Counter(target.fact.relation for target in run.facts.targets)),
        "not_edited": unplanned,
        "seconds_to_plan": {"mean": sum(planned) / len(planned), "most": planned[-1]} if planned else None,
        "seconds_a_fact": (time.process_time() - started) / len(run.facts.targets),
        **means,
    }


def refined_relations(database: kndb.Database, refinement: int) -> list[str]:
    """The relations that have knowledge neurons; none, which takes three quarters of them, if all have."""
    found = [row.relation for row in database.query.counts(refinement=refinement) if row.relation and row.neurons]
    every = {fact.relation for fact in database.facts.find()}
    return [] if every <= set(found) else found


def _report(done: int, totals: dict[str, list[float]]) -> None:
    """Says how it goes: means so far."""
    names = ("success", "paraphrase", "intra_change", "inter_change", "inter_locality")
    values = {name: totals[f"edited.{name}"] for name in names if totals[f"edited.{name}"]}
    parts = [f"{name} {sum(found) / len(found):.4f}" for name, found in values.items()]
    print(f"{done} facts", *parts, f"{sum(TAKEN) / len(TAKEN):.1f} s a plan", sep="; ", file=sys.stderr)


if __name__ == "__main__":
    main()
