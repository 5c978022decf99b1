"""Renders a chat template of unknown origin, as a program of its own: JSON in on stdin, JSON out on stdout.

A template is a program, if one in a sandbox: it may loop for ever, or write without end. So it runs in a process that
has little time and memory, started by `chat.py`, and imports nothing of kndb.
"""

from __future__ import annotations

import json
import sys
from datetime import date
from typing import Any

SECONDS = 5
MEMORY = 1 << 30
MOST_LETTERS = 100_000
MOST_REASON = 300
DATE = date(2025, 1, 1)
"""What templates write that can't do without today's date."""


def main() -> None:
    """Reads a task and writes the texts, or what went wrong."""
    task = json.load(sys.stdin)
    sys.path[:] = task["path"]
    try:
        _limit()
        answer: dict[str, Any] = {"texts": [_rendered(task["template"], one) for one in task["variables"]]}
    except MemoryError:
        answer = {"error": f"it asks for more than {MEMORY:,} bytes of memory"}
    except RecursionError:
        answer = {"error": "it is nested too deeply"}
    except Exception as error:  # Whatever a template makes of its variables.
        answer = {"error": (" ".join(str(error).split()) or type(error).__name__)[:MOST_REASON]}
    json.dump(answer, sys.stdout)


def _limit() -> None:
    try:
        import resource
    except ImportError:  # Windows; the caller's limit on time remains.
        return
    for kind, amount in ((resource.RLIMIT_CPU, SECONDS), (resource.RLIMIT_AS, MEMORY)):
        most = resource.getrlimit(kind)[1]
        amount = amount if most == resource.RLIM_INFINITY else min(amount, most)
        try:
            resource.setrlimit(kind, (amount, most))
        except (OSError, ValueError):  # A system that has no such limit.
            continue


def _rendered(template: str, variables: dict[str, Any]) -> str:
    from jinja2.exceptions import UndefinedError

    environment = _environment()
    try:
        return _written(environment, template, variables)
    except UndefinedError as error:
        if "strftime_now" not in str(error):
            raise
    # Some templates can't do without a date, and a prompt is to be the same on every day.
    environment.globals["strftime_now"] = DATE.strftime
    return _written(environment, template, variables)


def _written(environment: Any, template: str, variables: dict[str, Any]) -> str:
    text = ""
    for part in environment.from_string(template).generate(**variables):
        text += part
        if len(text) > MOST_LETTERS:
            raise ValueError(f"it writes more than {MOST_LETTERS:,} letters")
    return text


def _environment() -> Any:
    """What templates expect to find, as transformers offers it; but no clock."""
    from jinja2.exceptions import TemplateError
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %} … {% endgeneration %}` marks what a model is trained on; here it says nothing."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Any) -> Any:
            """Gives what stands between the tags."""
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    def tojson(value: Any, **options: Any) -> str:
        return json.dumps(value, **{"ensure_ascii": False, **options})

    made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    made.filters["tojson"] = tojson
    made.globals["raise_exception"] = raise_exception
    return made


if __name__ == "__main__":
    main()
