"""`kndb edit eval`: what an edit did, beside random neurons."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kndb.errors import UsageError
from kndb.records.edit_settings import EvaluationSettings

from ..options import (
    DatabaseOption,
    DeviceOption,
    EditArgument,
    FormatOption,
    ThreadsOption,
    computing,
    open_existing,
)
from ..output import OutputFormat, Share, as_row, note, print_json, print_parts, print_rows
from .planning import FLIP_COLUMNS

if TYPE_CHECKING:
    from kndb.database.edits.easyedit import ExportedCases

_MEASURE_COLUMNS = ["group", "measure", "edit", "low", "high", "random_neurons", "random_low", "random_high"]


_FLIPS_OF_PROMPTS = ["fact", "subject", "prompt", "old_answer", "new_answer"]
"""Columns of the table of flips without --wide, where evaluation prompts are among them."""


_TOKENS = 50


_SHARES = (
    "accuracy",
    "change_rate",
    "efficacy",
    "neighbourhood",
    "paraphrase",
    "right_above_new",
    "success_rate",
    "unchanged",
)
"""How the measures begin that are shares."""


_GROUPS = ("summary", "own", "own_held_out", "intra", "inter", "neighbourhood", "attribute", "locality", "portability")


def evaluate(
    edit: EditArgument,
    fact: Annotated[
        int | None,
        typer.Option("--fact", metavar="ID", help="Measure a capture on this fact.", show_default=False),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="OBJECT", help="Measure whether a capture gives this answer.", show_default=False),
    ] = None,
    sample: Annotated[
        int, typer.Option("--sample", help="Measure so many facts of other relations, drawn at random.")
    ] = 300,
    seed: Annotated[int, typer.Option("--seed", help="Random seed.")] = 0,
    list_flips: Annotated[
        bool,
        typer.Option("--list-flips", help="List the other facts whose answers change. CSV then has only these."),
    ] = False,
    generate: Annotated[
        bool,
        typer.Option("--generate", help="Let a causal model continue the fact's prompts, before and after."),
    ] = False,
    tokens: Annotated[
        int | None,
        typer.Option("--tokens", help="With --generate, continue by so many tokens. Default: 50.", show_default=False),
    ] = None,
    export: Annotated[
        tuple[str, Path] | None,
        typer.Option(
            "--export",
            metavar="FORMAT FILE",
            help="Write each fact's results to this file, in a tool's format: easyedit, its JSON fields.",
            show_default=False,
        ),
    ] = None,
    mlflow: Annotated[
        str | None,
        typer.Option(
            "--mlflow",
            metavar="EXPERIMENT",
            help="Log the evaluation to this experiment of MLflow, at $MLFLOW_TRACKING_URI. Needs the extra mlflow.",
            show_default=False,
        ),
    ] = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Measure an edit on its own fact or relation and on others, beside random neurons; the measures are stored.

    Example: kndb edit eval 1 --sample 20 --list-flips
    """
    if tokens is not None and not generate:
        raise UsageError("--tokens needs --generate")
    if tokens is not None and tokens < 1:
        raise UsageError(f"--tokens must be at least 1 (got {tokens})")
    if generate and list_flips and output is OutputFormat.CSV:
        raise UsageError("CSV prints one list; leave out --generate or --list-flips")
    settings = EvaluationSettings(sample, seed, (tokens or _TOKENS) if generate else 0)
    if export is not None:
        _require_export(*export)
    if mlflow is not None:
        from kndb.database.edits.evaluations import require_mlflow

        require_mlflow()
    with open_existing(db) as database, computing(threads):
        evaluation = database.edits.evaluate(edit, settings, fact=fact, to=to, device=device)
        if export is not None:
            cases = database.edits.export_easyedit(edit, export[1], settings, fact=fact, to=to, device=device)
            note(_exported(cases))
        if mlflow is not None:
            note(f"Logged to MLflow as run {database.edits.log_to_mlflow(evaluation, mlflow)} of {mlflow}.")
    if output is OutputFormat.JSON:
        print_json(as_row(evaluation))
        return
    found: Any = evaluation.measures
    note(
        f"Evaluation {evaluation.id} of edit {edit}: {evaluation.version_before} → {evaluation.version_after}. "
        "Low and high: 95 % intervals over facts; of evaluation prompts, over prompts."
    )
    flips = found["flips"]
    of_facts = [flip for flip in flips if flip["prompt"] is None]
    count, prompts = len({flip["fact"] for flip in of_facts}), sum(flip["prompts"] for flip in of_facts)
    further = len(flips) - len(of_facts)
    also = f", and to {further} evaluation prompts" if further else ""
    hint = "" if list_flips or not flips else "; name them with --list-flips"
    note(f"Other answers that the edit changed: to {prompts} prompts of {count} facts{also}{hint}.")
    if found["edited"].get("intra", {}).get("facts_kept") is not None and not found["control"]:
        note("No control: the plan may change all value slots of its layers, which leaves no random neurons of them.")
    for text in _left_out(found.get("left_out", {})):
        note(text)
    parts: dict[str, tuple[list[dict[str, Any]], list[str]]] = {"measures": (list(_measures(found)), _MEASURE_COLUMNS)}
    if list_flips:
        parts["flips"] = (flips, [*FLIP_COLUMNS, "prompt"])
    if generate:
        made = found["generated"]
        note(
            f"Fluency of {made['tokens']} tokens: {made['fluency_before']:.2f} before, {made['fluency_after']:.2f} "
            "after (weighted mean of 2- and 3-gram entropies, bits)."
        )
        parts["continuations"] = (made["texts"], ["prompt", "before", "after"])
    if len(parts) == 1:
        print_rows(*parts["measures"], output)
    else:
        short = {"flips": _FLIPS_OF_PROMPTS if further else FLIP_COLUMNS}
        print_parts(parts, output, [*parts][1] if output is OutputFormat.CSV else None, short=short)


