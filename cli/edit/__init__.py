"""`kndb edit`: plan, look at, apply and measure edits; a module for each command."""

from __future__ import annotations

from ..commands import Place, Places

PLAN, MOVE, LOOK = "Plan an edit", "Apply and revert", "Look at edits"
MEASURE, SHARE = "Measure edits", "Share edits"
PLACES = Places(
    "Edit what a model knows: edits are planned, stored, and reversible bit for bit.",
    "kndb.cli.edit",
    {
        "update": Place("update:update", "Plan a new answer for a fact, by a rule.", PLAN, table=True),
        "optimize": Place("optimize:optimize", "Plan a new answer for a fact, by gradient steps.", PLAN, table=True),
        "memit": Place("memit:memit", "Plan new answers for many facts, by MEMIT.", PLAN, table=True),
        "alphaedit": Place("alphaedit:alphaedit", "Plan new answers for many facts, by AlphaEdit.", PLAN, table=True),
        "emmet": Place("emmet:emmet", "Plan new answers for many facts, by EMMET.", PLAN, table=True),
        "finetune": Place("finetune:finetune", "Plan new answers for many facts, by fine-tuning.", PLAN, table=True),
        "rome": Place("rome:rome", "Plan a new answer for a fact, by ROME.", PLAN, table=True),
        "erase": Place("erase:erase", "Plan an edit that makes the model forget a relation.", PLAN, table=True),
        "capture": Place("capture:capture", "Plan what another tool did to a checkpoint.", PLAN),
        "statistics": Place(
            "statistics:statistics", "Count and keep what edits of many facts need of keys.", PLAN, table=True
        ),
        "merge": Place("merge:merge", "Plan one edit of several that overlap.", PLAN, table=True),
        "apply": Place("apply:apply", "Apply edits, all or none.", MOVE, table=True),
        "revert": Place("revert:revert", "Take edits out again, all or none.", MOVE, table=True),
        "delete": Place("delete:delete", "Delete edits that nothing needs.", LOOK, table=True),
        "list": Place("list:list_edits", "List the edits.", LOOK, table=True),
        "show": Place("show:show", "Show an edit, and the value slots it changes.", LOOK),
        "diff": Place("diff:diff", "Show what differs between two versions.", LOOK, table=True),
        "log": Place("log:log", "List every apply, revert and restore.", LOOK, table=True),
        "verify": Place("verify:verify", "Check edits byte by byte.", LOOK, table=True),
        "bisect": Place("bisect:bisect", "Find the step that broke tests.", MEASURE, table=True),
        "eval": Place("eval:evaluate", "Measure what an edit did, beside random neurons.", MEASURE, table=True),
        "evaluations": Place("evaluations:evaluations", "Tabulate what edits did.", MEASURE, table=True),
        "cases": Place("cases:cases", "Draw facts to try edits on.", MEASURE, table=True),
        "bench": Place("bench:bench", "Try edits of many facts, and compare methods.", MEASURE, table=True),
        "sweep": Place("sweep:sweep", "Try settings of a way to edit.", MEASURE, table=True),
        "trials": Place("trials:trials", "List benches and sweeps, or show one again.", MEASURE, table=True),
        "push": Place("push:push", "Write edits to a file for a colleague.", SHARE),
        "pull": Place("pull:pull", "Take edits from such a file.", SHARE, table=True),
        "export": Place("export:export", "Write edits as a LoRA adapter for peft.", SHARE, table=True),
        "import": Place("import_adapter:import_adapter", "Plan what a LoRA adapter of peft adds.", SHARE),
    },
)
