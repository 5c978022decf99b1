"""Tries the rules of `kndb edit update` on many facts of a model, and gradient steps: success against collateral.

    python benchmarks/update_rule.py --db kndb.db --model smollm2 --facts 50 --relations P36,P37,P30,P1376
    python benchmarks/update_rule.py --db kndb.db --model smollm2 --facts 50 --optimize
    python benchmarks/update_rule.py --db kndb.db --model lab-bert --facts 12 --relations P36,P176 --grid

The store must have the model and a refinement of it: `kndb attribute --model M --relation P36 --known-only`, then
`kndb refine`. Facts are drawn by the seed among those with knowledge neurons, in turns of the relations; each is given
another object of its relation, of one token. Each edit is planned and measured alone, in memory; nothing is stored.
Without --grid, the rules with their defaults are measured (gradient, output, and paper as published); with it, other
λ₂ and λ₁ ÷ λ₂ too. With --optimize, `kndb edit optimize` with its defaults is measured as well.

Measured: the share of the fact's prompts, and of its held-out ones, that the new answer wins; and, on prompts of
--others facts of the relation and as many of other relations whose held-out prompt the unedited model answers rightly
where it knows so many, the share of answers that stay, and perplexity after ÷ before. Means over facts.

--out FILE keeps each measurement as a line of JSON, and the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

import kndb
from kndb import UpdateSettings
from kndb.editing.objects.slots import edited
from kndb.errors import EditError
from kndb.models.answers import batched_log_probabilities
from kndb.models.network import Network
from kndb.models.prompting import EncodedPrompt
from kndb.records.facts import Fact, Prompt
from kndb.records.recipes import fact_recipe
from kndb.store import facts as store_facts
from kndb.store.choosing import choose
from kndb.store.edits import trials as edit_trials

PUBLISHED = {"rule": "paper", "lambda_new": 8.0, "lambda_old": 1.0}
DEFAULT: dict[str, Any] = {"rule": "gradient"}
OUTPUT: dict[str, Any] = {"rule": "output"}
OPTIMIZE: dict[str, Any] = {"method": "optimize"}
GRID: list[dict[str, Any]] = [
    *({"rule": "gradient", "lambda_new": new} for new in (0.03, 0.1, 0.3, 1.0, 3.0)),
    *({"rule": rule, "lambda_new": new, "lambda_old": ratio * new}
      for rule in ("output", "paper") for ratio in (0.0, 0.5, 1.0) for new in (0.25, 0.5, 1.0, 2.0, 4.0)),
]  # fmt: skip
SHOWN = ("success", "held_out", "relation_kept", "others_kept", "relation_factor", "others_factor", "lambda_new")


def main() -> None:
    """Measures, prints a line for each setting, and the same as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--db", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--facts", type=int, default=50)
    parser.add_argument("--relations", default="P36,P37,P30,P1376", help="with commas between them")
    parser.add_argument("--others", type=int, default=10, help="facts of the relation, and of others, to measure")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rules", default="gradient,output,paper", help="which, with commas between them")
    parser.add_argument("--grid", action="store_true", help="try λ₁ and λ₂, too")
    parser.add_argument("--optimize", action="store_true", help="measure gradient steps, too")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="keep the measurements here, and go on from those that are there")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with kndb.open(options.db) as database:
        rows = list(Run(database, options).rows())
    table = list(summary(rows))
    print(f"{'setting':38}" + "".join(f"{name:>17}" for name in ("facts", *SHOWN)))
    for row in table:
        print(f"{row['setting']:38}" + "".join(f"{row[name]:17.4g}" for name in ("facts", *SHOWN)))
    settings = {name: str(value) for name, value in vars(options).items()}
    print(json.dumps({"settings": settings, "table": table}, indent=2))


