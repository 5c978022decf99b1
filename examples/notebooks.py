"""Runs the notebooks of this folder, and keeps what their cells show in them.

    python examples/notebooks.py                 # all of them
    python examples/notebooks.py find-and-read   # one

A notebook's cells run one after the other in this process, in an empty folder. A cell's last expression is shown as
Jupyter would show it: its `_repr_html_` or image, and its text beside. All else in the file stays.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
RICH = {
    "text/html": "_repr_html_",
    "image/svg+xml": "_repr_svg_",
    "image/png": "_repr_png_",
    "text/markdown": "_repr_markdown_",
}
"""The ways in which a value may show itself, besides as text: the MIME type and the method."""


class CellError(Exception):
    """A cell that did not run to its end."""


def main(names: list[str]) -> None:
    """Runs notebooks by name, all if none is named, and writes them."""
    for path in sorted(FOLDER.glob("*.ipynb")):
        if not names or path.stem in names:
            print(f"{path.name} …", flush=True)
            notebook = json.loads(path.read_text(encoding="utf-8"))
            with tempfile.TemporaryDirectory() as folder, working_in(folder):
                executed(notebook, path.name)
            path.write_text(json.dumps(notebook, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


@contextlib.contextmanager
def working_in(folder: str) -> Iterator[None]:
    """Makes a folder the current one for a while."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def executed(notebook: dict[str, Any], name: str) -> dict[str, Any]:
    """Runs all cells of a notebook in the current folder, and puts what they show into it.

    Raises:
        CellError: if a cell raises anything.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    count = 0
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            count += 1
            cell["execution_count"] = count
            try:
                cell["outputs"] = run("".join(cell["source"]), names, count)
            except Exception as error:
                raise CellError(f"{name}, cell {count}: {type(error).__name__}: {error}") from error
    return notebook


def run(source: str, names: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """Runs one cell; gives its outputs: what was printed, and what its last expression is."""
    tree = ast.parse(source)
    shown: Any = None
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, f"<cell {count}>", "exec"), names)
        if last is not None and isinstance(last, ast.Expr):
            shown = eval(compile(ast.Expression(last.value), f"<cell {count}>", "eval"), names)
    outputs: list[dict[str, Any]] = []
    if out.getvalue():
        outputs.append({"name": "stdout", "output_type": "stream", "text": lines(out.getvalue())})
    if shown is not None and not source.rstrip().endswith(";"):
        outputs.append(
            {"data": display(shown), "execution_count": count, "metadata": {}, "output_type": "execute_result"}
        )
    return outputs


def display(value: Any) -> dict[str, Any]:
    """A value as Jupyter would keep it: text, and whatever richer forms it has."""
    data: dict[str, Any] = {"text/plain": lines(repr(value))}
    for kind, method in RICH.items():
        give = getattr(value, method, None)
        found = give() if give is not None else None
        if isinstance(found, bytes):
            data[kind] = base64.b64encode(found).decode()
        elif found is not None:
            data[kind] = lines(found)
    if type(value).__module__.startswith("matplotlib.") and hasattr(value, "savefig"):
        picture = io.BytesIO()
        value.savefig(picture, format="png", dpi=100, bbox_inches="tight")
        data["image/png"] = base64.b64encode(picture.getvalue()).decode()
    return data


def lines(text: str) -> list[str]:
    """A text as notebooks keep it: a list of lines with their ends."""
    return text.splitlines(keepends=True)


if __name__ == "__main__":
    os.environ |= {"HF_HUB_OFFLINE": "1", "KNDB_AUTHOR": "ada"}
    os.environ.pop("KNDB_DB", None)
    main(sys.argv[1:])
