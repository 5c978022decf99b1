"""`kndb docs`: the pages of the documentation, offline."""

from __future__ import annotations

import pydoc
import sys
from typing import Annotated

import typer

from kndb.manual import PAGES, page_text

from .options import FormatOption
from .output import OutputFormat, print_rows


def docs(
    page: Annotated[
        str | None,
        typer.Argument(metavar="PAGE", help="The page to print; none lists all pages.", show_default=False),
    ] = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """List the pages of the documentation, or print one as Markdown.

    On a terminal a page is shown in the pager that $PAGER names; piped, it is printed as it is. It needs no network.

    Example: kndb docs attribution
    """
    if page is None:
        print_rows([{"page": name, "about": about} for name, about in PAGES.items()], ["page", "about"], output)
        return
    text = page_text(page)
    if sys.stdout.isatty():
        pydoc.pager(text)
    else:
        typer.echo(text, nl=False)
