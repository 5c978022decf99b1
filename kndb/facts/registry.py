"""The formats that kndb reads: one line each, the narrowest first."""

from __future__ import annotations

from . import bags, counterfact, csv, easyedit, jsonl, lama, mquake, pararel, ripple_edits, zsre
from .formats import Format

FORMATS: tuple[Format, ...] = (
    mquake.FORMAT,
    counterfact.FORMAT,
    zsre.FORMAT,
    ripple_edits.FORMAT,
    easyedit.KNOWEDIT,
    easyedit.EASYEDIT,
    lama.FORMAT,
    pararel.FORMAT,
    bags.FORMAT,
    jsonl.FORMAT,
    csv.FORMAT,
)

BY_NAME = {one.name: one for one in FORMATS}
