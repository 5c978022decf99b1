"""The whole site as static files that open from disk: for an appendix, or where no server may run.

A page is a file named after its address, links are relative, and all pages speak of one refinement. What a server
answers (search, questions, SQL, sorted or filtered tables) is left out; tables have all their rows. What a model gives
is computed while the pages are written: answers before and with each edit, each neuron's tokens, and the prompts that
activate it.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ..advice import for_python, option
from ..errors import NotFoundError, OutputError
from ..records.progress import Progress
from .addresses import Segments
from .blocks import Link
from .registry import find, headings
from .rendering import STATIC, Frame, render
from .visit import Visit
from .workroom import Workroom

if TYPE_CHECKING:
    from ..database import Database

MOST_PAGES = 200_000
"""So that a store far beyond what a reader could open is refused before the disk is full."""
INDEX = "index.html"
UNFINISHED = ".kndb-unfinished"
"""A file that is in the folder until all pages are."""
_USUAL = re.compile(r"\d+|P\d+|L\d+\.N\d+|(?![pl]\d)[a-z][a-z0-9_-]{0,60}", re.ASCII)
_CLEANED = re.compile(r"[^A-Za-z0-9_-]+")


@dataclass(frozen=True)
class WrittenSite:
    """What was written.

    Attributes:
        pages: how many.
        bytes: of all files.
        missing: why some pages lack what a model gives: each reason with the number of these pages.
    """

    pages: int
    bytes: int
    missing: Mapping[str, int] = field(default_factory=dict)


class FileAddresses:
    """Addresses of files, relative to the page that is made; notes which pages were linked to.

    Attributes:
        linked: pages that were linked to since it was last emptied.
    """

    live = False

    def __init__(self) -> None:
        self._depth = 0
        self.linked: list[Segments] = []

    def at(self, segments: Segments) -> None:
        """Says which page is made next."""
        self._depth = max(0, len(segments) - 1)
        self.linked = []

    def page(self, segments: Iterable[Any], query: Mapping[str, Any]) -> str | None:
        """The address of a page's file; None where there is none."""
        wanted = tuple(map(str, segments))
        if query.get("relation") and wanted == ("facts",):
            wanted = ("relations", str(query["relation"]))  # Its page lists its facts.
        found = find(wanted, editing=False)
        if found is None or not found[0].exported:
            return None
        self.linked.append(wanted)
        return "../" * self._depth + "/".join(quote(one) for one in file_parts(wanted))

    def static(self, name: str) -> str:
        """The address of a file that all pages have."""
        return "../" * self._depth + f"static/{name}"


def file_parts(segments: Segments) -> tuple[str, ...]:
    """The parts of a page's file, below the folder.

    Usual names stay as they are: numbers, keys such as P36, neurons, short words of small letters. All others are cut
    and cleaned, and end in `~` and a part of their sha256: no two names share a file, even where a file system takes
    large letters for small ones.
    """
    if not segments:
        return (INDEX,)
    *folders, last = [one if _USUAL.fullmatch(one) else _unusual(one) for one in segments]
    return (*folders, f"{last}.html")


def _unusual(name: str) -> str:
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{_CLEANED.sub('-', name)[:40].lower()}~{digest[:16]}"


def export_site(
    database: Database,
    folder: str | Path,
    *,
    model: str | None = None,
    refinement: int | None = None,
    force: bool = False,
    words: Callable[[str], str] = for_python,
    progress: Progress | None = None,
) -> WrittenSite:
    """Writes all pages of a store that can be reached from the front page as files.

    Args:
        database: the store.
        folder: where; it is made if need be.
        model: only what belongs to this model, where pages choose a refinement.
        refinement: the refinement that pages speak of; None takes the one that the store's rule chooses.
        force: write into a folder that has files, replacing those of the same names.
        words: says the marks of `kndb.advice` as commands.
        progress: told how many pages are written, of how many that are known so far.

    Raises:
        NotFoundError: if there is no such model or refinement.
        OutputError: if the folder has files, not those of an export that was interrupted, and `force` is false; if a
            file can't be written, or a symbolic link stands in its place.
    """
    target = Path(folder)
    unfinished = (target / UNFINISHED).is_file()
    if target.exists() and not (force or unfinished) and (not target.is_dir() or any(target.iterdir())):
        raise OutputError(f"{target} is there already; name a new folder, or replace its files with {option('force')}")
    chosen = database.query.refinement(refinement, model) if refinement is not None or model is not None else None
    query = {} if chosen is None else {"refinement": str(chosen.id)}
    writer = _Writer(database, target, query, words)
    try:
        return writer.write(progress)
    except OSError as error:
        raise OutputError(f"{error.filename or target} can't be written: {error.strerror or error}") from error


class _Writer:
    def __init__(self, database: Database, folder: Path, query: Mapping[str, str], words: Callable[[str], str]) -> None:
        self._database = database
        self._folder = folder
        self._query = query
        self._words = words
        self._addresses = FileAddresses()
        self._room = Workroom(database, patient=False)
        self._missing: Counter[str] = Counter()
        self._folders: set[Path] = set()
        self._bytes = 0

    def write(self, progress: Progress | None) -> WrittenSite:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._write((UNFINISHED,), b"Not all pages are here: run kndb serve --export again.\n")
        for file in STATIC.iterdir():
            self._bytes += self._write(("static", file.name), file.read_bytes())
        known: dict[Segments, None] = {(): None}
        waiting: deque[Segments] = deque([()])
        written = 0
        while waiting:
            segments = waiting.popleft()
            for one in self._page(segments):
                if one not in known:
                    known[one] = None
                    waiting.append(one)
            written += 1
            if len(known) > MOST_PAGES:
                raise OutputError(f"the store has more than {MOST_PAGES:,} pages, which is no site to open from disk")
            if progress is not None:
                progress(written, len(known))
        (self._folder / UNFINISHED).unlink()
        return WrittenSite(written, self._bytes, dict(self._missing))

    def _write(self, parts: Segments, data: bytes) -> int:
        """Writes a file below the folder, through no link that leads out of it; gives its bytes."""
        path = self._folder
        for part in parts:
            if path is not self._folder and path not in self._folders:
                path.mkdir(exist_ok=True)
                self._folders.add(path)
            path = path / part
            if path.is_symlink():
                raise OutputError(f"{path} is a symbolic link, which an export does not follow; remove it first")
        path.write_bytes(data)
        return len(data)

    def _page(self, segments: Segments) -> list[Segments]:
        """Writes a page, and gives those that it links to."""
        found = find(segments, editing=False)
        if found is None:
            raise NotFoundError(f"there is no page of the address {'/'.join(segments)!r}")
        place, parts = found
        self._addresses.at(segments)
        visit = Visit(self._database, parts, self._query, self._addresses, self._room, self._words, computing=True)
        page = place.make(visit)
        self._missing.update(set(visit.failed))
        frame = Frame(page, {}, "", static=self._addresses.static, live=False, whole=True)
        text = render(
            page,
            frame,
            context=visit.shown_context,
            navigation=[
                Link(one.heading, self._addresses.page(one.segments, {})) for one in headings(editing=False, live=False)
            ],
            command=self._words(page.command or ""),
            words=self._words,
        )
        self._bytes += self._write(file_parts(segments), text.encode("utf-8"))
        return self._addresses.linked
