"""What a plan is found to do, in words, and what to try where that is not what was wanted."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kndb.database.edits.faults import Fault


def report_rows(kind: str, recipe: Mapping[str, Any]) -> dict[str, str]:
    """The lines of a plan's table that say which neurons, by which rule, and what the edit does; by their names."""
    rows = {"left out": _left_out(recipe)} if recipe.get("neurons_left_out") or recipe.get("least_shared") else {}
    if "rule" in recipe:
        fitted = ", fitted to the fact's prompts" if recipe.get("lambda_fitted") else ""
        away = "" if recipe["rule"] == "gradient" else f"λ₁ {recipe['lambda_old']:.4g}, "
        rows["rule"] = f"{recipe['rule']}, {away}λ₂ {recipe['lambda_new']:.4g}{fitted}"
    report = recipe.get("report")
    if not isinstance(report, Mapping):
        return rows
    made = report["refinement"]
    version = f", {str(made['version'])[:12]}" if made.get("version") else ""  # Plans of an earlier kndb have none.
    rows["refinement"] = f"{made['number']} (run {made['run']}, {made['method']}{version})"
    if "success" in report:
        rows["new answer wins"] = _wins(report)
    for name, title in (("relation", "same relation"), ("elsewhere", "other relations")):
        if report[name]["prompts"]:
            rows[title] = _others(kind, name, report[name])
    return rows


