"""Pages as HTML: one template for all of them. All texts are escaped, and control characters written out."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ..advice import for_python
from ..records.harmless import harmless
from .blocks import Bars, Column, Figure, Form, Later, Link, Page, Part, Row, Table, Text, Timeline, Values
from .sentences import whole
from .tables import ShownTable, columns_shown, shown

_FOLDER = Path(__file__).parent
STATIC = _FOLDER / "static"
"""Files that all pages have."""
HEADLINE = 160
"""Letters of a heading, and of a link to a page."""
_BLANK = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Letters by their categories that have no shape."""
_LONG = 300
"""Letters of a text that a cell shows; the page's JSON has all."""
_KINDS = {Table: "table", Values: "values", Figure: "figure", Bars: "bars", Text: "text", Form: "form"}
_KINDS_OF_BLOCKS = {**_KINDS, Timeline: "timeline", Later: "later", Part: "part"}

SHOWN: Mapping[str, Callable[[Any], str]] = {
    "text": lambda value: _cut(_in_words(value)),
    "long": lambda value: _cut(_in_words(value)),
    "whole": lambda value: _cut(_in_words(value)),
    "code": lambda value: _cut(str(value)),
    "count": lambda value: f"{value:,}",
    "number": lambda value: _digits(value),
    "mixed": lambda value: f"{value:,}" if isinstance(value, int) else f"{value:.4g}",
    "share": lambda value: f"{100 * value:.1f} %",
    "probability": lambda value: f"{value:.3f}" if value >= 0.0005 or value == 0 else f"{value:.0e}",
    "error": lambda value: f"{value:.2e}",
    "signed": lambda value: _digits(value, "+"),
    "time": lambda value: str(value)[:16].replace("T", " "),
    "flag": lambda value: "yes" if value else "no",
    "version": lambda value: str(value)[:12],
    "id": lambda value: str(value),
}
"""How values are shown, by a column's kind; `mixed` is a column of counts and of measures."""
NUMERIC = frozenset({"count", "number", "mixed", "share", "probability", "error", "signed", "id"})
"""Kinds that stand at the right of their columns."""


def shown_value(value: Any, kind: str) -> str:
    """A value as text; nothing for None, and a text whatever the kind."""
    if value is None or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, str) and kind in NUMERIC:
        return _cut(value)
    if isinstance(value, bool):
        kind = "flag"
    return SHOWN[kind](value)


def _digits(value: float, sign: str = "") -> str:
    """A number by four digits, zeros at its end included; a count as it is."""
    return f"{value:{sign},}" if isinstance(value, int) else f"{value:{sign}#.4g}".removesuffix(".")


def visible(text: str) -> str:
    r"""A text that can be seen and pointed at: one of blanks and marks without a shape is written out, as `\u200b`."""
    if text and all(one in _BLANK or unicodedata.category(one)[0] in "ZCM" for one in text):
        return "".join(f"\\u{ord(one):04x}" for one in text)
    return text


def headline(text: str) -> str:
    """A text as a heading or a link has it: its beginning, if it is long."""
    return text if len(text) <= HEADLINE else f"{text[: HEADLINE - 1]}…"


def _in_words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_in_words(one)}" for name, one in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_in_words, value))
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


def _cut(text: str) -> str:
    return text if len(text) <= _LONG else f"{text[: _LONG - 1]}…"


def _final(value: Any) -> Any:
    """What a template writes of a value: markup as it is, texts without control characters."""
    return value if isinstance(value, Markup) else harmless(str(value)) if value is not None else ""


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_FOLDER / "templates", encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_final,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(visible=visible, headline=headline, whole=whole)
    environment.globals.update(
        kind=lambda block: _KINDS_OF_BLOCKS[type(block)],
        columns_shown=columns_shown,
        numeric=NUMERIC,
        cell=_cell,
        shown_value=shown_value,
    )
    return environment


def _cell(row: Row, column: Column) -> Link:
    """What a row has in a column, and where it leads."""
    text = shown_value(row.get(column.name), column.kind)
    return Link(text, column.link(row) if column.link is not None and text else None)


class Frame:
    """What stands around a page: how its address is changed, and what a template may ask.

    Attributes:
        page: the page.
        tables: its tables as they are shown, by name.
    """

    def __init__(
        self,
        page: Page,
        query: Mapping[str, str],
        path: str,
        *,
        static: Callable[[str], str],
        live: bool,
        whole: bool = False,
    ) -> None:
        self.page = page
        self.live = live
        self.static = static
        self._path = path
        self._query = query
        self.tables: dict[str, ShownTable] = {
            table.name: shown(table, query if live else {}, whole=whole) for table in page.tables
        }

    def address(self, changes: Mapping[str, Any], suffix: str = "") -> str:
        """This page's address with some parameters changed, as HTML or as data."""
        query = {**self._query, **changes}
        pairs = [(name, str(value)) for name, value in query.items() if value not in (None, "")]
        path = self._path
        if suffix:
            path = f"{'/index' if path == '/' else path}.{suffix}"
        return f"{path}?{urlencode(pairs)}" if pairs else path

    def hidden(self, without: Sequence[str]) -> list[tuple[str, str]]:
        """The address's parameters for a form that changes some."""
        return [(name, value) for name, value in self._query.items() if name not in without]


def render(
    page: Page,
    frame: Frame,
    *,
    context: Any = None,
    navigation: Sequence[Link] = (),
    command: str = "",
    permanent: str = "",
    token: str = "",
    store: str = "",
    store_name: str = "",
    words: Callable[[str], str] = for_python,
) -> str:
    """The HTML of a page.

    Args:
        page: what it holds.
        frame: its tables as they are shown, and its address.
        context: the context to show at the top, or None.
        navigation: the links at the top of all pages.
        command: the command that gives the same.
        permanent: the page's permanent address.
        token: of forms that change the store.
        store: where the database is.
        store_name: what it is called there.
        words: says the marks of `kndb.advice`.
    """
    template = _environment().get_template("page.html")
    return template.render(
        page=page,
        frame=frame,
        context=context,
        navigation=navigation,
        command=command,
        permanent=permanent,
        token=token,
        store=store,
        store_name=store_name,
        words=words,
    )
