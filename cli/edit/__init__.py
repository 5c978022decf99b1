"""`kndb edit`: plan, look at, apply and measure edits; a module for each command."""

from __future__ import annotations

import typer

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

app = typer.Typer(no_args_is_help=True, help="Edit what a model knows: planned, stored, reversible bit for bit.")
app.command("update")(update)
app.command("optimize")(optimize)
app.command("erase")(erase)
app.command("apply")(apply)
app.command("revert")(revert)
app.command("show")(show)
app.command("list")(list_edits)
app.command("log")(log)
app.command("diff")(diff)
app.command("verify")(verify)
app.command("eval")(evaluate)
app.command("evaluations")(evaluations)
app.command("capture")(capture)
app.command("push")(push)
app.command("pull")(pull)
app.command("bench")(bench)
app.command("sweep")(sweep)
app.command("trials")(trials)
