"""Who takes a step of a model's version."""

from __future__ import annotations

import getpass
import os

VARIABLE = "KNDB_AUTHOR"


def author() -> str | None:
    """The environment's KNDB_AUTHOR, else the operating system's name of the user; None if there is none."""
    named = os.environ.get(VARIABLE, "").strip()
    if named:
        return named
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # A user number without a name, as in a container.
        return None
