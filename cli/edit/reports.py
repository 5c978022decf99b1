"""What a plan is found to do, in words, and what to try where that is not what was wanted."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from kndb.records.edits import SENDER
from kndb.records.group_recipes import GroupRecipe
from kndb.records.many_recipes import ManyRecipe
from kndb.records.many_settings import FinetuneSettings
from kndb.records.plan_reports import FactReport, OthersReport
from kndb.records.recipes import EraseRecipe, FactRecipe, OptimizeRecipe, Recipe, UpdateRecipe
from kndb.records.together import TogetherRecipe, written_as_runs


def report_rows(recipe: Recipe) -> dict[str, str]:
    """The lines of a plan's table that say which neurons, by which rule, and what the edit does; by their names."""
    rows: dict[str, str] = {}
    if isinstance(recipe, (UpdateRecipe, OptimizeRecipe)) and (recipe.neurons_left_out or recipe.least_shared):
        rows["left out"] = _left_out(recipe)
    if isinstance(recipe, UpdateRecipe) and recipe.rule is not None:
        fitted = ", fitted to the fact's prompts" if recipe.lambda_fitted else ""
        away = "" if recipe.rule == "gradient" else f"λ₁ {recipe.lambda_old:.4g}, "
        rows["rule"] = f"{recipe.rule}, {away}λ₂ {recipe.lambda_new:.4g}{fitted}"
    if isinstance(recipe, TogetherRecipe):
        rows["changes"] = _changes(recipe)
    if isinstance(recipe, ManyRecipe):
        rows["changes"] = layers_in_words(recipe.layers, recipe.token)
    report = recipe.report
    if report is None:
        return rows
    made = report.refinement
    if made is not None:
        version = "" if made.version is None else f", {made.version[:12]}"  # Plans of an earlier kndb have none.
        rows["refinement"] = f"{made.number} (run {made.run}, {made.method}{version})"
    if isinstance(report, FactReport):
        rows["new answers win" if isinstance(recipe, GroupRecipe) else "new answer wins"] = _wins(report)
    if report.relation.prompts:
        whose = "same relations" if isinstance(recipe, GroupRecipe) else "same relation"
        rows[whose] = _others(report.relation, erased=isinstance(recipe, EraseRecipe))
    if report.elsewhere.prompts:
        rows["other relations"] = _others(report.elsewhere)
    return rows


def _changes(recipe: TogetherRecipe) -> str:
    below = f"; {recipe.left_out} knowledge neurons in layers below are left out" if recipe.left_out else ""
    if recipe.layers:
        return f"all value slots of {layers_in_words(recipe.layers, None)}{below}"
    return f"the value slots of {len(recipe.neurons)} knowledge neurons{below}"


_TOKENS = {"subject": "last token of the subject", "answer": "place of the answer"}


def layers_in_words(layers: Sequence[int], token: str | None) -> str:
    """Layers and token of an edit of whole layers, such as `layers 3-7, at the last token of the subject`."""
    where = f"layer{'s' if len(layers) != 1 else ''} {written_as_runs(layers)}"
    if token is None:
        return where
    return f"{where}, at the {_TOKENS.get(token, token)}"


def success_cells(recipe: Recipe) -> dict[str, Any]:
    """A plan's success, held-out success, and its faults in a few words; None where it has no report."""
    report = recipe.report
    measured = report if isinstance(report, FactReport) else None
    return {
        "success": None if measured is None else measured.success,
        "held_out_success": None if measured is None else measured.held_out_success,
        "warning": short_warning(recipe),
    }


def short_warning(recipe: Recipe, *, pulled: bool = False) -> str | None:
    """A plan's faults in a few words; None without any. Of an edit from a file, they are the sender's words."""
    from kndb.database.edits import fault_words

    return fault_words.short_warning(recipe, pulled=pulled)


def warnings(model: str, recipe: Recipe, db: str | None = None, *, pulled: bool = False) -> list[str]:
    """Sentences for stderr: what is wrong with a plan, and what to try.

    Args:
        model: the model that the edit is for.
        recipe: its recipe.
        db: the --db that was given, for the commands to repeat.
        pulled: whether the edit came from a file: then its numbers of facts and refinements are of another store.
    """
    from kndb.database.edits.fault_words import fault_sentences, rule_flaws

    flaws, found = rule_flaws(recipe), fault_sentences(recipe)
    published = [f"Rule paper on this model: {'; '.join(flaws)}. Leave --rule out to avoid that."] if flaws else []
    if pulled and recipe.report is not None:
        return [f"Warning: {SENDER}{'; '.join(found)}"] if found else []
    return [*published, f"Warning: {'; '.join(found)}. {_advice(model, recipe, db)}"] if found else published


def _left_out(recipe: FactRecipe) -> str:
    count = len(recipe.neurons_left_out or ())
    most = f"{100 * (recipe.max_share or 0.0):.3g} %"
    if recipe.least_shared:
        low, high = (f"{100 * share:.3g}" for share in recipe.least_shared)
        shares = f"{low} %" if low == high else f"{low} to {high} %"
        return (
            f"{count}; more than {most} of the relation's facts hold each of the fact's neurons, so the least shared "
            f"ones are changed (held by {shares})"
        )
    why = f"held by more than {most} of the relation's facts"
    if recipe.most_neurons is not None:
        why += f", or beyond the {recipe.most_neurons} of the highest scores"
    return f"{count}, {why}"


