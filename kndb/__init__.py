"""kndb: a database of the knowledge neurons of language models, and version control for edits of them.

`kndb.open(path)` gives the `Database`; everything the command line does, it does through that object.
Importing this package imports no torch: the engines are imported when first needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from . import errors
    from .database import Database, upgrade_database
    from .database import open_database as open  # noqa: A004
    from .database.attribution import methods as attribution_methods
    from .database.edits.optimize import Neighbours, OptimizeSettings
    from .database.edits.trial_measures import EditMethod, TrialSizes
    from .database.lab import own_facts
    from .database.threads import use_threads
    from .errors import KndbError
    from .records.display import Rows
    from .records.figures import FigureOptions
    from .records.models import Neuron

_HOMES = {
    "Database": ("database", "Database"),
    "EditMethod": ("database.edits.trial_measures", "EditMethod"),
    "FigureOptions": ("records.figures", "FigureOptions"),
    "KndbError": ("errors", "KndbError"),
    "Neighbours": ("database.edits.optimize", "Neighbours"),
    "Neuron": ("records.models", "Neuron"),
    "OptimizeSettings": ("database.edits.optimize", "OptimizeSettings"),
    "Rows": ("records.display", "Rows"),
    "TrialSizes": ("database.edits.trial_measures", "TrialSizes"),
    "attribution_methods": ("database.attribution", "methods"),
    "errors": ("errors", ""),
    "open": ("database", "open_database"),
    "own_facts": ("database.lab", "own_facts"),
    "upgrade_database": ("database", "upgrade_database"),
    "use_threads": ("database.threads", "use_threads"),
}
__all__ = [
    "Database",
    "EditMethod",
    "FigureOptions",
    "KndbError",
    "Neighbours",
    "Neuron",
    "OptimizeSettings",
    "Rows",
    "TrialSizes",
    "__version__",
    "attribution_methods",
    "errors",
    "open",
    "own_facts",
    "upgrade_database",
    "use_threads",
]


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'kndb' has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _HOMES[name]
    home = import_module(f".{module}", __name__)
    return getattr(home, attribute) if attribute else home
