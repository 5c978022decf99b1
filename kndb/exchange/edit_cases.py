"""Files of cases to try edits on: JSON lines that planning commands read, or CounterFact's JSON (Meng et al. 2022)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..records.cases import CasePrompt, EditCase
from ..records.facts import BLANK
from ..sentences import blank_is_last

HOLE = "{}"
"""Where CounterFact's rewrite prompts take the subject."""


def write_lines(path: Path, cases: Sequence[EditCase]) -> None:
    """Writes an object for each case: relation, subject, object, `to`, and the prompts by which it is measured."""
    with path.open("w", encoding="utf-8", newline="") as file:
        for case in cases:
            row = {
                "relation": case.relation,
                "subject": case.subject,
                "object": case.object,
                "to": case.to,
                "prompts": [prompt.text for prompt in case.prompts],
                "paraphrases": [prompt.text for prompt in case.paraphrases],
                "neighbours": [{"subject": one.subject, "text": one.text} for one in case.neighbours],
            }
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def write_counterfact(path: Path, cases: Sequence[EditCase]) -> None:
    """Writes a list of CounterFact's records, of cases that have a prompt of its kind."""
    records = [_record(number, case) for number, case in enumerate(cases)]
    path.write_text(json.dumps(records, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def has_rewrite(case: EditCase) -> bool:
    """Whether a case has a prompt of CounterFact's kind: with the subject once, and ending where the answer begins."""
    return bool(_rewrites(case))


def _rewrites(case: EditCase) -> list[str]:
    return [text for prompt in case.prompts if (text := _with_hole(prompt)) is not None]


def _record(number: int, case: EditCase) -> dict[str, Any]:
    return {
        "case_id": number,
        "requested_rewrite": {
            "prompt": _rewrites(case)[0],
            "relation_id": case.relation,
            "target_new": {"str": case.to},
            "target_true": {"str": case.object},
            "subject": case.subject,
        },
        "paraphrase_prompts": _texts(case.paraphrases),
        "neighborhood_prompts": _texts(case.neighbours),
        "attribute_prompts": [],
        "generation_prompts": [],
    }


def _texts(prompts: Sequence[CasePrompt]) -> list[str]:
    """Prompts up to their blank, those in which nothing follows it."""
    return [prompt.text.partition(BLANK)[0].rstrip() for prompt in prompts if blank_is_last(prompt.text)]


def _with_hole(prompt: CasePrompt) -> str | None:
    """A prompt up to its blank with a hole for the subject; None if it has not just that."""
    if not blank_is_last(prompt.text) or HOLE in prompt.text or "{" in prompt.text or "}" in prompt.text:
        return None
    span = prompt.span
    if span is None:
        if prompt.text.count(prompt.subject) != 1:
            return None
        start = prompt.text.index(prompt.subject)
        span = start, start + len(prompt.subject)
    text = prompt.text[: span[0]] + HOLE + prompt.text[span[1] :]
    before = text.partition(BLANK)[0].rstrip()
    return before if HOLE in before else None
