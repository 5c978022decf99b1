"""The server's application: from a request to a page, as HTML, JSON or CSV; whatever goes wrong is a page, too."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from ..advice import for_python
from ..errors import InputError, KndbError, ModelError, NotFoundError, StoreError, UsageError
from . import answers
from .actions import action_at
from .addresses import Segments, ServedAddresses, path_of, taken_apart, with_query
from .blocks import Link, Page, Text
from .guard import HEADERS, LONGEST, Admission, Refusal, Rules, cookie_header, foreign, form_allowed, judged
from .registry import find, headings
from .rendering import STATIC, Frame, render
from .sentences import whole
from .visit import Visit
from .workroom import Workroom

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from ..database import Database

_log = logging.getLogger("kndb.explorer")
MOST_BODY = 65_536
"""Bytes of a form that is sent."""
MOST_FIELDS = 64
MOST_OF_NAME = 80
"""Letters of a page's address in the name of a file."""
WAITING = 128
"""Requests that may be in work at once; more get a 503. Browsers keep more connections open than they use."""
COMPUTING = frozenset({"tokens", "activating", "answers", "flips", "try"})
"""Parameters that ask a page to compute with a model."""
COUNTING = ("/", "/neurons", "/overlap")
"""Pages that count what all pages of a refinement use, the one that takes longest last."""
AT_ONCE, COMPUTED_AT_ONCE = 1, 4
"""Pages that are made at once, and those that compute; others wait. SQLite's driver gives Python's lock away with each
row, and beside another thread waits for it each time: two pages at once take longer than one after the other."""
STATIC_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_STATUS: tuple[tuple[type[KndbError], int], ...] = (
    (NotFoundError, 404),
    (UsageError, 400),
    (InputError, 400),
    (StoreError, 503),
)


