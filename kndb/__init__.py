"""kndb: a database of the knowledge neurons of language models, and version control for edits of them.

`kndb.open(path)` gives the `Database`; everything the command line does, it does through that object.
Importing this package imports no torch: the engines are imported when first needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .database import Database
    from .database import open_database as open  # noqa: A004
    from .errors import KndbError
    from .records import Neuron

__all__ = ["Database", "KndbError", "Neuron", "__version__", "open"]

_HOMES = {
    "Database": ("database", "Database"),
    "KndbError": ("errors", "KndbError"),
    "Neuron": ("records", "Neuron"),
    "open": ("database", "open_database"),
}


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'kndb' has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _HOMES[name]
    return getattr(import_module(f".{module}", __name__), attribute)