def success_cells(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A plan's success, held-out success, and its faults in a few words; None where it has no report."""
    from kndb.database.edits.faults import faults

    report = recipe.get("report")
    measured = report if isinstance(report, Mapping) else {}
    return {
        "success": measured.get("success"),
        "held_out_success": measured.get("held_out_success"),
        "warning": "; ".join(dict.fromkeys(_short(fault) for fault in faults("", recipe))) or None,
    }


def short_warning(kind: str, recipe: Mapping[str, Any]) -> str | None:
    """A plan's faults in a few words; None without any."""
    from kndb.database.edits.faults import faults

    return "; ".join(_short(fault) for fault in faults(kind, recipe)) or None


def warnings(model: str, kind: str, recipe: Mapping[str, Any], db: str | None = None) -> list[str]:
    """Sentences for stderr: what is wrong with a plan, and what to try.

    Args:
        model: the model that the edit is for.
        kind: of the edit.
        recipe: its recipe.
        db: the --db that was given, for the commands to repeat.
    """
    from kndb.database.edits.faults import faults

    found = [_sentence(fault, recipe["report"]) for fault in faults(kind, recipe)]
    if not found:
        return _published(recipe)
    return [*_published(recipe), f"Warning: {'; '.join(found)}. {_advice(model, kind, recipe, db)}"]


def _left_out(recipe: Mapping[str, Any]) -> str:
    count = len(recipe["neurons_left_out"])
    least = recipe.get("least_shared")
    if least:
        low, high = (f"{100 * share:.3g}" for share in least)
        shares = f"{low} %" if low == high else f"{low} to {high} %"
        return (
            f"{count}; more than {100 * recipe['max_share']:.3g} % of the relation's facts hold each of the fact's "
            f"neurons, so the least shared ones are changed (held by {shares})"
        )
    why = f"held by more than {100 * recipe['max_share']:.3g} % of the relation's facts"
    if "most_neurons" in recipe:
        why += f", or beyond the {recipe['most_neurons']} of the highest scores"
    return f"{count}, {why}"


def _wins(report: Mapping[str, Any]) -> str:
    if not report["prompts"]:
        return "not measured: the model can be asked none of the fact's prompts"
    text = f"on {_of(report['success'], report['prompts'])} prompts (before: {100 * report['success_before']:.3g} %)"
    if report["held_out_prompts"]:
        text += f", on {_of(report['held_out_success'], report['held_out_prompts'])} held-out ones"
    return text


def _others(kind: str, name: str, group: Mapping[str, Any]) -> str:
    if kind == "erase" and name == "relation":
        before, after = (_of(group[part], group["prompts"]) for part in ("right_before", "right"))
        return f"{before} sampled facts answered right before, {after} after"
    changed = _of(group["changed"], group["prompts"])
    return f"answers of {changed} sampled facts change; perplexity × {_factor(group)}"


def _factor(group: Mapping[str, Any]) -> str:
    from kndb.database.edits.faults import perplexity_factor

    return "not a number" if group["surprisal"] is None else f"{perplexity_factor(group):.3g}"


def _of(share: float, count: int) -> str:
    return f"{round(share * count)} of {count}"


def _short(fault: Fault) -> str:
    if fault.kind == "harm":
        return f"{'relation' if fault.where == 'relation' else 'others'} × {fault.factor:.3g}"
    return {"no-success": "wins nowhere", "not-forgotten": "not forgotten", "no-numbers": "no numbers"}[fault.kind]


def _sentence(fault: Fault, report: Mapping[str, Any]) -> str:
    if fault.kind == "no-success":
        return (
            f"the new answer wins on none of the fact's {report['prompts']} prompts (its mean probability is "
            f"{report['probability']:.2g})"
        )
    if fault.kind == "no-numbers":
        return "with this edit, the model's probabilities are not numbers"
    group = report["relation" if fault.kind == "not-forgotten" else fault.where]
    if fault.kind == "not-forgotten":
        return f"the model still answers {_of(group['right'], group['prompts'])} sampled facts of the relation"
    whose = "other facts of the relation" if fault.where == "relation" else "facts of other relations"
    return f"the perplexity of {whose} is {fault.factor:.3g} times what it was ({group['prompts']} sampled)"


def _advice(model: str, kind: str, recipe: Mapping[str, Any], db: str | None) -> str:
    given = f" --refinement {recipe['refinement']}" + (f" --db {shlex.quote(db)}" if db else "")
    if kind == "erase":
        call = f"kndb edit erase --model {shlex.quote(model)} --relation {shlex.quote(str(recipe['relation']))}"
        harmed = "surprisal" in recipe["report"]["elsewhere"] and short_warning(kind, recipe) != "not forgotten"
        top = max(1, int(recipe["top"]) // 2) if harmed else 2 * int(recipe["top"])
        return f"Try: {call} --top {top}{given}"
    call = f"--model {shlex.quote(model)} --fact {recipe['fact']['id']} --to {shlex.quote(str(recipe['to']))}{given}"
    if kind == "optimize":
        fails = recipe["report"]["success"] == 0
        return f"Try: kndb edit optimize {call} " + ("--steps 300 --bound 40" if fails else "--keep 64 --others 480")
    also = []
    if recipe.get("rule") == "paper":
        also.append(f"kndb edit update {call}, which moves slots along the gradient of the new answer")
    elif not recipe.get("lambda_fitted"):
        also.append(f"kndb edit update {call}, which fits λ₂")
    if recipe["neurons_left_out"] and "most_neurons" not in recipe:
        also.append(f"kndb edit update {call} --max-share 1, which changes all of the fact's neurons")
    return "; or ".join([f"Try: kndb edit optimize {call}", *also])


def _published(recipe: Mapping[str, Any]) -> list[str]:
    """What is wrong with the rule as published on this model."""
    if recipe.get("rule") != "paper":
        return []
    negative, count = len(recipe["negative_neurons"]), len(recipe["neurons"])
    found = []
    if negative:
        found.append(
            f"{negative} of {count} neurons have negative activation: their slots push against the new answer"
            if negative > 1
            else f"1 of {count} neurons has negative activation: its slot pushes against the new answer"
        )
    cosine = recipe.get("cosine_to_output")
    if cosine is not None and cosine < NEARLY_ALIKE:
        found.append(
            f"the new answer's word embedding is not what the head reads it by (cosine {cosine:.2f} to its output "
            "direction)"
        )
    return [f"Rule paper on this model: {'; '.join(found)}. Leave --rule out to avoid that."] if found else []


NEARLY_ALIKE = 0.9
"""Below this cosine, a word embedding is said not to be what the head reads a token by."""
