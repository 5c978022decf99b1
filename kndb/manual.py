"""The pages of the documentation, which kndb ships: what `kndb docs` lists and prints.

`PAGES` is the one list of them. The site (`mkdocs.yml`) and the files in `docs/` are held against it by a test; a page
`NAME` is the file `NAME.md` there, and `data` is what lies beside the shipped facts.
"""

from __future__ import annotations

from difflib import get_close_matches
from importlib.resources import files

from .errors import NotFoundError

PAGES = {
    "demo": "what `kndb demo` shows, step by step",
    "session": "version control of edits at work, from apply to push",
    "commands": "every command and option, output formats, exit codes",
    "explorer": "the database in a browser",
    "python": "the same from Python",
    "glossary": "what the words mean",
    "formats": "fact lists, results of others, what is exported",
    "attribution": "what is computed, how, and how exactly; refinement",
    "prompts": "which tokens a model is fed, chat templates, which tokens an answer has",
    "queries": "what each number of the queries is",
    "knowledge-tests": "tests of what a model knows, and which step broke one",
    "experiments": "suppressing, amplifying and reading knowledge neurons",
    "edits": "edits, versions, snapshots, evaluation, crashes",
    "editing-methods": "how each way to plan an edit works, and when to use which",
    "schema": "the tables, for SQL of your own",
    "stability": "what stays as it is from version to version",
    "paper": "the paper's figures beside those of other models",
    "real-models": "a really pretrained model beside BERT and the lab models",
    "localisation": "where facts were planted, and what each method finds of it",
    "data": "the facts and the two lab models that kndb ships",
    "benchmarks": "measured figures, with their commands",
    "scale": "a store on PostgreSQL: when to move, how, what differs",
    "reliability": "the faults that were tried, how often, and what happened",
    "architectures": "the model families, and how to add one",
    "architecture": "how the code is laid out, for those who change it",
}
"""Each page's name and what it is about, in the order to read them in."""


def page_text(name: str) -> str:
    """The Markdown of a page.

    Args:
        name: one of `PAGES`.

    Raises:
        NotFoundError: if there is no such page.
    """
    if name not in PAGES:
        near = get_close_matches(name, PAGES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise NotFoundError(f"no page {name!r}{hint} The pages: {', '.join(PAGES)}")
    if name == "data":
        return files("kndb.data").joinpath("README.md").read_text(encoding="utf-8")
    return files("kndb.docs").joinpath(f"{name}.md").read_text(encoding="utf-8")
