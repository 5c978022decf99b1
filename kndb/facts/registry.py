"""The formats that kndb reads: one line each, the narrowest first."""

from __future__ import annotations

from . import bags, counterfact, csv, jsonl, lama, pararel
from .formats import Format

FORMATS: tuple[Format, ...] = (
    counterfact.FORMAT,
    lama.FORMAT,
    pararel.FORMAT,
    bags.FORMAT,
    jsonl.FORMAT,
    csv.FORMAT,
)

BY_NAME = {one.name: one for one in FORMATS}
