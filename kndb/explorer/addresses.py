"""Addresses of pages: of a server, or of files that open from disk.

A page's address is its segments, each encoded by itself so that no name of a relation or model can be taken for
another. What browsers and proxies read into an address whether or not it is written `%2F` stands as `~` and the byte in
hexadecimal, which all of them leave alone: slashes, percent signs, control characters, and the dots of names that
would be a way up (`.` and `..`) or end as data do (`.json`). A name too long for an address is named by its sha256.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any, Protocol
from urllib.parse import quote, unquote, urlencode

SUFFIXES = ("json", "csv")
"""What ends the address of a page as data."""
Segments = tuple[str, ...]
LONGEST_NAME = 1_000
"""Bytes of an encoded name; a longer one is named by its digest."""
_DIGEST = "~sha256-"
_READ_INTO = re.compile(r"[~/\\%\x00-\x1f\x7f]")
_ESCAPED = re.compile(r"~([0-9A-F]{2})")
_ENDING = re.compile(rf"\.(?=(?:{'|'.join(SUFFIXES)})\Z)")


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
        key = query.get("relation")
        return with_query(path_of(segments), {**query, "relation": short_name(key)} if key else query)

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
    """A segment of a path: nothing in it ends it, goes up, or is taken for a suffix."""
    escaped = _READ_INTO.sub(lambda found: f"~{ord(found[0]):02X}", segment)
    if segment in (".", ".."):
        escaped = escaped.replace(".", "~2E")
    encoded = quote(_ENDING.sub("~2E", escaped), safe="~") or "~"
    return encoded if len(encoded) <= LONGEST_NAME else digest_of(segment)


def decoded(segment: str) -> str:
    """The segment that was encoded; what was percent-encoded by others is read, too."""
    # Each segment is decoded once, after it was split off: a name that only looks encoded twice stays as it is.
    text = unquote(segment, errors="replace")
    return "" if text == "~" else _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)


def digest_of(name: str) -> str:
    """What stands for a name that is too long for an address."""
    return _DIGEST + hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def long_name(text: str, names: Iterable[str]) -> str:
    """The name that a digest of an address stands for, among some; any other text is itself."""
    if not text.startswith(_DIGEST):
        return text
    return next((name for name in names if name == text or digest_of(name) == text), text)


def short_name(name: str) -> str:
    """A name as a parameter of an address has it: itself, or its digest if it is too long."""
    return name if len(quote(name, safe="")) <= LONGEST_NAME else digest_of(name)


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
    return tuple(map(decoded, path.split("/"))) if path else (), suffix
