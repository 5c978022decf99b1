"""Makes the tables of docs/real-models.md from the results of benchmarks/real_models.py, and puts them into the page.

In the page, what stands between `<!-- table: NAME -->` and `<!-- end -->` is made here; nothing else is touched.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

NOTHING = ""
REAL = "SmolLM2-135M-Instruct"
MARKED = re.compile(r"(<!-- table: ([a-z]+) -->\n).*?(<!-- end -->)", re.DOTALL)
PAPER: dict[str, tuple[str, str]] = {
    "facts (relations)": ("27,738 (34)", "6,952 (20)"),
    "prompts": ("253,448", NOTHING),
    "knowledge neurons per fact: mean": ("4.13", "8.39"),
    "quartiles": (NOTHING, "4, 7, 11"),
    "mean, activation baseline": ("3.96", NOTHING),
    "neurons that two facts of a relation share": ("1.23", "3.15"),
    "of these facts, with the same object": (NOTHING, "4.66"),
    "with different objects": (NOTHING, "2.38"),
    "neurons that facts of two relations share": ("0.09", "0.29"),
    "layer with most of them, and its share": ("last quarter", "11 of 0–11: 27 %"),
    "answer's probability, neurons suppressed": ("−29.03 %", NOTHING),
    "baseline's neurons suppressed": ("−1.47 %", NOTHING),
    "answer's probability, neurons amplified": ("+31.17 %", NOTHING),
    "baseline's neurons amplified": ("−1.27 %", NOTHING),
    "new answers by a rule (`edit update`): success": ("34.4 %", NOTHING),
    "random neurons: success": ("0.0 %", NOTHING),
}
"""Dai et al. 2022 for BERT-base-cased, and EleutherAI's published sets for bert-base-uncased: see docs/paper.md."""

Row = dict[str, Any]


class Model:
    """What was measured of one model; None wherever a step was not run."""

    def __init__(self, name: str, steps: dict[str, Row]) -> None:
        self.name = name
        self._steps = steps

    def output(self, step: str) -> Any:
        """What a step printed, or what was kept of it."""
        found = self._steps.get(f"{self.name}.{step}")
        return None if found is None else found["output"]

    def all_of(self, step: str) -> Row | None:
        """The row over all relations of a query's answer."""
        return next((row for row in self.output(step) or () if row["relation"] in (None, "all")), None)

    def scaled(self, kind: str, neurons: str, prompts: str = "own", relation: str = "all") -> Row | None:
        """A row of a probe's summary."""
        wanted = (relation, neurons, prompts)
        rows = self.output(kind) or ()
        return next((row for row in rows if (row["relation"], row["neurons_from"], row["prompts_of"]) == wanted), None)

    def trial(self, method: str, weights: str) -> Row | None:
        """A row of a bench: each fact edited alone, or as many random neurons."""
        rows = self.output(method) or ()
        return next((row for row in rows if (row["part"], row["weights"]) == ("single", weights)), None)


def models(content: Row) -> list[Model]:
    """The models that were measured, in the order of their steps."""
    names = dict.fromkeys(name.partition(".")[0] for name in content["steps"] if "." in name)
    return [Model(name, content["steps"]) for name in names]


# --- the tables -----------------------------------------------------------------------------------------------


def paper(content: Row) -> str:
    """The paper's table, a column for each model."""
    found = models(content)
    columns = [dict(_paper_column(model)) for model in found]
    names = dict.fromkeys(name for column in (*columns, PAPER) for name in column)
    rows = [
        [name, *PAPER.get(name, (NOTHING, NOTHING)), *(column.get(name, NOTHING) for column in columns)]
        for name in names
    ]
    heads = ["measure", "paper, BERT-base-cased", "published, bert-base-uncased", *(model.name for model in found)]
    return _table(heads, rows)