def _wins(report: FactReport) -> str:
    if not report.prompts:
        return "not measured: the model can be asked none of the fact's prompts"
    before = 100 * (report.success_before or 0.0)
    text = f"on {_of(report.success, report.prompts)} prompts (before: {before:.3g} %)"
    if report.held_out_prompts:
        text += f", on {_of(report.held_out_success, report.held_out_prompts)} held-out ones"
    return text


def _others(group: OthersReport, *, erased: bool = False) -> str:
    if erased:
        before, after = (_of(share, group.prompts) for share in (group.right_before, group.right))
        return f"{before} sampled facts answered right before, {after} after"
    factor = group.perplexity_factor
    shown = "not a number" if factor is None else f"{factor:.3g}"
    return f"answers of {_of(group.changed, group.prompts)} sampled facts change; perplexity × {shown}"


def _of(share: float | None, count: int) -> str:
    return f"{round((share or 0.0) * count)} of {count}"


def _advice(model: str, recipe: Recipe, db: str | None) -> str:
    if isinstance(recipe, EraseRecipe):
        return _advice_on_erase(model, recipe, db)
    if isinstance(recipe, TogetherRecipe):
        return _advice_on_together(recipe)
    if isinstance(recipe, ManyRecipe):
        return _advice_on_many(recipe)
    if not isinstance(recipe, (UpdateRecipe, OptimizeRecipe)) or recipe.fact is None or recipe.report is None:
        return ""
    words = f"--model {shlex.quote(model)} --fact {recipe.fact.id} --to {shlex.quote(recipe.to or '')}"
    call = words + _given(recipe, db)
    if isinstance(recipe, OptimizeRecipe):
        fails = recipe.report.success == 0
        return f"Try: kndb edit optimize {call} " + ("--steps 300 --bound 40" if fails else "--keep 64 --others 480")
    also = []
    if recipe.rule == "paper":
        also.append(f"kndb edit update {call}, which moves slots along the gradient of the new answer")
    elif not recipe.lambda_fitted:
        also.append(f"kndb edit update {call}, which fits λ₂")
    if recipe.neurons_left_out and recipe.most_neurons is None:
        also.append(f"kndb edit update {call} --max-share 1, which changes all of the fact's neurons")
    return "; or ".join([f"Try: kndb edit optimize {call}", *also])


def _advice_on_together(recipe: TogetherRecipe) -> str:
    if not _fails(recipe):
        return "Try a lower --learning-rate, or a higher --keep"
    outcome, several = recipe.outcome, ""
    if any(len(fact.tokens) > 1 for fact in recipe.facts):
        several = (
            ". A masked model is asked for each token of an answer at a mask of its own; if it answers the same at all "
            "of them, give answers of one token, or edit a causal model"
        )
    if outcome is None or not outcome.learning_rate:
        return f"Try a higher --learning-rate, or more --steps{several}"
    return f"Try --steps {2 * outcome.steps}, or --learning-rate {2 * outcome.learning_rate:.2g}{several}"


def _fails(recipe: GroupRecipe) -> bool:
    """Whether the new answers win nowhere or seldom."""
    from kndb.database.edits.faults import faults

    return any(fault.kind in ("no-success", "little-success", "some-nowhere") for fault in faults(recipe))


def _advice_on_many(recipe: ManyRecipe) -> str:
    fails = _fails(recipe)
    layers = "" if recipe.tried else ", or --layers auto"
    if isinstance(recipe.settings, FinetuneSettings):
        return f"Try a {'higher' if fails else 'lower'} --learning-rate{layers}"
    more = {
        "memit": ("a lower --preserve", "a higher --preserve"),
        "alphaedit": ("a higher --threshold", "a lower --threshold"),
        "emmet": ("another layer", "a higher --slack"),
    }.get(recipe.kind, ("another layer", "another layer"))
    bound = "a higher --target-bound" if fails else "a lower --target-bound"
    first = more[0 if fails else 1]
    return f"Try {first}, {bound}{layers}" if layers else f"Try {first}, or {bound}"


def _advice_on_erase(model: str, recipe: EraseRecipe, db: str | None) -> str:
    call = f"kndb edit erase --model {shlex.quote(model)} --relation {shlex.quote(recipe.relation or '')}"
    measured = recipe.report is not None and recipe.report.elsewhere.prompts > 0
    harmed = measured and short_warning(recipe) != "not forgotten"
    top = recipe.top or len(recipe.neurons)
    return f"Try: {call} --top {max(1, top // 2) if harmed else 2 * top}{_given(recipe, db)}"


def _given(recipe: FactRecipe | EraseRecipe, db: str | None) -> str:
    return f" --refinement {recipe.refinement}" + (f" --db {shlex.quote(db)}" if db else "")
