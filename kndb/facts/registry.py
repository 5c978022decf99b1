"""The formats that kndb reads: one line each, the narrowest first."""

from __future__ import annotations

from . import (
    bags,
    bear,
    counterfact,
    csv,
    easyedit,
    json,
    jsonl,
    kamel,
    lama,
    lama_sentences,
    languages,
    mquake,
    pararel,
    popqa,
    ripple_edits,
    zsre,
)
from .formats import Format

FORMATS: tuple[Format, ...] = (
    mquake.FORMAT,
    counterfact.FORMAT,
    zsre.FORMAT,
    ripple_edits.FORMAT,
    easyedit.KNOWEDIT,
    easyedit.EASYEDIT,
    lama.FORMAT,
    lama_sentences.FORMAT,
    bear.FORMAT,
    kamel.FORMAT,
    languages.MLAMA,
    languages.MPARAREL,
    pararel.FORMAT,
    bags.FORMAT,
    popqa.FORMAT,
    json.FORMAT,
    jsonl.FORMAT,
    csv.FORMAT,
)

BY_NAME = {one.name: one for one in FORMATS}
