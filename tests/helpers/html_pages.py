"""Reads pages of HTML as a browser would see them, strictly: tags closed in order, no attribute twice."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Html(HTMLParser):
    """A page: its tags with attributes, links, tables by the identifiers of their sections, and its text.

    `said` has what each cell of a figure says, with its row and column.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.text: list[str] = []
        self.said: list[tuple[tuple[str, str], str]] = []
        self._row = ""
        self._cell: tuple[str, str] | None = None
        self._open: list[str] = []
        self._section = ""
        self._rows: list[list[str]] | None = None
        self.feed(text)
        self.close()
        assert self._open == [], f"not closed: {self._open}"

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        assert len(attributes) == len(attrs), f"{tag} has an attribute twice"
        self.tags.append((tag, attributes))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "g" and "data-row" in attributes:
            self._row = attributes["data-row"]
        if tag in ("a", "g"):
            self._cell = (self._row, attributes["data-column"]) if "data-column" in attributes else None
        if tag == "section":
            self._section = attributes.get("id") or ""
        elif tag == "table":
            self._rows = self.tables[self._section] = []
        elif self._rows is not None and tag == "tr":
            self._rows.append([])
        elif self._rows is not None and tag in ("td", "th"):
            self._rows[-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open, f"{tag} closes nothing"
        assert self._open.pop() == tag, f"{tag} closes another"
        if tag == "table":
            self._rows = None

    def handle_data(self, data):
        self.text.append(data)
        if self._cell is not None and self._open[-1] == "title":
            self.said.append((self._cell, data))
        if self._rows and self._rows[-1] and self._open[-1] != "span":
            self._rows[-1][-1] += data.strip()

    @property
    def links(self) -> list[str]:
        """Where its links lead."""
        return [attributes["href"] or "" for tag, attributes in self.tags if tag == "a" and "href" in attributes]

    def rows(self, section: str) -> list[list[str]]:
        """The rows of a section's table, without its head."""
        return self.tables[section][1:]