class Explorer:
    """The application, as ASGI servers run it.

    Args:
        database: the store.
        rules: what is let in.
        words: says the marks of `kndb.advice` in commands and messages.
    """

    def __init__(self, database: Database, rules: Rules, words: Callable[[str], str] = for_python) -> None:
        self.database = database
        self.rules = rules
        self.words = words
        self.addresses = ServedAddresses()
        self.room = Workroom(database)
        self._in_work = 0
        self._places = CapacityLimiter(AT_ONCE)
        self._computing = CapacityLimiter(COMPUTED_AT_ONCE)
        self._threads = CapacityLimiter(COMPUTED_AT_ONCE)

    def warm(self) -> None:
        """Makes the pages that count most once, so that no reader waits for what they keep."""
        try:
            for path in COUNTING:
                self._page(path, {}, foreign_page=False)
        except Exception:  # The server may be closing; who opens the page sees what is wrong.
            _log.debug("a page was not made in advance", exc_info=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        self._in_work += 1
        try:
            response = await self._answer(request) if self._in_work <= WAITING else busy()
        except asyncio.CancelledError:  # Whoever stops the server does not wait for what takes long.
            response = Response("The server was stopped.\n", 503, media_type="text/plain")
        finally:
            self._in_work -= 1
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        if request.method == "HEAD":
            response.body = b""
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        raw = request.scope.get("raw_path") or request.scope["path"].encode("utf-8")
        path, query = raw.decode("latin-1").partition("?")[0], request.scope["query_string"].decode("latin-1")
        target = f"{path}?{query}" if query else path
        many: dict[str, list[str]] = {}
        for name, value in request.headers.items():
            many.setdefault(name.lower(), []).append(value)
        found = judged(self.rules, request.method, target, many)
        if isinstance(found, Refusal):
            return Response(f"{found.reason}\n", found.status, media_type="text/plain")
        if isinstance(found, Admission):
            return admitted(found.address, cookie_header(self.rules), by_link=foreign(many))
        try:
            parameters = dict(parse_qsl(query, max_num_fields=MOST_FIELDS, errors="replace"))
        except ValueError:
            return Response("The address has too many parameters.\n", 400, media_type="text/plain")
        parameters.pop("token", None)  # One of an earlier start, which no link is to carry on.
        if request.method == "POST":
            return await self._post(request, path)
        if path.startswith("/static/"):
            return self._static(path.removeprefix("/static/"))
        kind = find(taken_apart(path)[0], editing=self.rules.editing)
        slow = bool(COMPUTING & parameters.keys()) or (kind is not None and kind[0].computes)
        if not slow:
            return await run_sync(self._page, path, parameters, foreign(many), limiter=self._places)
        async with self._computing:
            # Whoever leafs on while others compute is not computed for.
            if await request.is_disconnected():
                return Response("The reader left.\n", 499, media_type="text/plain")
            return await run_sync(self._page, path, parameters, foreign(many), limiter=self._threads)

    def _static(self, name: str) -> Response:
        files: dict[str, Path] = {one.name: one for one in STATIC.iterdir()}
        if name not in files:
            return Response("There is no such file.\n", 404, media_type="text/plain")
        return Response(
            files[name].read_bytes(),
            media_type=STATIC_TYPES[files[name].suffix],
            headers={"cache-control": "no-cache"},
        )

    async def _post(self, request: Request, path: str) -> Response:
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > MOST_BODY:
                return Response("The form is too large.\n", 413, media_type="text/plain")
        try:
            fields = dict(parse_qsl(body.decode("utf-8", "replace"), max_num_fields=MOST_FIELDS))
        except ValueError:
            return Response("The form has too many fields.\n", 400, media_type="text/plain")
        if not form_allowed(self.rules, fields.pop("token", "")):
            return Response("The form does not carry its token: open its page again.\n", 403, media_type="text/plain")
        return await run_sync(self._act, path, fields, limiter=self._computing)

    def _act(self, path: str, fields: Mapping[str, str]) -> Response:
        segments, _ = taken_apart(path)
        # What is answered here has the addresses of the page that the form was on.
        form, kept = _form_page(segments, fields)
        visit = self._visit({}, {}, foreign_page=False)
        try:
            action, parts = action_at(segments)
            visit = self._visit(parts, {}, foreign_page=False)
            done = action.do(visit, fields)
        except KndbError as error:
            address = with_query(path_of(form), kept)
            known = find(form, editing=True) is not None and len(address) <= LONGEST
            again = Link("Open its page again", address) if known else None
            return self._html(refused(error, again), visit, path_of(form), kept if known else {})
        except Exception:
            _log.exception("a form failed")
            return self._html(broken(), visit, path_of(form), {})
        return RedirectResponse(done.address, 303)

    def _page(self, path: str, query: Mapping[str, str], foreign_page: bool) -> Response:
        segments, suffix = taken_apart(path)
        found = find(segments, editing=self.rules.editing)
        visit = self._visit({} if found is None else found[1], query, foreign_page=foreign_page)
        try:
            if found is None:
                raise NotFoundError("there is no page of this address")
            page = found[0].make(visit)
            if page.status < 400:
                return self._as(suffix, page, visit, path_of(segments), query)
        except KndbError as error:
            page = failed(error)
        except Exception:
            _log.exception("a page failed")
            page = broken()
        if suffix:
            said = (block for block in page.blocks if isinstance(block, Text) and block.kind == "warning")
            text = "\n".join(self.words(block.text) for block in said)
            return Response(f"{text}\n", page.status, media_type="text/plain")
        return self._html(page, visit, path_of(segments), query)

    def _visit(self, parts: Mapping[str, str], query: Mapping[str, str], *, foreign_page: bool) -> Visit:
        return Visit(
            self.database,
            parts,
            query,
            self.addresses,
            self.room,
            self.words,
            editing=self.rules.editing,
            foreign=foreign_page,
        )

    def _as(self, suffix: str, page: Page, visit: Visit, path: str, query: Mapping[str, str]) -> Response:
        if suffix == "json":
            context = None if visit.shown_context is None else visit.shown_context.as_json()
            text = answers.as_json(page, query, context, self.words)
            return Response(text, page.status, media_type="application/json")
        if suffix == "csv":
            name, text = answers.as_csv(page, query)
            named = {"content-disposition": f'attachment; filename="{file_name(path, name)}"'}
            return Response(text, page.status, named, media_type="text/csv")
        return self._html(page, visit, path, query)

    def _html(self, page: Page, visit: Visit, path: str, query: Mapping[str, str]) -> Response:
        frame = Frame(page, query, path, static=self.addresses.static, live=True)
        context = visit.shown_context
        kept = {} if context is None else context.query()
        editing, shown = self.rules.editing, self.database.store.shown
        text = render(
            page,
            frame,
            context=context,
            navigation=[
                Link(place.heading, with_query(path_of(place.segments), kept))
                for place in headings(editing=editing, live=True)
            ],
            command=self.words(page.command or ""),
            permanent=with_query(path, {**query, **kept}),
            token=self.rules.form_token if editing else "",
            store=shown,
            store_name=shown if "://" in shown else Path(shown).name,
            words=self.words,
        )
        return Response(text, page.status, media_type="text/html")


def admitted(address: str, cookie: str, *, by_link: bool) -> Response:
    """Sets the cookie, and leads to the address without the token.

    A reader who came by a link of another site's page, such as that of a mail, is led on by a page of this server:
    with a redirect, a browser takes the next request for the other site's, too, and leaves the cookie out.
    """
    if not by_link:
        return RedirectResponse(address, 303, {"set-cookie": cookie})
    text = f'<!doctype html><title>kndb</title><a href="{escape(address)}">Open the database</a>\n'
    return Response(text, 200, {"set-cookie": cookie, "refresh": f"0; url={address}"}, "text/html")


def file_name(path: str, table: str) -> str:
    """What the CSV of a page's table is saved as, such as `facts-588-votes.csv`: of harmless letters alone."""
    of = re.sub(r"[^A-Za-z0-9]+", "-", path).strip("-")[:MOST_OF_NAME]
    return f"{table if table == of or not of else f'{of}-{table}'}.csv"


def busy() -> Response:
    """Says that too much is asked at once."""
    told = f"The server has {WAITING} requests in work already; try again in some seconds.\n"
    return Response(told, 503, {"retry-after": "5"}, "text/plain")


def _form_page(segments: Segments, fields: Mapping[str, str]) -> tuple[Segments, dict[str, str]]:
    """The page that a form was on, and the parameters by which it shows what it showed, as it is now."""
    kept = {name: value for name, value in fields.items() if name not in ("version", "goal", "draft")}
    return (segments if find(segments, editing=True) is not None else segments[:-1]), kept


def failed(error: KndbError) -> Page:
    """The page of an error that kndb raises on purpose."""
    status = next((number for kind, number in _STATUS if isinstance(error, kind)), 409)
    title = {404: "There is no such page", 400: "That can't be shown", 503: "The store can't be read"}.get(
        status, "A model is needed" if isinstance(error, ModelError) else "That can't be done"
    )
    text = error.text
    said = Text(whole(text), "warning")
    return Page(title, [said], status=status)


def refused(error: KndbError, back: Link | None) -> Page:
    """The page of a form that was refused: nothing was changed."""
    page = failed(error)
    links = [] if back is None else [Text("", links=[back])]
    return Page("Nothing was changed", [*page.blocks, *links], status=page.status)


def broken() -> Page:
    """The page of an error of the explorer's own; what it was stands in the server's log."""
    return Page(
        "This page failed",
        [Text("An error of the explorer's own; the terminal in which it runs has the details.", "warning")],
        status=500,
    )
