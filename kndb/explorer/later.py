"""What takes a model, on pages that come at once: its place first, then what was computed in that place.

The place holds a link to the same page with a parameter; scripts fetch that page and put the part of it in place, and
without scripts the link leads there. What was computed before is on the page from the beginning.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ..errors import DiffFileError, FingerprintError, KndbError, ModelError, StoreError
from .blocks import Block, Later, Link, Part, Text
from .sentences import begun, whole
from .visit import Visit
from .workroom import Work

Found = TypeVar("Found")


@dataclass(frozen=True)
class Place:
    """Where on a page something is put that is computed later.

    Attributes:
        name: the place's, on the page.
        parameter: of the address, which asks for it.
        title: its heading until it is there, and where it can't be.
        button: what the link says.
        address: of the page with the parameter.
        model: the model that it takes.
        busy: what is done once the model is loaded, such as `asking it`.
        loads: whether it is the first on its page that loads the model.
        beside: whether its blocks are narrow, and stand beside one another where there is room.
    """

    name: str
    parameter: str
    title: str
    button: str
    address: str | None
    model: str
    busy: str
    loads: bool = True
    beside: bool = False


def computed(visit: Visit, place: Place, work: Work[Found], show: Callable[[Found], Sequence[Block]]) -> list[Block]:
    """The part of a page that takes a model, or its place: see the module. Files that compute nothing have neither.

    Args:
        visit: the page that is asked for.
        place: where it goes.
        work: gives what is shown.
        show: makes blocks of it.

    Raises:
        UsageError: if another site's page asks for it, and it is not known.
    """
    found = visit.room.known(work)
    if found is None and not visit.live and not visit.computing:
        return []
    if found is None and visit.live and not visit.query.get(place.parameter):
        loaded = not place.loads or visit.room.ready(work)
        return [_later(visit, place, loaded=loaded)]
    if found is None:
        visit.require_own()
        try:
            found = visit.room.done(work)
        except KndbError as error:
            return [Part(place.name, [Text(why_not(visit, error), "warning", place.title)])]
    return [Part(place.name, show(found), place.beside)]


def _later(visit: Visit, place: Place, *, loaded: bool) -> Later:
    return Later(
        place.name,
        place.title,
        "" if loaded else "This loads the model, which takes some seconds.",
        Link(place.button, place.address),
        f"{begun(place.busy)} …" if loaded else f"Loading {place.model}, and {place.busy} …",
        automatic=not visit.foreign,
    )


def why_not(visit: Visit, error: KndbError) -> str:
    """Why something could not be computed; in files, without words that name places of this machine."""
    text = error.text
    if not visit.live:
        if isinstance(error, FingerprintError):
            text = "the model's checkpoint was another than the one registered when this page was written"
        elif isinstance(error, ModelError):
            text = "the model's checkpoint was not there when this page was written"
        elif isinstance(error, (DiffFileError, StoreError)):
            text = "an edit's object could not be read when this page was written"
        visit.failed.append(text)
    return whole(text)
