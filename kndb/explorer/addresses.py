"""Addresses of pages: of a server, or of files that open from disk.

A page's address is its segments, each encoded by itself so that no name of a relation or model can be taken for
another: a slash in a name is `%2F`, and a dot of a last segment `%2E`, as `.json` and `.csv` end addresses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol
from urllib.parse import quote, unquote, urlencode

SUFFIXES = ("json", "csv")
"""What ends the address of a page as data."""
Segments = tuple[str, ...]


class Addresses(Protocol):
    """How pages name each other."""

    live: bool
    """Whether a server answers: only then are there forms, sorted tables and pages that compute."""

    def page(self, segments: Iterable[Any], query: Mapping[str, Any]) -> str | None:
        """The address of a page; None if there is no such file."""

    def static(self, name: str) -> str:
        """The address of a file that all pages have."""


class ServedAddresses:
    """Addresses that a server answers, from its root."""

    live = True

    def page(self, segments: Iterable[Any], query: Mapping[str, Any]) -> str | None:
        """The address of a page."""
        return with_query(path_of(segments), query)

    def static(self, name: str) -> str:
        """The address of a file that all pages have."""
        return f"/static/{name}"


def path_of(segments: Iterable[Any], suffix: str = "") -> str:
    """A page's path, each segment encoded; the front page's data are `/index.json`."""
    encoded = [encode(str(one)) for one in segments]
    if not encoded and suffix:
        encoded = ["index"]
    return "/" + "/".join(encoded) + (f".{suffix}" if suffix else "")


def encode(segment: str) -> str:
    """A segment of a path, without any character that ends it, or a suffix."""
    return quote(segment, safe="").replace(".", "%2E").replace("~", "%7E")


def with_query(path: str, query: Mapping[str, Any]) -> str:
    """A path with parameters; those that are None or empty are left out."""
    pairs = [(name, str(value)) for name, value in query.items() if value is not None and str(value) != ""]
    return f"{path}?{urlencode(pairs)}" if pairs else path


def parts_of(pattern: str, segments: Segments) -> dict[str, str] | None:
    """The variable parts of an address, which a pattern names in braces; None if the pattern is another's."""
    wanted = [one for one in pattern.split("/") if one]
    if len(segments) != len(wanted):
        return None
    found = {}
    for one, given in zip(wanted, segments, strict=True):
        if one.startswith("{"):
            found[one.strip("{}")] = given
        elif one != given:
            return None
    return found


def taken_apart(raw: str) -> tuple[Segments, str]:
    """The decoded segments and the suffix of a path as it was sent; the suffix is empty, `json` or `csv`."""
    path, suffix = raw.partition("?")[0].strip("/"), ""
    for one in SUFFIXES:
        if path.endswith(f".{one}"):
            path, suffix = path.removesuffix(f".{one}"), one
    if path == "index" and suffix:
        path = ""
    # A name that only looks encoded twice stays as it is: each segment is decoded once, after it was split off.
    return tuple(unquote(one, errors="replace") for one in path.split("/")) if path else (), suffix
