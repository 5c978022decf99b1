"""EasyEdit's result fields: a JSON list with an entry for each edited fact, as its editor gives and its scripts read.

    case_id             from 0
    requested_rewrite   prompt, target_new, ground_truth, subject, rephrase_prompt, portability, locality
    time                null: how long it took to plan is not stored
    pre, post           rewrite_acc [x], rephrase_acc [x], portability {AXIS_acc: [x, …]}, fluency {ngram_entropy: x};
                        post also locality {AXIS_acc: [x, …]}

A list of one number is a mean over the fact's prompts; where there are none, the key is missing, as it is there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..files import writing

FORMAT = "easyedit"


@dataclass(frozen=True)
class CaseSide:
    """What a model says before an edit, or after it.

    Attributes:
        rewrite: EasyEdit's `rewrite_acc`.
        rephrase: `rephrase_acc`; None without such prompts.
        locality: of each prompt, by axis; `portability`: the same.
        fluency: entropy of n-grams of continuations; None if nothing was continued.
    """

    rewrite: float
    rephrase: float | None
    locality: Mapping[str, Sequence[float]]
    portability: Mapping[str, Sequence[float]]
    fluency: float | None


@dataclass(frozen=True)
class AskedAxis:
    """The prompts of an axis, and an acceptable answer of each."""

    prompts: tuple[str, ...]
    answers: tuple[str, ...]


@dataclass(frozen=True)
class EditedCase:
    """An edited fact with its results.

    Attributes:
        subject: the fact's subject, if it has one.
        prompts: its own prompts; `rephrased`: the same in other words.
        target_new: its new answer; `ground_truth`: the one that it had.
        locality, portability: prompts with answers of their own, by axis.
        before, after: what the model says.
    """

    subject: str | None
    prompts: tuple[str, ...]
    rephrased: tuple[str, ...]
    target_new: str
    ground_truth: str
    locality: Mapping[str, AskedAxis]
    portability: Mapping[str, AskedAxis]
    before: CaseSide
    after: CaseSide


def as_json(cases: Iterable[EditedCase]) -> list[dict[str, object]]:
    """The list of results."""
    return [
        {
            "case_id": number,
            "requested_rewrite": _request(case),
            "time": None,
            "pre": _side(case.before),
            "post": {**_side(case.after), "locality": _axes(case.after.locality)},
        }
        for number, case in enumerate(cases)
    ]


def write(path: Path, cases: Sequence[EditedCase]) -> None:
    """Writes the list, whole or not at all.

    Raises:
        OutputError: if it can't be written.
    """
    text = json.dumps(as_json(cases), ensure_ascii=False, indent=4, allow_nan=False) + "\n"
    with writing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _request(case: EditedCase) -> dict[str, object]:
    found: dict[str, object] = {
        "prompt": _one_or_all(case.prompts),
        "target_new": case.target_new,
        "ground_truth": case.ground_truth,
        "portability": _asked(case.portability),
        "locality": _asked(case.locality),
    }
    if case.subject is not None:
        found["subject"] = case.subject
    if case.rephrased:
        found["rephrase_prompt"] = _one_or_all(case.rephrased)
    return found


def _one_or_all(texts: Sequence[str]) -> str | list[str]:
    return texts[0] if len(texts) == 1 else list(texts)


def _asked(axes: Mapping[str, AskedAxis]) -> dict[str, object]:
    return {name: {"prompt": list(axis.prompts), "ground_truth": list(axis.answers)} for name, axis in axes.items()}


def _side(side: CaseSide) -> dict[str, object]:
    found: dict[str, object] = {"rewrite_acc": [side.rewrite]}
    if side.rephrase is not None:
        found["rephrase_acc"] = [side.rephrase]
    found["portability"] = _axes(side.portability)
    if side.fluency is not None:
        found["fluency"] = {"ngram_entropy": side.fluency}
    return found


def _axes(shares: Mapping[str, Sequence[float]]) -> dict[str, object]:
    return {f"{name}_acc": list(values) for name, values in shares.items()}
