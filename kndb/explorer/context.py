"""Which model, refinement and version a page speaks of: taken from the address, shown at the top, kept in links.

An address may name `refinement` (a number), `model`, `method` and `version`. What contradicts the model that the page,
or the address, names, or the method, is left out, so that choosing another one at the top is enough. Where nothing is
named, the store's one rule chooses (`QueryCommands.choose`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import KndbError, NotFoundError
from ..records.attribution import ChosenRefinement, Refinement
from ..records.models import Model
from ..records.run_findings import RunFindings
from .blocks import Link

if TYPE_CHECKING:
    from ..database import Database

LARGEST = 2**62
"""No number of the store's is larger; addresses with such are of nothing."""


@dataclass(frozen=True)
class Context:
    """What a page speaks of.

    Attributes:
        models: all models of the store.
        model: the one; None if the store has none, or several and none was named.
        methods: of that model's refinements, or of all if there is none.
        method: the one that was named; empty for any.
        refinements: of that model and method.
        chosen: the refinement that answers; None without any.
        missing: why there is none, with the marks of `kndb.advice`.
        version: the model's version that was named: a snapshot's name, an id, `base` or `current`.
        snapshots: names of versions of the model.
        left_out: what the address names that is not of the model.
        fixed: whether the page itself names the model, so that another can't be chosen.
        pinned: whether the page itself names the refinement, so that nothing can be chosen.
        run: the run of the refinement that answers.
        standing: which refinement, run and settings these are, with links.
        remarks: what to know of them before the page is believed, with the marks of `kndb.advice`.
    """

    models: Sequence[Model]
    model: Model | None
    refinements: Sequence[Refinement]
    chosen: ChosenRefinement | None
    missing: str
    version: str
    snapshots: Sequence[str] = ()
    left_out: Sequence[str] = ()
    fixed: bool = False
    methods: Sequence[str] = ()
    method: str = ""
    pinned: bool = False
    run: RunFindings | None = None
    standing: Sequence[Link] = ()
    remarks: Sequence[str] = ()

    @property
    def refinement(self) -> Refinement | None:
        """The refinement that answers."""
        return None if self.chosen is None else self.chosen.refinement

    @property
    def number(self) -> int | None:
        """Its number."""
        return None if self.chosen is None else self.chosen.refinement.id

    def query(self) -> dict[str, Any]:
        """The parameters that keep it in an address."""
        model = None if self.model is None or self.chosen is not None else self.model.name
        version = None if self.version == "current" else self.version
        return {"refinement": self.number, "model": model, "method": self.method or None, "version": version}

    def as_json(self) -> dict[str, Any]:
        """What a page's JSON says of it."""
        found, run = self.refinement, self.run
        return {
            "model": None if self.model is None else self.model.name,
            "version": self.version,
            "refinement": self.number,
            "run": None if found is None else found.run_id,
            "method": None if found is None else found.method,
            "attributed_version": None if found is None else found.version,
            "prompts": None if run is None else run.run.prompts,
            "skipped": None if run is None else run.run.skipped,
            "above_tolerance": None if run is None else run.run.above_tolerance,
            "caveat": None if found is None else found.caveat,
        }


def context_of(
    database: Database,
    query: Mapping[str, str],
    *,
    model: str | None = None,
    relations: Sequence[str] = (),
    facts: Sequence[int] = (),
) -> Context:
    """What a page about a model, relations or facts speaks of; see the module.

    Raises:
        NotFoundError: if the address, or the page, names a model that is not there.
    """
    models = database.models.all()
    by_name = {one.name: one for one in models}
    wanted = model or query.get("model") or None
    if wanted is not None and wanted not in by_name:
        raise NotFoundError(f"the store has no model {wanted!r}; it has: {', '.join(by_name) or 'none'}")
    refinements = database.query.refinements()
    by_number = {one.id: one for one in refinements}
    left_out, choice = [], None
    named, method = query.get("refinement", ""), query.get("method") or ""
    if named:
        number = int(named) if named.isascii() and named.isdigit() and len(named) < 19 else None
        found = None if number is None else by_number.get(number)
        if found is None:
            left_out.append(f"refinement {named}, which is not there")
        elif wanted is not None and found.model != wanted:
            left_out.append(f"refinement {named}, which is of {found.model}")
        elif method and found.method != method:
            left_out.append(f"refinement {named}, which is by {found.method}")
        else:
            choice = found
    chosen, missing = None, ""
    try:
        of = choice.model if choice is not None else wanted
        chosen = database.query.choose(choice, of, method=method or None, relations=relations, facts=facts)
    except KndbError as error:
        missing = error.text
    one = by_name.get(chosen.refinement.model if chosen is not None else wanted or "")
    if one is None and len(models) == 1:
        one = models[0]
    snapshots = [] if one is None else [row.name for row in database.snapshots.all(one.name)]
    of_model = [row for row in refinements if one is None or row.model == one.name]
    return Context(
        models,
        one,
        [row for row in of_model if method in ("", row.method)],
        chosen,
        missing,
        query.get("version") or "current",
        snapshots,
        left_out,
        model is not None,
        list(dict.fromkeys(row.method for row in of_model)),
        method,
    )