def _paper_column(model: Model) -> Iterator[tuple[str, str]]:
    counts, errors = model.all_of("counts"), model.output("errors")
    relations = model.output("refine")
    yield "facts (relations)", f"{counts['facts']:,} ({len(relations)})" if counts and relations else NOTHING
    yield "prompts", f"{errors['all']['prompts']:,}" if errors else NOTHING
    yield "knowledge neurons per fact: mean", _number(counts, "mean")
    quartiles = [_number(counts, name, 0) for name in ("first_quartile", "median", "third_quartile")]
    yield "quartiles", ", ".join(quartiles) if counts else NOTHING
    yield "mean, activation baseline", _number(model.all_of("counts-activation"), "mean")
    overlap = {row["where"]: row for row in model.output("overlap") or ()}
    yield "neurons that two facts of a relation share", _number(overlap.get("within"), "mean_of_means")
    yield "of these facts, with the same object", _number(overlap.get("within"), "same_object_mean")
    yield "with different objects", _number(overlap.get("within"), "different_object_mean")
    yield "neurons that facts of two relations share", _number(overlap.get("across"), "mean_of_means")
    layers = model.output("layers") or ()
    most = max(layers, key=lambda row: row["share"], default=None)
    where = f"{most['layer']} of 0–{len(layers) - 1}: {_whole(most['share'])}" if most else NOTHING
    yield "layer with most of them, and its share", where
    yield "Jaccard index of paraphrases' coarse sets", _number(model.all_of("consistency"), "mean")
    for kind, done in (("suppress", "suppressed"), ("amplify", "amplified")):
        yield f"answer's probability, neurons {done}", _change(model.scaled(kind, "knowledge"))
        yield f"baseline's neurons {done}", _change(model.scaled(kind, "activation"))
        yield f"random neurons {done}", _change(model.scaled(kind, "random"))
    yield "first answers that change when suppressed", _share(model.scaled("suppress", "knowledge"), "flips")
    for method, how in (("update", "by a rule (`edit update`)"), ("optimize", "by gradient steps (`edit optimize`)")):
        yield f"new answers {how}: success", _share(model.trial(method, "edit"), "success")
        if method == "update":
            yield "random neurons: success", _share(model.trial(method, "random neurons"), "success")


def known(content: Row) -> str:
    """What each model knows, by relation; of the real model, which templates ask for it best and worst."""
    rows = []
    for model in models(content):
        output = model.output("known")
        if output is None:
            continue
        per_relation = {"all": output["training"], **(output["by_relation"] if model.name == REAL else {})}
        for relation, row in per_relation.items():
            templates = [one for one in output["by_template"] if relation in ("all", one["relation"])]
            held_out = _pooled(one for one in templates if one["held_out"])
            used = [one for one in templates if not one["held_out"]]
            ends = [
                f"{_whole(one['known'])}: {one['template']}" for one in (max(used, key=_known), min(used, key=_known))
            ]
            rows.append(
                [
                    model.name,
                    relation,
                    f"{row['facts']:,}",
                    f"{row['prompts']:,}",
                    _share(row, "known"),
                    _number(row, "probability"),
                    f"{row['facts_known']:,}",
                    held_out,
                ]
                + (ends if relation != "all" else [NOTHING, NOTHING])
            )
    heads = [
        "model",
        "relation",
        "facts",
        "prompts",
        "known",
        "mean p",
        "facts known on half of their prompts",
        "known, held-out template",
        "best template",
        "worst",
    ]
    return _table(heads, rows)


def _known(row: Row) -> float:
    return float(row["known"])


def _pooled(rows: Iterable[Row]) -> str:
    counts = [(row["known"] * row["prompts"], row["prompts"]) for row in rows]
    total = sum(number for _, number in counts)
    return _percent(sum(number for number, _ in counts) / total) if total else NOTHING


def errors(content: Row) -> str:
    """How right the integrals are: completeness errors of the attributed prompts."""
    rows = []
    for model in models(content):
        for relation, row in (model.output("errors") or {}).items():
            if relation == "all" or model.name == REAL:
                numbers = [_small(row[name]) for name in ("mean", "p95", "largest")]
                rows.append(
                    [
                        model.name,
                        relation,
                        f"{row['prompts']:,}",
                        *numbers,
                        _percent(row["above"]),
                        f"{row['evaluations']:.1f}",
                    ]
                )
    heads = [
        "model",
        "relation",
        "prompts",
        "mean",
        "95 %",
        "largest",
        "above the tolerance of 0.001",
        "gradient evaluations per prompt",
    ]
    return _table(heads, rows)


