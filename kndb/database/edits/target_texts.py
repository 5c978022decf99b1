"""Lists of new answers that were typed or pasted: lines of a fact's number and its answer, or what a file has."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from ...errors import InputError, KndbError, NotFoundError
from ...store import facts as store_facts
from ...store.engine import Store
from .batch import Target, listed
from .targets import Targets, read_targets

_LINE = re.compile(r"\s*(\d{1,18})[ \t]+(\S.*?)\s*", re.ASCII)
_NAMES = {"{": "answers.jsonl", "[": "answers.json"}
"""How messages name a text, by its first character."""


def read_target_text(
    store: Store, text: str, new_answers: str | None = None, *, skip_unusable: bool = False
) -> Targets:
    """Reads new answers from a text; see `EditCommands.targets_in`."""
    if _LINE.fullmatch(next((line for line in text.splitlines() if line.strip()), "")):
        return Targets(_of_lines(store, text))
    with tempfile.TemporaryDirectory(prefix="kndb-") as folder:
        path = Path(folder) / _NAMES.get(text.lstrip()[:1], "answers.csv")
        path.write_bytes(text.encode("utf-8", "replace"))
        try:
            return read_targets(store, path, new_answers, skip_unusable=skip_unusable)
        except KndbError as error:
            # Nobody has that file: it goes by its name alone.
            error.args = tuple(
                one.replace(f"{path.parent}/", "") if isinstance(one, str) else one for one in error.args
            )
            raise


def _of_lines(store: Store, text: str) -> list[Target]:
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise InputError(
                f"line {number} must be a fact's number, a space and the new answer, such as 588 Toyota (got "
                f"{line.strip()[:60]!r})"
            )
        found.append(Target(int(match[1]), match[2], f"line {number}"))
    with store.reading() as connection:
        known = {fact.id for fact in store_facts.find_facts(connection)}
    missing = [f"{one.place} names fact {one.fact}" for one in found if one.fact not in known]
    if missing:
        raise NotFoundError(f"{len(missing)} of {len(found)} lines name no fact of the store: {listed(missing)}")
    return found
