"""`kndb edit`: plan, look at, apply and measure edits; a module for each command."""

from __future__ import annotations

from ..commands import command, group
from .apply import apply
from .bench import bench
from .capture import capture
from .diff import diff
from .erase import erase
from .eval import evaluate
from .evaluations import evaluations
from .list import list_edits
from .log import log
from .optimize import optimize
from .pull import pull
from .push import push
from .revert import revert
from .show import show
from .sweep import sweep
from .trials import trials
from .update import update
from .verify import verify

PLAN, MOVE, LOOK = "Plan an edit", "Apply and revert", "Look at edits"
MEASURE, SHARE = "Measure edits", "Share edits"
app = group("Edit what a model knows: edits are planned, stored, and reversible bit for bit.")
command(app, "update", "Plan a new answer for a fact, by a rule.", PLAN, table=True)(update)
command(app, "optimize", "Plan a new answer for a fact, by gradient steps.", PLAN, table=True)(optimize)
command(app, "erase", "Plan an edit that makes the model forget a relation.", PLAN, table=True)(erase)
command(app, "capture", "Plan what another tool did to a checkpoint.", PLAN)(capture)
command(app, "apply", "Apply edits, all or none.", MOVE, table=True)(apply)
command(app, "revert", "Take edits out again, all or none.", MOVE, table=True)(revert)
command(app, "list", "List the edits.", LOOK, table=True)(list_edits)
command(app, "show", "Show an edit, and the value slots it changes.", LOOK)(show)
command(app, "diff", "Show what differs between two versions.", LOOK, table=True)(diff)
command(app, "log", "List every apply, revert and restore.", LOOK, table=True)(log)
command(app, "verify", "Check edits byte by byte.", LOOK, table=True)(verify)
command(app, "eval", "Measure what an edit did, beside random neurons.", MEASURE, table=True)(evaluate)
command(app, "evaluations", "Tabulate what edits did.", MEASURE, table=True)(evaluations)
command(app, "bench", "Try edits of many facts, alone and piled up.", MEASURE, table=True)(bench)
command(app, "sweep", "Try settings of a way to edit.", MEASURE, table=True)(sweep)
command(app, "trials", "List benches and sweeps, or show one again.", MEASURE, table=True)(trials)
command(app, "push", "Write edits to a file for a colleague.", SHARE)(push)
command(app, "pull", "Take edits from such a file.", SHARE, table=True)(pull)
