"""What was asked of a page: the parts and parameters of its address, the database, and how to make links."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..errors import NotFoundError, UsageError
from .addresses import Addresses, long_name
from .blocks import Link, Wanted
from .context import LARGEST, Context, context_of
from .standing import with_standing
from .workroom import Workroom

if TYPE_CHECKING:
    from ..database import Database


class Visit:
    """A page that is asked for.

    Attributes:
        database: the store.
        parts: the variable parts of its path, by name; names that are too long for an address are whole.
        query: the parameters of its address, the last one of each name; its relation likewise.
        addresses: how pages name each other.
        room: what computes with models.
        editing: whether the server may write.
        words: says the marks of `kndb.advice` as commands.
        foreign: whether another site's page asks: nothing that takes long is computed for those.
        computing: where no server answers, whether pages have what a model computes.
        failed: where no server answers, why something could not be computed, once for each reason.
    """

    def __init__(
        self,
        database: Database,
        parts: Mapping[str, str],
        query: Mapping[str, str],
        addresses: Addresses,
        room: Workroom,
        words: Callable[[str], str],
        *,
        editing: bool = False,
        foreign: bool = False,
        computing: bool = False,
    ) -> None:
        self.database = database
        self.parts = {name: long_name(value, self._names()) for name, value in parts.items()}
        key = query.get("relation")
        self.query = {**query, "relation": long_name(key, self._names())} if key else query
        self.addresses = addresses
        self.room = room
        self.words = words
        self.editing = editing
        self.foreign = foreign
        self.computing = computing
        self.failed: list[str] = []
        self._context: Context | None = None

    def _names(self) -> Iterator[str]:
        """Names that an address may be too short for; only read where one is."""
        yield from self.database.facts.labels()
        yield from (one.name for one in self.database.models.all())

    @cached_property
    def labels(self) -> Mapping[str, str | None]:
        """All relations' labels by their keys."""
        return self.database.facts.labels()

    @property
    def live(self) -> bool:
        """Whether a server answers."""
        return self.addresses.live

    @property
    def shown_context(self) -> Context | None:
        """The context, if the page asked for one."""
        return self._context

    def context(
        self,
        *,
        model: str | None = None,
        relations: Sequence[str] = (),
        facts: Sequence[int] = (),
        refinement: int | None = None,
    ) -> Context:
        """What the page speaks of; links carry it from then on. A `refinement` is one that no other can take."""
        query = self.query if refinement is None else {**self.query, "refinement": str(refinement), "method": ""}
        self._context = context_of(self.database, query, model=model, relations=relations, facts=facts)
        self._context = with_standing(self, replace(self._context, pinned=refinement is not None))
        return self._context

    def kept(self) -> dict[str, Any]:
        """The parameters of the context that links carry."""
        found = {} if self._context is None else self._context.query()
        return {name: value for name, value in found.items() if value is not None}

    def to(self, /, *segments: Any, **parameters: Any) -> str | None:
        """The address of another page, with the context, and with parameters; those that are None are left out.

        Names of parameters that are words of Python's end in `_`.
        """
        kept = self.kept()
        named = {name.rstrip("_"): value for name, value in parameters.items()}
        return self.addresses.page(segments, {**kept, **named})

    def again(self, /, *segments: Any, **changes: Any) -> str | None:
        """The address of this page, whose segments are given, with parameters changed."""
        return self.addresses.page(segments, {**self.query, **changes})

    def link(self, text: str, /, *segments: Any, **parameters: Any) -> Link:
        """A link to another page."""
        return Link(text, self.to(*segments, **parameters))

    def number(self, name: str) -> int:
        """A part of the path that is a number.

        Raises:
            NotFoundError: if it is none.
        """
        text = self.parts[name]
        if text.isascii() and text.isdigit() and len(text) < 19 and int(text) < LARGEST:
            return int(text)
        raise NotFoundError(f"{text!r} is not the number of {'an' if name[0] in 'aeiou' else 'a'} {name}")

    def parameter(self, name: str, least: int, most: int, default: int) -> int:
        """A parameter that is a number within bounds.

        Raises:
            UsageError: if it is none.
        """
        text = self.query.get(name, "")
        if not text:
            return default
        if text.isascii() and text.isdigit() and len(text) < 19 and least <= int(text) <= most:
            return int(text)
        raise UsageError(f"{name} must be a number from {least} to {most} (got {text[:40]!r})")

    def require_own(self) -> None:
        """Refuses to compute for another site's page.

        Raises:
            UsageError: if one asks.
        """
        if self.foreign:
            raise UsageError("another site's page asked for this; open the address yourself")


def ordered(wanted: Wanted, names: Mapping[str, str], default: str) -> dict[str, Any]:
    """What a database's method needs of what is wanted of a table: sort, descending, start and count."""
    sort = names.get(wanted.sort or "", default)
    return {"sort": sort, "descending": wanted.descending, "start": wanted.start, "count": wanted.count}
