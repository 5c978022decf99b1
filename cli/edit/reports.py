"""What a plan is found to do, in words, and what to try where that is not what was wanted."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kndb.records.display import many
from kndb.records.edits import SENDER, in_words
from kndb.records.group_recipes import GroupRecipe
from kndb.records.many_recipes import ManyRecipe
from kndb.records.many_settings import FinetuneSettings
from kndb.records.plan_reports import FactReport, OthersReport, PlanReport
from kndb.records.recipes import EraseRecipe, FactRecipe, OptimizeRecipe, Recipe, UpdateRecipe
from kndb.records.together import TogetherRecipe, written_as_runs

if TYPE_CHECKING:
    from kndb.database.edits.faults import Fault
    from kndb.records.group_recipes import EditedFact

_MOST_NAMED = 5
"""Facts that a warning names."""


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
    from kndb.database.edits.faults import faults

    found = "; ".join(dict.fromkeys(_short(fault) for fault in faults(recipe)))
    return in_words(found, pulled=pulled) if found else None


def warnings(model: str, recipe: Recipe, db: str | None = None, *, pulled: bool = False) -> list[str]:
    """Sentences for stderr: what is wrong with a plan, and what to try.

    Args:
        model: the model that the edit is for.
        recipe: its recipe.
        db: the --db that was given, for the commands to repeat.
        pulled: whether the edit came from a file: then its numbers of facts and refinements are of another store.
    """
    from kndb.database.edits.faults import faults

    published, report = _published(recipe), recipe.report
    if report is None:
        return published
    several = isinstance(recipe, GroupRecipe)
    found = [_sentence(fault, report, several=several) for fault in faults(recipe)]
    if pulled:
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


def _short(fault: Fault) -> str:
    if fault.kind == "harm":
        return f"{'relation' if fault.where == 'relation' else 'others'} × {fault.factor:.3g}"
    if fault.kind == "some-nowhere":
        return f"{len(fault.facts)} win nowhere"
    return {
        "no-success": "wins nowhere",
        "little-success": "wins seldom",
        "not-forgotten": "not forgotten",
        "no-numbers": "no numbers",
    }[fault.kind]


def _sentence(fault: Fault, report: PlanReport | FactReport, *, several: bool) -> str:
    if fault.kind == "no-success" and isinstance(report, FactReport) and several:
        return (
            f"the new answers win on none of the facts' {report.prompts} prompts (their mean probability is "
            f"{report.probability or 0.0:.2g})"
        )
    if fault.kind == "no-success" and isinstance(report, FactReport):
        return (
            f"the new answer wins on none of the fact's {report.prompts} prompts (its mean probability is "
            f"{report.probability or 0.0:.2g})"
        )
    if fault.kind == "little-success" and isinstance(report, FactReport):
        return f"the new answers win on only {_of(report.success, report.prompts)} of the facts' prompts"
    if fault.kind == "some-nowhere":
        return _nowhere(fault.facts)
    if fault.kind == "no-numbers":
        return "with this edit, the model's probabilities are not numbers"
    if fault.kind == "not-forgotten":
        kept = report.relation
        return f"the model still answers {_of(kept.right, kept.prompts)} sampled facts of the relation"
    inside = fault.where == "relation"
    group = report.relation if inside else report.elsewhere
    whose = "other facts of the relation" if inside else "facts of other relations"
    return f"the perplexity of {whose} is {fault.factor:.3g} times what it was ({group.prompts} sampled)"


def _nowhere(facts: Sequence[EditedFact]) -> str:
    """Of which facts the new answers win on no prompt: the first few by name."""
    named = "; ".join(
        f"{fact.subject or f'fact {fact.id}'} · {fact.relation} → {fact.to}" for fact in facts[:_MOST_NAMED]
    )
    more = f"; and {len(facts) - _MOST_NAMED} more" if len(facts) > _MOST_NAMED else ""
    one = len(facts) == 1
    return (
        f"the new answer{'' if one else 's'} of {many(len(facts), 'fact')} {'wins' if one else 'win'} on none of "
        f"{'its' if one else 'their'} prompts ({named}{more})"
    )


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


def _published(recipe: Recipe) -> list[str]:
    """What is wrong with the rule as published on this model."""
    if not isinstance(recipe, UpdateRecipe) or recipe.rule != "paper":
        return []
    negative, count = len(recipe.negative_neurons or ()), len(recipe.neurons)
    found = []
    if negative:
        found.append(
            f"{negative} of {count} neurons have negative activation: their slots push against the new answer"
            if negative > 1
            else f"1 of {count} neurons has negative activation: its slot pushes against the new answer"
        )
    cosine = recipe.cosine_to_output
    if isinstance(cosine, float) and cosine < NEARLY_ALIKE:
        found.append(
            f"the new answer's word embedding is not what the head reads it by (cosine {cosine:.2f} to its output "
            "direction)"
        )
    return [f"Rule paper on this model: {'; '.join(found)}. Leave --rule out to avoid that."] if found else []


NEARLY_ALIKE = 0.9
"""Below this cosine, a word embedding is said not to be what the head reads a token by."""