def layers(content: Row) -> str:
    """Where the (fact, neuron) pairs lie: shares of five parts of a model's depth, and of its last layer."""
    rows = []
    for model in models(content):
        found = model.output("layers")
        if found:
            shares = [row["share"] for row in sorted(found, key=lambda row: row["layer"])]
            parts = [0.0] * 5
            for place, share in enumerate(shares):
                parts[5 * place // len(shares)] += share
            rows.append(
                [
                    model.name,
                    str(len(shares)),
                    *(_percent(part) for part in parts),
                    _percent(shares[0]),
                    _percent(shares[-1]),
                ]
            )
    heads = ["model", "layers", "first fifth", "second", "third", "fourth", "last fifth", "first layer", "last layer"]
    return _table(heads, rows)


def scaling(content: Row) -> str:
    """Suppressing and amplifying, beside both controls, by relation."""
    rows = []
    for model in models(content):
        relations = dict.fromkeys(row["relation"] for row in model.output("suppress") or ())
        for relation in relations if model.name == REAL else ["all"]:
            arms = [
                _change(model.scaled(kind, neurons, prompts, relation))
                for kind in ("suppress", "amplify")
                for neurons, prompts in (
                    ("knowledge", "own"),
                    ("activation", "own"),
                    ("random", "own"),
                    ("knowledge", "other"),
                )
            ]
            row = model.scaled("suppress", "knowledge", "own", relation)
            if row is not None:
                accuracy = f"{_share(row, 'correct_before')} → {_share(row, 'correct_after')}"
                rows.append([model.name, relation, f"{row['facts']:,}", _number(row, "neurons", 1), *arms, accuracy])
    heads = [
        "model",
        "relation",
        "facts",
        "neurons",
        "suppressed",
        "baseline's",
        "random",
        "others' answers",
        "amplified",
        "baseline's",
        "random",
        "others' answers",
        "accuracy, suppressed",
    ]
    return _table(heads, rows)


MEASURES = (
    "success",
    "paraphrase",
    "neighbourhood",
    "intra_change",
    "inter_change",
    "intra_locality",
    "inter_locality",
)


def edits(content: Row) -> str:
    """New answers: what each way to edit does to a fact's prompts and to others, beside random neurons."""
    rows = []
    for model in models(content):
        for method in ("update", "optimize"):
            for weights in ("edit", "random neurons"):
                row = model.trial(method, weights)
                if row is not None:
                    label = method if weights == "edit" else f"{method}, random neurons"
                    signed = [
                        _signed(row[name]) if name.endswith("_change") else _share(row, name) for name in MEASURES
                    ]
                    rows.append(
                        [
                            model.name,
                            label,
                            f"{row['planned']} of {row['facts']}",
                            _number(row, "neurons_changed", 1),
                            *signed,
                        ]
                    )
    heads = [
        "model",
        "edit",
        "facts with a plan",
        "neurons",
        "success",
        "held-out template",
        "neighbourhood score",
        "perplexity, same relation",
        "perplexity, other relations",
        "answers kept, same relation",
        "answers kept, other relations",
    ]
    return _table(heads, rows)


def erase(content: Row) -> str:
    """A relation erased: accuracy and perplexity of it and of others."""
    rows = []
    for model in models(content):
        measures, edit = model.output("erase-eval"), model.output("erase")
        for weights, label in (("edited", "erased"), ("control", "random neurons")) if measures and edit else ():
            own, inter = measures[weights]["own"], measures[weights]["inter"]
            cells = []
            for group in (own, inter):
                cells.append(f"{_share(group, 'accuracy_before')} → {_share(group, 'accuracy_after')}")
                cells.append(f"{_number(group, 'perplexity_before')} → {_number(group, 'perplexity_after')}")
            rows.append([model.name, f"{label}, {edit['neurons']} neurons", *cells])
    heads = ["model", "edit", "accuracy, the relation", "perplexity", "accuracy, others", "perplexity"]
    return _table(heads, rows)


def engine(content: Row) -> str:
    """The attribution engine on the real checkpoint."""
    rows = []
    for model in models(content):
        found = model.output("bench")
        if found:
            rows = [
                ["prompts/s", _number(found, "prompts_per_second")],
                ["gradient evaluations per prompt and layer", _number(found, "evaluations_per_layer")],
                [
                    "completeness error: mean, 95 %, largest",
                    ", ".join(_small(found[f"completeness_{name}"]) for name in ("mean", "p95", "max")),
                ],
                [
                    "GFLOP/s, and of the matrix product's rate",
                    f"{found['gflop_per_second']:.0f}, {found['share_of_product']:.2f}",
                ],
                ["baseline, seconds per prompt", _number(found, "baseline_seconds_per_prompt")],
                ["times faster than the baseline", _number(found, "times_baseline", 1)],
            ]
    return _table([f"{REAL}, 8 tokens", NOTHING], rows)


def commands(content: Row) -> str:
    """Every step with its command and its times."""
    rows = [
        [f"`{step['command']}`", f"{step['seconds']:.1f}", f"{step['processor_seconds']:.1f}"]
        for step in content["steps"].values()
    ]
    total = sum(step["seconds"] for step in content["steps"].values())
    machines = dict.fromkeys(f"{step['machine']}; {step['at']}" for step in content["steps"].values())
    rows.append(["all", f"{total:.0f}", f"{sum(step['processor_seconds'] for step in content['steps'].values()):.0f}"])
    return f"Measured on {'; '.join(machines)}.\n\n" + _table(["command", "seconds", "of processor time"], rows)


TABLES: dict[str, Callable[[Row], str]] = {
    "paper": paper,
    "known": known,
    "errors": errors,
    "layers": layers,
    "scaling": scaling,
    "edits": edits,
    "erase": erase,
    "engine": engine,
    "commands": commands,
}
"""The page's tables, by the names of their markers."""


# --- the page -------------------------------------------------------------------------------------------------


def all_tables(content: Row) -> str:
    """All tables, one after the other."""
    return "\n".join(f"## {name}\n\n{make(content)}" for name, make in TABLES.items())


def filled(page: str, content: Row) -> str:
    """A page's text with its tables made again.

    Raises:
        KeyError: if it names a table that there is not.
    """
    return MARKED.sub(lambda found: f"{found[1]}{TABLES[found[2]](content)}{found[3]}", page)


def fill(page: Path, content: Row) -> None:
    """Makes the tables of a page again."""
    page.write_text(filled(page.read_text(encoding="utf-8"), content), encoding="utf-8")


def as_text(content: Row) -> str:
    """Results as the text of a file, a line for each step; the lists of answers that flip are left out."""
    steps = content["steps"].items()
    lines = [
        f"{json.dumps(name)}: {json.dumps(_without_lists_of_flips(step), ensure_ascii=False)}" for name, step in steps
    ]
    others = "".join(
        f"{json.dumps(name)}: {json.dumps(value)},\n" for name, value in content.items() if name != "steps"
    )
    return f'{{\n{others}"steps": {{\n' + ",\n".join(lines) + "\n}\n}\n"


def _without_lists_of_flips(value: Any) -> Any:
    if isinstance(value, dict):
        kept = ((name, one) for name, one in value.items() if not (name == "flips" and isinstance(one, list)))
        return {name: _without_lists_of_flips(one) for name, one in kept}
    return value


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


# --- numbers --------------------------------------------------------------------------------------------------


def _number(row: Row | None, name: str, places: int = 2) -> str:
    value = None if row is None else row.get(name)
    if value is None:
        return NOTHING
    return f"{value:,.{places}f}" if abs(value) < 1e6 else f"{value:.1e}"


def _small(value: float) -> str:
    return f"{value:.1e}"


def _share(row: Row | None, name: str) -> str:
    value = None if row is None else row.get(name)
    return NOTHING if value is None else _percent(value)


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _whole(value: float) -> str:
    return f"{100 * value:.0f} %"


def _change(row: Row | None) -> str:
    return _signed(None if row is None else row["change"])


def _signed(value: float | None) -> str:
    if value is None:
        return NOTHING
    return (f"{100 * value:+,.2f} %" if abs(value) < 1e4 else f"{100 * value:+.1e} %").replace("-", "−", 1)