class Run:
    """The facts, what is measured on them, and the model."""

    def __init__(self, database: kndb.Database, options: argparse.Namespace) -> None:
        self._database, self._options = database, options
        self._version = database.models.load(options.model)
        self._network = Network(self._version.model, self._version.adapter)
        self._parameters = dict(self._version.model.named_parameters())
        with database.store.reading() as connection:
            self._facts = {fact.id: fact for fact in store_facts.find_facts(connection)}
            self._refinement = choose(connection, model=options.model).refinement.id
            usable = edit_trials.facts_with_neurons(connection, self._refinement)
            self._prompts: dict[int, list[Prompt]] = defaultdict(list)
            for prompt in store_facts.prompts(connection):
                self._prompts[prompt.fact_id].append(prompt)
        self._relations = options.relations.split(",")
        self._targets = list(self._drawn(usable))[: options.facts]
        outside = [number for number, fact in self._facts.items() if fact.relation not in self._relations]
        self._elsewhere = self._known(outside)
        self._near = {
            key: self._known([number for number, fact in self._facts.items() if fact.relation == key])
            for key in self._relations
        }

    def rows(self) -> Iterator[dict[str, Any]]:
        """One measurement after the other; those of --out that are there already come from it."""
        out: Path | None = self._options.out
        done = [json.loads(line) for line in out.read_text().splitlines()] if out is not None and out.exists() else []
        known = {(row["fact"], row["to"], row["setting"]): row for row in done}
        settings = [DEFAULT, OUTPUT, PUBLISHED, *(GRID if self._options.grid else ())]
        rules = self._options.rules.split(",")
        settings = [setting for setting in settings if setting["rule"] in rules]
        settings += [OPTIMIZE] if self._options.optimize else []
        started = time.perf_counter()
        for place, (fact, to) in enumerate(self._targets, 1):
            for setting in settings:
                name = named(setting)
                row = known.get((fact.id, to, name))
                if row is None:
                    row = {"fact": fact.id, "to": to, "setting": name, **self._measured(fact, to, setting)}
                    if out is not None:
                        with out.open("a") as file:
                            file.write(json.dumps(row) + "\n")
                yield row
            passed = time.perf_counter() - started
            print(f"{place} of {len(self._targets)} facts, {passed:.0f} s: {fact.title} to {to}", file=sys.stderr)

    def _measured(self, fact: Fact, to: str, setting: dict[str, Any]) -> dict[str, Any]:
        try:
            drafts = self._database.edits.drafts
            about = self._options.model, fact.id, to
            if setting == OPTIMIZE:
                draft = drafts.optimize(*about, on=self._version, report=False)
            else:
                draft = drafts.update(*about, UpdateSettings(**setting), on=self._version, report=False)
        except EditError as error:
            return {"unplanned": str(error)}
        recipe = fact_recipe(draft.content.recipe)
        texts = {prompt.text for prompt in self._prompts[fact.id]}
        groups = {
            "own": self._asked([prompt for prompt in self._prompts[fact.id] if not prompt.held_out]),
            "held": self._asked([prompt for prompt in self._prompts[fact.id] if prompt.held_out]),
            "relation": [
                prompt for number, text, prompt in self._near[fact.relation] if number != fact.id and text not in texts
            ][: self._options.others],
            "others": [prompt for _, _, prompt in self._elsewhere][: self._options.others],
        }
        before = {name: self._answers(groups[name]) for name in ("relation", "others")}
        with edited(self._parameters, draft.content):
            after = {name: self._answers(prompts) for name, prompts in groups.items()}
        row: dict[str, Any] = {"neurons": len(recipe.neurons), "lambda_new": getattr(recipe, "lambda_new", None)}
        for name, group in (("success", "own"), ("held_out", "held")):
            row[name] = mean(token == recipe.new_token for token, _ in after[group])
        for name in ("relation", "others"):
            pairs = list(zip(before[name], after[name], strict=True))
            row[f"{name}_kept"] = mean(first[0] == then[0] for first, then in pairs)
            row[f"{name}_factor"] = mean(first[1] - then[1] for first, then in pairs)
        return row

    def _drawn(self, usable: Sequence[int]) -> Iterator[tuple[Fact, str]]:
        chance = random.Random(self._options.seed)
        answers: dict[str, set[str]] = defaultdict(set)
        for fact in self._facts.values():
            answers[fact.relation].add(fact.object)
        of_relation = {key: [one for one in usable if self._facts[one].relation == key] for key in self._relations}
        for numbers in of_relation.values():
            chance.shuffle(numbers)
        encoder = self._version.encoder
        for turn in range(max(map(len, of_relation.values()), default=0)):
            for key, numbers in of_relation.items():
                if turn < len(numbers):
                    fact = self._facts[numbers[turn]]
                    others = [
                        word
                        for word in sorted(answers[key] - {fact.object})
                        if isinstance(encoder.answer_token(word), int)
                    ]
                    if others:
                        yield fact, random.Random(fact.id).choice(others)

    def _known(self, numbers: Sequence[int]) -> list[tuple[int, str, EncodedPrompt]]:
        """Held-out prompts of some of these facts, those that the model answers rightly first."""
        order = random.Random(self._options.seed).sample(numbers, min(len(numbers), 8 * self._options.others))
        found = []
        for number in order:
            for prompt in self._prompts[number]:
                encoded = self._encoded(prompt)
                if prompt.held_out and encoded is not None:
                    found.append((number, prompt.text, encoded))
                    break
        answers = self._answers([prompt for _, _, prompt in found])
        right = [token == prompt.answer for (_, _, prompt), (token, _) in zip(found, answers, strict=True)]
        return sorted(found, key=lambda one: not right[found.index(one)])[: self._options.others + 5]

    def _asked(self, prompts: Iterable[Prompt]) -> list[EncodedPrompt]:
        encoded = (self._version.encoder.encode(prompt.id, prompt.text, None) for prompt in prompts)
        return [prompt for prompt in encoded if isinstance(prompt, EncodedPrompt)]

    def _encoded(self, prompt: Prompt) -> EncodedPrompt | None:
        encoded = self._version.encoder.encode(prompt.id, prompt.text, prompt.answer, single_token=True)
        return encoded if isinstance(encoded, EncodedPrompt) else None

    def _answers(self, prompts: Sequence[EncodedPrompt]) -> list[tuple[int, float]]:
        """Of each prompt: the most probable token, and log p of its fact's object."""
        found = [(0, 0.0)] * len(prompts)
        for indices, log_probabilities in batched_log_probabilities(self._network, prompts, 64):
            for index, row in zip(indices, log_probabilities, strict=True):
                found[index] = int(row.argmax()), float(row[prompts[index].answer])
        return found


