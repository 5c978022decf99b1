"""What pages are made of: data, without markup. `rendering` makes HTML of it, `answers` JSON and CSV."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

Row = Mapping[str, Any]
"""A table's row: raw values by the names of columns, and others that links need."""
Href = str | None
"""A link's goal; None where there is nothing to go to."""


@dataclass(frozen=True)
class Link:
    """A text that leads somewhere; without a goal, the text alone."""

    text: str
    href: Href


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: of its values in rows, in addresses, in JSON and in CSV.
        title: its heading.
        kind: how values are shown: see `rendering.SHOWN`.
        link: where a row's cell leads.
        help: what the column means, with its unit.
        sorts: whether the table can be sorted by it.
        optional: whether it is left out of a page on which no row has anything in it; JSON and CSV have it.
        aside: a word of explanation behind a row's value, such as a relation's label.
    """

    name: str
    title: str
    kind: str = "text"
    link: Callable[[Row], Href] | None = None
    help: str = ""
    sorts: bool = True
    optional: bool = False
    aside: Callable[[Row], str | None] | None = None


@dataclass(frozen=True)
class Slice:
    """Some rows of a table whose source sorts and filters by itself, and how many there are in all."""

    rows: Sequence[Row]
    total: int


@dataclass(frozen=True)
class Wanted:
    """What of a table is asked for.

    Attributes:
        sort: a column's name, or None for the table's own order.
        descending: the largest first.
        filter: a text that a row holds, in any case; empty for all.
        start: rows to pass over.
        count: at most so many; None for all.
    """

    sort: str | None = None
    descending: bool = False
    filter: str = ""
    start: int = 0
    count: int | None = None


@dataclass(frozen=True)
class Table:
    """A table, whose rows the server sorts, filters and cuts into pages.

    Attributes:
        name: in addresses, JSON and CSV.
        title: its heading.
        columns: what it shows.
        source: all rows; or a function of what is wanted, for a source that sorts and filters by itself.
        empty: why it is empty, if it is, and what would fill it.
        note: a sentence below the heading.
        size: rows of a page.
        filters: whether it can be filtered.
    """

    name: str
    title: str
    columns: Sequence[Column]
    source: Sequence[Row] | Callable[[Wanted], Slice]
    empty: str = ""
    note: str = ""
    size: int = 50
    filters: bool = True


@dataclass(frozen=True)
class Values:
    """Names and values, such as a model's layers; `help` by name."""

    title: str
    values: Sequence[tuple[str, Any, str]]
    """Name, value or `Link`, kind."""
    name: str = "values"


@dataclass(frozen=True)
class Figure:
    """A picture made by the server.

    Attributes:
        title: its heading.
        svg: markup made by `svg.element`, which escapes all texts.
        caption: what is drawn, with units.
        links: further ways to see it, such as another order.
    """

    title: str
    svg: Markup
    caption: str
    links: Sequence[Link] = ()


@dataclass(frozen=True)
class Bar:
    """A bar of a list: a label, a share 0 to 1, and what is shown behind it."""

    label: str
    share: float
    shown: str
    href: Href = None
    marked: bool = False


@dataclass(frozen=True)
class Bars:
    """Lists of bars side by side, such as answers of two versions."""

    title: str
    columns: Sequence[tuple[str, Sequence[Bar]]]
    note: str = ""
    name: str = "bars"


@dataclass(frozen=True)
class Text:
    """A paragraph. `kind` is `plain`, `empty` (why there is nothing), `warning` or `code`."""

    text: str
    kind: str = "plain"
    title: str = ""
    links: Sequence[Link] = ()


@dataclass(frozen=True)
class Choice:
    """A field of a form. `kind` is `text`, `area`, `select`, `number` or `hidden`."""

    name: str
    label: str = ""
    value: str = ""
    kind: str = "text"
    options: Sequence[tuple[str, str]] = ()
    placeholder: str = ""
    rows: int = 5
    """Of an area, its lines."""


@dataclass(frozen=True)
class Form:
    """What a reader fills in.

    Attributes:
        action: where it goes.
        button: the word on its button.
        fields: what it asks for.
        post: whether it changes the store, and so carries the token.
        warning: what to beware of before the button is pressed.
        note: what the button does.
    """

    action: str
    button: str
    fields: Sequence[Choice] = ()
    post: bool = False
    title: str = ""
    warning: str = ""
    as_one_types: bool = False
    note: str = ""


@dataclass(frozen=True)
class Step:
    """A step of a timeline."""

    title: str
    detail: str
    href: Href = None
    mark: str = ""


@dataclass(frozen=True)
class Timeline:
    """Steps in their order."""

    title: str
    steps: Sequence[Step]
    empty: str = ""


@dataclass(frozen=True)
class Later:
    """The place of what takes a model: a link that asks for it, which scripts follow by themselves.

    Attributes:
        name: of the place; what is computed is a `Part` of this name, on the page that the link leads to.
        title: its heading.
        told: what it takes.
        link: the page that has it.
        busy: what is said while it is computed.
        automatic: whether scripts ask for it: not where another site's page led here.
    """

    name: str
    title: str
    told: str
    link: Link
    busy: str
    automatic: bool = True


@dataclass(frozen=True)
class Part:
    """Blocks that belong together, and take the place of a `Later` of the same name; `beside` one another if narrow."""

    name: str
    blocks: Sequence[Block]
    beside: bool = False


Block = Table | Values | Figure | Bars | Text | Form | Timeline | Later | Part


@dataclass(frozen=True)
class Page:
    """All that a page holds.

    Attributes:
        title: its heading, and the window's title.
        blocks: in order.
        command: the command that gives the same, with the marks of `kndb.advice`; None where there is none.
        crumbs: the way from the front page, without it and without this page.
        before, after: the neighbours in the order of its kind.
        lead: a line below the title.
        context: whether the context is shown at the top.
        status: the answer's status.
    """

    title: str
    blocks: Sequence[Block] = ()
    command: str | None = None
    crumbs: Sequence[Link] = ()
    before: Link | None = None
    after: Link | None = None
    lead: str = ""
    context: bool = True
    status: int = 200
    figures: Mapping[str, Any] = field(default_factory=dict)
    """Further data for the page's JSON, such as a figure's."""

    @property
    def every(self) -> list[Block]:
        """Its blocks, with those of its parts in the parts' places."""
        found: list[Block] = []
        waiting = [*reversed(self.blocks)]
        while waiting:
            block = waiting.pop()
            if isinstance(block, Part):
                waiting += reversed(block.blocks)
            else:
                found.append(block)
        return found

    @property
    def tables(self) -> list[Table]:
        """Its tables, in order."""
        return [block for block in self.every if isinstance(block, Table)]
