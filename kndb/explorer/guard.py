"""What the explorer lets in, and the headers of all it answers.

A page of another site that the reader has open can send requests to a server on their own machine. So:

- `Host` must be a name of this server, or its address: a name that somebody else's DNS leads here (rebinding) is none.
- Where a token is needed, each request must carry it: in a cookie that no other site can make a browser send, set by
  opening the address that the command printed; or as `Authorization: Bearer`.
- Whatever is not GET or HEAD must come from a page of this server (`Origin`), and carry the token of its forms; without
  `--allow-edits` there is no such method at all.
- No page of another site may frame, embed or read what is answered, and no page runs scripts but the explorer's own.
  What such a page fetches without leading its reader here is not made at all: that would cost time and be shown to
  nobody.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode

from .addresses import with_query

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
"""Names by which a machine calls itself."""
READING = ("GET", "HEAD")
LONGEST = 16_384
"""Bytes of an address."""
HEADERS: Mapping[str, str] = {
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-store",
}
"""Headers of every answer."""


@dataclass(frozen=True)
class Rules:
    """What is let in.

    Attributes:
        hosts: names and addresses of this server that `Host` may be, without a port.
        any_address: whether any literal IP address is one, too: no DNS leads to those.
        token: the token that requests must carry; None if none is needed, and then nothing can be written.
        editing: whether there are methods that write.
        port: the server's port, which the cookie's name has, as browsers send a machine's cookies to all its ports.
    """

    hosts: Collection[str] = LOOPBACK
    any_address: bool = False
    token: str | None = None
    editing: bool = False
    port: int = 0

    @property
    def cookie(self) -> str:
        """The cookie's name."""
        return f"kndb_explorer_{self.port}"

    @property
    def form_token(self) -> str:
        """What forms carry: made of the token, and not it."""
        return hashlib.sha256(f"form {self.token}".encode()).hexdigest()


@dataclass(frozen=True)
class Refusal:
    """Why a request is not let in."""

    status: int
    reason: str


@dataclass(frozen=True)
class Admission:
    """A request that brought the token in its address: it is led to the same address without it."""

    address: str


def judged(rules: Rules, method: str, target: str, headers: Mapping[str, list[str]]) -> Refusal | Admission | None:
    """Whether a request is let in, from its first line and headers alone; the token of a form is checked later.

    Args:
        rules: what is let in.
        method: such as GET.
        target: path and query as they were sent.
        headers: all values of each header, by its name in lower case.

    Returns:
        None if it is.
    """
    if len(target) > LONGEST:
        # A list of new answers goes into the address; nothing of it is cut off.
        more = " A list this long is for: kndb edit optimize --together --facts FILE" if _is_plan(target) else ""
        return Refusal(414, f"The address is too long.{more}")
    hosts = headers.get("host", [])
    if len(hosts) != 1 or not host_allowed(rules, hosts[0]):
        return Refusal(
            421,
            "The Host of this request is no name of this server. Open it by the address that kndb serve printed, or "
            "name this one with --allow-host.",
        )
    if method not in READING:
        refused = _writing_refused(rules, method, hosts[0], headers)
        if refused is not None:
            return refused
    if _embedded(headers):
        return Refusal(403, "Another site's page asked for this without leading its reader here.")
    if rules.token is None:
        return None
    given = dict(parse_qsl(target.partition("?")[2])).get("token") if method in READING else None
    if given is not None and _same(given, rules.token):
        return Admission(_without_token(target))
    if _carries(rules, headers):
        return None
    told = "This server needs a token: open the address that kndb serve printed, which has it."
    if foreign(headers):
        told += " If you did, and came here by a link of another site's page, press Enter in the address bar."
    return Refusal(401, told)


def host_allowed(rules: Rules, host: str) -> bool:
    """Whether a Host header is a name of this server, whatever its port."""
    name = _name_of(host)
    rest = host[len(name) :]
    if rest and not (rest[0] == ":" and rest[1:].isascii() and rest[1:].isdigit()):
        return False
    if name.lower() in {one.lower() for one in rules.hosts}:
        return True
    return rules.any_address and _is_address(name)


def _name_of(host: str) -> str:
    """A Host header without its port."""
    return host.rpartition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]


def form_allowed(rules: Rules, token: str) -> bool:
    """Whether a form carries its token."""
    return rules.token is not None and _same(token, rules.form_token)


def cookie_header(rules: Rules) -> str:
    """The header that sets the cookie: no script sees it, and no other site's page makes a browser send it."""
    return f"{rules.cookie}={rules.token}; Path=/; HttpOnly; SameSite=Strict"


def foreign(headers: Mapping[str, list[str]]) -> bool:
    """Whether a browser says that another site's page made the request."""
    return any(value.strip().lower() in ("cross-site", "same-site") for value in headers.get("sec-fetch-site", []))


def _embedded(headers: Mapping[str, list[str]]) -> bool:
    """Whether another site's page asks for something, such as a picture, other than by leading its reader here."""
    return foreign(headers) and headers.get("sec-fetch-mode") != ["navigate"]


def _writing_refused(rules: Rules, method: str, host: str, headers: Mapping[str, list[str]]) -> Refusal | None:
    if not rules.editing or rules.token is None:
        return Refusal(405, "Nothing can be changed here: the server was started without --allow-edits.")
    if method != "POST":
        return Refusal(405, "This server knows GET, HEAD and POST only.")
    origins = headers.get("origin", [])
    # Under a name of its own, the server may stand behind a proxy that speaks TLS with readers.
    schemes = ["http"] if _name_of(host).lower() in LOOPBACK else ["http", "https"]
    if len(origins) != 1 or origins[0].lower() not in [f"{scheme}://{host.lower()}" for scheme in schemes]:
        return Refusal(403, "Only a page of this server may change something (the request's Origin is another).")
    if foreign(headers):
        return Refusal(403, "Only a page of this server may change something.")
    return None


def _carries(rules: Rules, headers: Mapping[str, list[str]]) -> bool:
    assert rules.token is not None
    for value in headers.get("authorization", []):
        scheme, _, token = value.partition(" ")
        if scheme.lower() == "bearer" and _same(token.strip(), rules.token):
            return True
    for line in headers.get("cookie", []):
        for one in line.split(";"):
            name, _, value = one.strip().partition("=")
            if name == rules.cookie and _same(value, rules.token):
                return True
    return False


def _without_token(target: str) -> str:
    path, _, query = target.partition("?")
    pairs = [(name, value) for name, value in parse_qsl(query, keep_blank_values=True) if name != "token"]
    # Two slashes at the beginning would lead to another server.
    path = "/" + path.lstrip("/\\")
    return f"{path}?{urlencode(pairs)}" if pairs else with_query(path, {})


def _is_plan(target: str) -> bool:
    return target.partition("?")[0] == "/plan"


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode("utf-8"))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
