"""Small checkpoints that kndb loads again and again: transformers makes each model once in a process, then its copies.

Only transformers' part is left out, and only for files with the same bytes. kndb looks at the checkpoint as ever, and
gives transformers a folder with copies of its files; what tests load by transformers themselves is loaded anew.
"""

from __future__ import annotations

import copy
import hashlib
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest

MOST = 12
"""Models and tokenizers that are kept, of those that were asked for last."""
LARGEST = 8 << 20
"""Bytes of the files of a checkpoint that is kept."""
SEALED = "kndb-checkpoint-"
"""What the names of folders begin with that kndb gives to transformers."""


def load_once(patch: pytest.MonkeyPatch) -> None:
    """Has transformers' loading of models and tokenizers remembered.

    Args:
        patch: ends it.
    """
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

    for kind in (AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer):
        patch.setattr(kind, "from_pretrained", _remembering(kind.__dict__["from_pretrained"].__func__))


def _remembering(load: Any) -> Any:
    asked: set[object] = set()
    known: OrderedDict[object, Any] = OrderedDict()

    def loaded(kind: type, place: Any, *arguments: Any, **options: Any) -> Any:
        key = _key(kind, place, arguments, options)
        if key is None:
            return load(kind, place, *arguments, **options)
        if key not in known:
            # A copy's tensors begin elsewhere in memory than a file's, which shows in the last bits of products.
            found = copy.deepcopy(load(kind, place, *arguments, **options))
            # Most of the checkpoints that tests make are loaded once.
            if key in asked:
                known[key] = copy.deepcopy(found)
                while len(known) > MOST:
                    known.popitem(last=False)
            asked.add(key)
            return found
        known.move_to_end(key)
        return copy.deepcopy(known[key])

    return classmethod(loaded)


def _key(kind: type, place: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> object:
    """All that decides what is loaded; None for what is not kept."""
    folder = Path(place)
    if not folder.name.startswith(SEALED) or "device_map" in options:
        return None
    paths = sorted(folder.iterdir())
    if sum(path.stat().st_size for path in paths) > LARGEST:
        return None
    content = tuple((path.name, hashlib.sha256(path.read_bytes()).digest()) for path in paths)
    return kind, repr(arguments), repr(sorted(options.items())), content
