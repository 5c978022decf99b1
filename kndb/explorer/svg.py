"""SVG made of elements whose names are this package's and whose texts and attributes are escaped.

Colours and sizes of text are classes of the style sheet, so that figures follow light and dark, and no style stands in
the markup.
"""

from __future__ import annotations

from typing import Any

from markupsafe import Markup, escape

from ..records.harmless import harmless


def element(name: str, *children: Any, **attributes: Any) -> Markup:
    """An element; texts among its children are escaped, markup is not.

    Args:
        name: the element's name.
        children: texts, numbers or elements; None is left out.
        attributes: their names with `_` for `-` and for `class_`; None is left out.
    """
    inner = "".join([_text(child) for child in children if child is not None])
    words = "".join(
        [
            f' {key.rstrip("_").replace("_", "-")}="{_text(value)}"'
            for key, value in attributes.items()
            if value is not None
        ]
    )
    return Markup(f"<{name}{words}>{inner}</{name}>")  # noqa: S704 - all that is no name of ours is escaped above


def _text(value: Any) -> str:
    if isinstance(value, Markup):
        return str.__str__(value)
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".")
    if isinstance(value, int):
        return str(value)
    return str(escape(harmless(str(value))))


def picture(
    width: float, height: float, title: str, description: str, *children: Any, kind: str, **attributes: Any
) -> Markup:
    """A whole picture, which fits the page's width, with its title and a description for those who can't see it."""
    return element(
        "svg",
        element("title", title),
        element("desc", description),
        *children,
        viewBox=f"0 0 {width:.0f} {height:.0f}",
        # In em, so that it grows with the page's text where that is larger.
        width=f"{width / 16:.2f}em",
        height=f"{height / 16:.2f}em",
        role="group",
        class_=f"figure {kind}",
        aria_label=f"{title}. {description}",
        **attributes,
    )


def linked(child: Markup, href: str | None, said: str, **attributes: Any) -> Markup:
    """A part of a picture that says what it is when it is pointed at or reached by keyboard, and leads somewhere."""
    title = element("title", said)
    if href is None:
        return element("g", title, child, class_="said", **attributes)
    return element("a", title, child, href=href, **attributes)