def named(setting: dict[str, Any]) -> str:
    """A setting in a few words."""
    if setting == OPTIMIZE:
        return "optimize"
    if "lambda_new" not in setting:
        return f"{setting['rule']}, fitted"
    if "lambda_old" not in setting:
        return f"{setting['rule']}, λ₂ {setting['lambda_new']:g}"
    return f"{setting['rule']}, λ₁ {setting['lambda_old']:g}, λ₂ {setting['lambda_new']:g}"


def mean(values: Iterable[float]) -> float | None:
    """The mean, None of nothing."""
    every = list(values)
    return sum(every) / len(every) if every else None


def summary(rows: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Means over facts by setting; a fact without a plan counts as not changed. Factors are geometric means."""
    for setting in dict.fromkeys(row["setting"] for row in rows):
        of_setting = [row for row in rows if row["setting"] == setting]
        line: dict[str, Any] = {"setting": setting, "facts": len(of_setting)}
        for name in SHOWN:
            values = [row[name] for row in of_setting if row.get(name) is not None]
            if name in ("success", "held_out"):
                values += [0.0 for row in of_setting if "unplanned" in row]
            found = mean(values)
            if found is not None and name.endswith("factor"):
                found = math.exp(min(found, 700.0))
            line[name] = math.nan if found is None else found
        yield line


if __name__ == "__main__":
    main()
