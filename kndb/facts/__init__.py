"""Reads fact lists in the formats users have them, and fills templates with facts.

`read` is the one entrance: it detects the format, reads a file or a folder and returns one `FactFile` per
file (or per pair of files). A line that can't be used is never dropped in silence: it stops the reading, or,
with `skip_invalid`, it is listed in `FactFile.rejected` with the reason.

One file per format: `jsonl`, `csv`, `pararel`, `lama`, `bags`, and the lists of edits `counterfact`, `zsre`, `mquake`,
`easyedit` and `ripple_edits`, which have `edit_lists` in common. They share `content` (a file's
bytes, unpacked and bounded), `lines` (bytes to lines), `checks` (what a field must be), `collector` (what has been
read so far) and `own` (the record that the project's own JSON lines and CSV have in common). `texts` reads something
else: texts about facts, for experiments.
"""

from __future__ import annotations

from ..content import MOST_BYTES, at_most
from ..sentences import blank_is_last
from .own import read_records
from .prompts import fill
from .reading import FORMATS, choose, passed_over, read

__all__ = ["FORMATS", "MOST_BYTES", "at_most", "blank_is_last", "choose", "fill", "passed_over", "read", "read_records"]
