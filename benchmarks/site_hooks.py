"""What the site has beside the pages in docs/: files of the project's root, what its README says, and the reference.

mkdocs calls these functions (`hooks` in mkdocs.yml). Links in the files, and in pages to them, are written for a reader
of the repository; here they are turned into those of the site.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import is_dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import kndb
from kndb import records

ROOT = Path(__file__).parents[1]
ROOT_PAGES = {
    "index.md": "README.md",
    "data.md": "data/README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
}
"""Pages of the site that lie outside docs/, by the site's name."""
ROOT_FILES = ("CITATION.cff", "examples/find-and-read.ipynb", "examples/edit-and-share.ipynb")
"""Files that pages link to, and that the site has as they are."""
EXAMPLE, EXAMPLE_ON_SITE = ROOT / "build" / "explorer", "explorer-example"
"""The explorer's pages of lab-bert, which `make site` writes, and where the site has them."""
LINK = re.compile(r"(?<=\]\()([^)\s#:]+)(?=[)#])")
CODE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages from outside docs/, and the reference."""
    for name, path in ROOT_PAGES.items():
        files.append(File.generated(config, name, content=(ROOT / path).read_text(encoding="utf-8")))
    for path in ROOT_FILES:
        files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    files.append(File.generated(config, "reference.md", content=reference()))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Turns a page's links to files of the repository into links to pages of the site."""
    if page.file.src_uri == "explorer.md" and (EXAMPLE / "index.html").is_file():
        markdown += f'\nHere it is: <a href="{EXAMPLE_ON_SITE}/index.html">lab-bert\'s pages</a>.\n'
    home = ROOT_PAGES.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    parts = CODE.split(markdown)
    parts[::2] = [LINK.sub(lambda found: site_link(found[1], home), bare_pipes(part)) for part in parts[::2]]
    return "".join(parts)


def on_post_build(config: MkDocsConfig) -> None:
    """Puts the explorer's example beside the pages, if `make site` wrote it."""
    if EXAMPLE.is_dir():
        shutil.copytree(EXAMPLE, Path(config.site_dir) / EXAMPLE_ON_SITE, dirs_exist_ok=True)


def bare_pipes(text: str) -> str:
    """Takes the backslash off pipes in a table's code, which only GitHub's Markdown needs."""
    return re.sub(r"`[^`\n]*`", lambda found: found[0].replace("\\|", "|"), text)


def site_link(target: str, home: str) -> str:
    """Where a link leads on the site.

    Args:
        target: the link, relative to the file that has it.
        home: that file, relative to the project's root.
    """
    path = (ROOT / home).parent.joinpath(target).resolve()
    if not path.is_relative_to(ROOT):
        return target
    found = str(path.relative_to(ROOT))
    named = {place: name for name, place in ROOT_PAGES.items()}
    return named.get(found, found.removeprefix("docs/"))


def reference() -> str:
    """The page of all public names, for mkdocstrings to fill."""
    return "\n".join(
        [
            "# Reference",
            "\nFrom the docstrings of the public names. [kndb from Python](python.md) is the place to start.",
            "\n## kndb\n",
            *_public(),
            "\n## Namespaces of a Database\n",
            *_namespaces(),
            "\n## Records\n",
            "What the methods give: frozen dataclasses of plain values.\n",
            *_records(),
            "\n## Errors\n",
            *_entry("kndb.errors", "kndb.errors"),
        ]
    )


def _entry(path: str, heading: str, members: str = "") -> list[str]:
    options = {"heading": f'"{heading}"', "toc_label": f'"{heading}"', "heading_level": "3"}
    options |= {"members": members} if members else {}
    return [f"::: {path}", "    options:", *(f"      {name}: {value}" for name, value in options.items()), ""]


def _public() -> Iterator[str]:
    for name in kndb.__all__:
        found = getattr(kndb, name)
        if name not in ("__version__", "errors"):
            # The namespaces have entries of their own.
            members = "[load_model, close]" if found is kndb.Database else ""
            # An alias of types does not know where it is from; the package does.
            module, attribute = vars(kndb)["_HOMES"][name]
            home = f"{getattr(found, '__module__', '')}.{getattr(found, '__qualname__', '')}"
            path = home if hasattr(found, "__qualname__") else f"kndb.{module}.{attribute}"
            yield from _entry(path, f"kndb.{name}", members)


def _namespaces() -> Iterator[str]:
    """Which class a namespace is of, an open database knows."""
    with tempfile.TemporaryDirectory() as folder, kndb.open(Path(folder) / "kndb.db") as database:
        for name, found in vars(kndb.Database).items():
            if isinstance(found, cached_property):
                kind: Any = type(getattr(database, name))
                yield from _entry(f"{kind.__module__}.{kind.__qualname__}", f"db.{name}")


def _records() -> Iterator[str]:
    for module in iter_modules(records.__path__, "kndb.records."):
        if any(is_dataclass(value) for value in vars(import_module(module.name)).values()):
            yield from _entry(module.name, module.name)
