"""Naming a model's current version, and going back to one that has a name: what changes, with a button below."""

from __future__ import annotations

from ...advice import Placeholder, call
from ...errors import KndbError, UsageError
from ..blocks import Block, Choice, Column, Form, Page, Table, Text, Values
from ..sentences import whole
from ..visit import Visit
from .parts import edit_columns, edit_rows


def name(visit: Visit) -> Page:
    """What a model's current version is, and a form that names it."""
    context = visit.context()
    if context.model is None:
        return Page("Name a version", [Text("Choose a model above.", "empty")], crumbs=[visit.link("Edits", "edits")])
    model = context.model.name
    version = visit.database.models.resolve_version(model)
    applied = [one for one in visit.database.edits.all(model) if one.applied]
    names = [one.name for one in visit.database.snapshots.all(model) if one.version == version]
    values = [
        ("Model", visit.link(model, "models", model), "text"),
        ("Current version", version, "text"),
        ("Its names", ", ".join(names) or "none yet", "text"),
        ("Edits in it", len(applied), "count"),
    ]
    table = Table(
        "edits",
        "Edits in it",
        edit_columns(visit),
        edit_rows(applied),
        empty="None: it is the checkpoint as registered.",
    )
    form = Form(
        visit.addresses.page(("snapshots",), {}) or "",
        "Name this version",
        [
            Choice("model", value=model, kind="hidden"),
            Choice("version", value=version, kind="hidden"),
            Choice("name", "Name", placeholder="before-the-talk"),
        ],
        post=True,
        title="Name it",
        note="Nothing else changes. Under its name the version can be asked, compared, gone back to and exported.",
    )
    return Page(
        f"Name the current version of {model}",
        [Values("", values), table, form],
        command=call("snapshots.create", Placeholder("NAME"), model=model),
        crumbs=[visit.link("Edits", "edits")],
    )


def restore(visit: Visit) -> Page:
    """The steps that lead to a named version, and a form that takes them."""
    context = visit.context()
    wanted = visit.query.get("name", "").strip()
    if context.model is None or not wanted:
        raise UsageError("name a model and one of its snapshots: they are listed under Edits")
    model = context.model.name
    database = visit.database
    snapshot = database.snapshots.get(wanted, model)
    title = f"Go back to {wanted}"
    crumbs = [visit.link("Edits", "edits")]
    command = call("snapshots.restore", wanted, model=model)
    try:
        ahead = database.snapshots.restore_ahead(wanted, model)
    except KndbError as error:
        return Page(title, [Text(whole(error.text), "warning")], command, crumbs)
    values: list[tuple[str, object, str]] = [
        ("Model", visit.link(model, "models", model), "text"),
        ("Current version", ahead.version_before, "text"),
        (f"Version of {wanted}", snapshot.version, "text"),
        ("Value slots that get other bytes", ahead.slots, "count"),
    ]
    if ahead.parameters:
        values.append(("Parameters that change as a whole", ahead.parameters, "count"))
    blocks: list[Block] = [Values("What changes", values)]
    if not ahead.steps:
        blocks.append(Text(f"{model} is at this version already: there is nothing to do.", "empty"))
        return Page(title, blocks, command, crumbs)
    links = [visit.link("Compare both versions", "compare", kind="versions", model=model, a="current", b=wanted)]
    blocks.append(Text("", links=links))
    titles = {one.id: one.what for one in database.edits.all(model)}
    words = {"apply": "applied", "revert": "reverted"}
    rows = [
        {"step": place, "action": words[one.action], "edit": one.edit, "what": titles.get(one.edit, "")}
        for place, one in enumerate(ahead.steps, 1)
    ]
    columns = [
        Column("step", "Step", "id"),
        Column("action", "Is"),
        Column("edit", "Edit", "id", lambda row: visit.to("edits", row["edit"])),
        Column("what", "What", "long", lambda row: visit.to("edits", row["edit"])),
    ]
    blocks.append(Table("steps", "Edits that are reverted and applied, in this order", columns, rows))
    action = visit.addresses.page(("snapshots", "restore"), {}) or ""
    fields = {"model": model, "name": wanted, "version": ahead.version_before, "goal": snapshot.version}
    blocks.append(
        Form(
            action,
            "Go back to it",
            [Choice(key, value=value, kind="hidden") for key, value in fields.items()],
            post=True,
            title="Go back to it",
            note="All steps are taken or none, once each byte on the way was compared.",
        )
    )
    return Page(title, blocks, command, crumbs)