def _require_export(name: str, path: Path) -> None:
    """Checks what --export names, before any work."""
    if name != "easyedit":
        raise UsageError(f"--export must be easyedit, followed by a file (got {name!r})")
    if path.exists():
        raise UsageError(f"--export: {path} exists already; name another file")


def _exported(cases: ExportedCases) -> str:
    """The means of the results that were written, in a line."""
    shares = {
        "rewrite_acc": (cases.rewrite_acc, cases.rewrite_acc_before),
        "rephrase_acc": (cases.rephrase_acc, cases.rephrase_acc_before),
        "portability": (cases.portability, cases.portability_before),
        "locality": (cases.locality, None),
    }
    told = [
        f"{name} {after:.1%}{'' if before is None else f' ({before:.1%} before)'}"
        for name, (after, before) in shares.items()
        if after is not None
    ]
    return f"Wrote {cases.cases:,} cases to {cases.file}: {', '.join(told)}."


def _left_out(counts: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    """Says which evaluation prompts were not asked, and why."""
    from kndb.database.edits.asked_prompts import LEFT_OUT

    for kind, reasons in counts.items():
        for reason, count in reasons.items():
            prompts = f"1 prompt for {kind} was" if count == 1 else f"{count} prompts for {kind} were"
            yield f"{prompts} not asked: {LEFT_OUT[reason]}."


def _measures(measures: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    nothing: dict[str, Any] = {}
    ends = measures.get("intervals", {"edited": nothing, "control": nothing})
    for group in _GROUPS:
        values = measures["edited"].get(group, nothing)
        for name, value in values.items():
            low, high = ends["edited"].get(group, nothing).get(name, (None, None))
            random_low, random_high = ends["control"].get(group, nothing).get(name, (None, None))
            yield {
                "group": group,
                "measure": name,
                "edit": _read(name, value),
                "low": _read(name, low),
                "high": _read(name, high),
                "random_neurons": _read(name, measures["control"].get(group, nothing).get(name)),
                "random_low": _read(name, random_low),
                "random_high": _read(name, random_high),
            }


def _read(measure: str, value: float | None) -> float | None:
    """A measure's value, as a share if it is one."""
    return value if value is None or not (measure == "locality" or measure.startswith(_SHARES)) else Share(value)
