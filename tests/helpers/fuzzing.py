"""What fuzzers share: how many examples they try, mutated JSON and bytes, and what a command may do with them.

A fuzzer is a test with `@given` and `@fuzzed(…)`, which gives it the mark `fuzz`. In `make test` it tries a few
examples, the same ones each time. With KNDB_FUZZ_EXAMPLES it tries as many new ones, as `make fuzz` asks for.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import json
import os
import re
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("KNDB_FUZZ_EXAMPLES", "0"))
"""How many examples each fuzzer tries; 0 for the short form."""
DOCUMENTED = range(2, 11)
"""The exit codes of kndb's errors: docs/commands.md."""


def fuzzed(short: int = 15, *, slower: int = 1) -> Callable[[Any], Any]:
    """Settings of a fuzzer, and its mark.

    Args:
        short: examples in `make test`.
        slower: the long form tries so many times fewer examples, of what takes so many times longer.
    """
    chosen = settings(
        max_examples=max(1, EXAMPLES // slower) if EXAMPLES else short,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    return lambda test: pytest.mark.fuzz(chosen(test))


# --- mutated values -------------------------------------------------------------------------------

PLACEHOLDERS = {
    "@deep@": "[" * 70 + "]" * 70,
    "@deeper@": '{"a":' * 100_000 + "1" + "}" * 100_000,
    "@twice@": '{"a":1,"a":2}',
    "@digits@": "9" * 5_000,
    "@infinite@": "1e999",
    "@half@": '"\\ud800"',
}
"""JSON that no value stands for, by the text that stands for it."""
ODD = (
    *(None, True, False, 0, 1, -1, 2**31, 2**63, -(2**63) - 1, 10**300, 0.5, -0.0, 1e308, 5e-324, float("nan")),
    *("", "x", "\0", "\x1b[2J\x9b31m", "\u202e\u2028", "L0.N0", "L00.N0", "L99999.N0", "P36", "update", "capture"),
    *("x" * 20_000, "\ue000{}\ue001", '\ue000{"call":"x","arguments":[],"keywords":{}}\ue001', "../../etc/passwd"),
    *([], {}, [[]], [0], {"a": None}, ["L0.N0"], {"L0.N0": 1}),
    *PLACEHOLDERS,
)


def as_text(value: object, **options: Any) -> str:
    """A value as JSON, with what its placeholders stand for."""
    text = json.dumps(value, **options)
    for name, found in PLACEHOLDERS.items():
        text = text.replace(f'"{name}"', found)
    return text


def _places(value: Any) -> list[tuple[Any, Any]]:
    found, left = [], [value]
    while left:
        one = left.pop()
        inner = list(one.items()) if isinstance(one, dict) else list(enumerate(one))
        found += [(one, key) for key, _ in inner]
        left += [value for _, value in inner if isinstance(value, (dict, list))]
    return found


@st.composite
def mutated_json(draw: st.DrawFn, value: Any) -> Any:
    """The value with one to three changes: something taken out, put in, replaced, or moved from elsewhere in it."""
    changed = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 3))):
        places = _places(changed)
        if not places:
            return copy.deepcopy(draw(st.sampled_from(ODD)))
        holder, key = draw(st.sampled_from(places))
        what = draw(st.sampled_from(("replace", "replace", "number", "remove", "add", "move")))
        if what == "remove":
            del holder[key]
        elif what == "add" and isinstance(holder, dict):
            holder[draw(st.sampled_from(("", "extra", "kind", "\x1b", "report")))] = copy.deepcopy(
                draw(st.sampled_from(ODD))
            )
        elif what == "move":
            other, place = draw(st.sampled_from(places))
            holder[key] = copy.deepcopy(other[place])
        elif what == "number":
            holder[key] = draw(st.integers(-3, 100) | st.floats(allow_nan=True))
        else:
            holder[key] = copy.deepcopy(draw(st.sampled_from(ODD)))
    return changed


@st.composite
def mutated_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    """The bytes with one to three changes: cut, flipped, overwritten with extreme numbers, doubled, put elsewhere."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 3))):
        # Headers are where bytes mean most.
        end = draw(st.sampled_from((16, 64, 1024, len(changed), len(changed))))
        at = draw(st.integers(0, max(0, min(end, len(changed)) - 1)))
        what = draw(st.sampled_from(("cut", "flip", "number", "double", "insert", "remove")))
        if what == "cut":
            del changed[at:]
        elif what == "flip" and changed:
            changed[at] ^= 1 << draw(st.integers(0, 7))
        elif what == "number":
            width = draw(st.sampled_from((1, 2, 4, 8)))
            number = draw(st.sampled_from((0, 1, 2 ** (8 * width) - 1, 2 ** (8 * width - 1), len(changed))))
            changed[at : at + width] = (number % 2 ** (8 * width)).to_bytes(width, "little")
        elif what == "double":
            length = draw(st.integers(1, 200))
            changed[at:at] = changed[at : at + length]
        elif what == "insert":
            changed[at:at] = draw(st.binary(min_size=1, max_size=20))
        else:
            del changed[at : at + draw(st.integers(1, 20))]
    return bytes(changed)


# --- what may happen ------------------------------------------------------------------------------


def run(words: Sequence[object]) -> tuple[int, str]:
    """Runs a command in this process, and checks what no command may do, whatever it meets.

    Returns:
        Its exit code and what it printed on stdout: 0, or that of one of kndb's errors with one message.
    """
    from kndb.cli.main import exit_code

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = exit_code([str(word) for word in words])  # an error that is not kndb's comes out here
    printed = out.getvalue() + err.getvalue()
    assert code == 0 or code in DOCUMENTED, (code, printed)
    errors = [line for line in err.getvalue().splitlines() if line.startswith("Error: ")]
    assert len(errors) <= (code != 0), printed
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", printed), repr(printed)
    assert len(err.getvalue()) < 20_000, "a message that nobody can read"
    return code, out.getvalue()


def contents(database: Path) -> dict[str, Any]:
    """All rows of a database and the hashes of all objects, to be compared."""
    with closing(sqlite3.connect(database)) as driver:
        tables = [row[0] for row in driver.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found: dict[str, Any] = {name: driver.execute(f"SELECT * FROM {name}").fetchall() for name in sorted(tables)}
    for path in sorted(database.with_suffix(".objects").rglob("*")):
        if path.is_file():
            found[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found
