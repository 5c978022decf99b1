"""A prompt, asked at one version of a model or at two side by side."""

from __future__ import annotations

from collections.abc import Sequence

from ...advice import Placeholder, call
from ...errors import UsageError
from ...records.facts import BLANK
from ...records.models import Answer
from ..blocks import Bar, Bars, Block, Choice, Form, Page, Text
from ..context import Context
from ..later import why_not
from ..visit import Visit
from .parts import add_model

TOP = 10


def ask(visit: Visit) -> Page:
    """The most probable answers to `text` at versions `a` and `b`."""
    context = visit.context()
    text = visit.query.get("text", "").strip()
    a, b = visit.query.get("a") or context.version, visit.query.get("b", "")
    model = context.model
    if model is None:
        told = "Choose a model above." if context.models else "The store has no model to ask."
        more = "" if context.models else f" Register one with: {call('models.add', Placeholder('PATH'))}"
        return Page("Ask a model", [Text(told + more, "empty")])
    if not model.has_checkpoint:
        return Page("Ask a model", [Text(add_model(model.name), "empty")])
    blocks: list[Block] = [_form(visit, context, model.name, text, a, b)]
    command, status = None, 200
    if text:
        visit.require_own()
        command = call("models.ask", name=model.name, text=text, version=None if a == "current" else a)
        try:
            blocks.append(_answers(visit, model.name, text, a, b))
        except UsageError as error:
            # What was typed stays in its field.
            status = 400
            blocks.append(Text(why_not(visit, error), "warning"))
    elif not visit.room.loaded(model.name, a):
        blocks.append(Text("The first question loads the model, which takes some seconds.", "empty"))
    return Page(f"Ask {model.name}", blocks, command=command, status=status)


def _answers(visit: Visit, model: str, text: str, a: str, b: str) -> Bars:
    """The answers of a version, beside those of another if one is named."""
    answers = visit.room.ask(model, text, a, TOP)
    others = visit.room.ask(model, text, b, TOP) if b and b != a else []
    columns = [(f"{model}, {a}", _bars(answers, others))]
    if others:
        columns.append((f"{model}, {b}", _bars(others, answers)))
    title = f"“{text.replace(BLANK, '___').replace('[MASK]', '___')}”"
    return Bars(title, columns, "Probability of the token in the blank, 0 to 1.", name="answers")


def _form(visit: Visit, context: Context, model: str, text: str, a: str, b: str) -> Form:
    names = list(dict.fromkeys(("current", "base", *context.snapshots, a, *([b] if b else []))))
    versions = [(name, name) for name in names]
    fields = [
        Choice("text", "Sentence", text, "text", placeholder=f"The capital of France is {BLANK}."),
        Choice("model", value=model, kind="hidden"),
        Choice("a", "Version", a, "select", versions),
        Choice("b", "beside", b, "select", [("", "nothing"), *versions]),
    ]
    return Form(visit.addresses.page(("ask",), {}) or "", "Ask", fields)


def _bars(answers: Sequence[Answer], others: Sequence[Answer]) -> list[Bar]:
    """Answers as bars; the first is marked where the other version's is another."""
    differs = bool(answers and others) and answers[0].token != others[0].token
    return [
        Bar(one.token, one.probability, f"{one.probability:.3f}", marked=differs and not place)
        for place, one in enumerate(answers)
    ]
