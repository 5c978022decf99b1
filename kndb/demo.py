"""The demo: the whole idea on `lab-bert`, told as it happens, each claim checked.

A client of kndb: it goes through the same public methods as every user, in a store that it leaves behind. A step that
does not do what it says ends the demo with an error.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

import kndb

from .advice import call, option
from .errors import DemoError
from .records.edit_settings import EvaluationSettings
from .records.edits import Edit
from .records.facts import BLANK, Fact
from .records.models import Neuron
from .records.progress import Progress

MODEL = "lab-bert"
RELATIONS = ("P176", "P178", "P127", "P36", "P37", "P103")
"""The relations that the demo attributes; the others serve to measure what an edit does to unrelated facts."""
SHARED = "P176"
SUBJECT, NEW_ANSWER = "Nissan Leaf", "Toyota"
ERASED = "P176"
FORGOTTEN, KEPT = 0.3, 0.95
"""What the model may still know of the erased relation, and must of all others: shares of their held-out prompts."""
TOP = 8
HELD_OUT = """
SELECT relation.key, prompt.text, fact.object
FROM prompt
  JOIN template ON template.id = prompt.template_id
  JOIN fact ON fact.id = prompt.fact_id
  JOIN relation ON relation.id = fact.relation_id
WHERE template.held_out
ORDER BY prompt.id
"""
ASKED_AT_ONCE = 256


@dataclass(frozen=True)
class Part:
    """What a chapter has to tell: lines, a table, lines after it."""

    lines: Sequence[str] = ()
    rows: Sequence[Mapping[str, Any]] = ()
    closing: Sequence[str] = ()


@dataclass(frozen=True)
class Chapter:
    """A titled step of the demo."""

    title: str
    run: Callable[[Progress], Part]


@dataclass
class _Findings:
    """What later chapters need of earlier ones."""

    run: int | None = None
    fact: Fact | None = None
    update: Edit | None = None
    erase: Edit | None = None
    weights: dict[str, str] = field(default_factory=dict)


class Demo:
    """The demo in a folder of its own; a context manager.

    Args:
        folder: where the store is left; a store of an earlier demo is gone on with.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / "kndb.db"
        self._found = _Findings()

    def __enter__(self) -> Demo:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DemoError(
                f"{self._folder} can't be made ({error.strerror}); choose another {option('out')}"
            ) from error
        self._database: kndb.Database = kndb.open(self._path)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def chapters(self) -> Iterator[Chapter]:
        """The demo's steps, in order; each is to be run before the next."""
        yield Chapter("Reading facts", self._ingest)
        yield Chapter("A model that learned them", self._model)
        yield Chapter("Attributing: which FFN neurons carry each answer?", self._attribute)
        yield Chapter("Refining scores to knowledge neurons", self._refine)
        yield Chapter(f"Which neurons do the facts of {SHARED} share?", self._shared)
        yield Chapter("Editing one fact, and taking it back", self._update)
        yield Chapter("What that edit does to other facts", self._evaluate_update)
        yield Chapter("Erasing a relation, and restoring a snapshot", self._erase)
        yield Chapter("What erasing did", self._evaluate_erase)
        yield Chapter("The store is yours now", self._goodbye)

    # --- chapters ------------------------------------------------------------------------------------------

    def _ingest(self, _tick: Progress) -> Part:
        report = self._database.facts.ingest([kndb.own_facts()])
        relations = self._database.facts.relations()
        facts, prompts = sum(row.facts for row in relations), sum(row.prompts for row in relations)
        _require(facts > 0, "no facts were read")
        return Part(
            [
                f"{facts:,} facts of {len(relations)} relations in {prompts:,} prompts "
                f"({report.facts_added:,} facts and {report.prompts_added:,} prompts are new in {self._path})."
            ]
        )

    def _model(self, _tick: Progress) -> Part:
        model = self._database.models.get(MODEL)
        base = self._database.models.resolve_version(MODEL, "base")
        _require(
            model.version == base,
            f"{MODEL} is at version {model.version} in {self._path}, not at its base; go back with: "
            f"{call('snapshots.restore', 'base', model=MODEL)}, or choose another {option('out')}",
        )
        self._found.weights = self._weights()
        return Part(
            [
                f"{MODEL}: a BERT of {model.layers} layers of {model.neurons} FFN neurons, trained on these facts.",
                f"Fingerprint {model.fingerprint[:16]}…, version {model.version}.",
            ]
        )

    def _attribute(self, tick: Progress) -> Part:
        report = self._database.attribution.run(MODEL, relations=RELATIONS, progress=tick)
        self._found.run = report.run.id
        known = float(report.trust["correct"] or 0.0)
        mean, worst = report.trust["completeness_error"], report.trust["completeness_error_max"]
        rate = f", {report.rate:,.0f} prompts/s on {report.device}" if report.rate else ""
        _require(report.run.prompts > 0, "no prompt was attributed")
        return Part(
            [
                f"{report.run.prompts:,} prompts of {', '.join(RELATIONS)}, {report.attributed:,} of them now{rate}.",
                f"The model knows the answer to {known:.1%} of them. Integrated gradients with "
                f"{report.trust['evaluations']:.1f} gradient evaluations per prompt;",
                f"completeness error {mean:.1e} on average, {worst:.1e} at worst.",
            ]
        )

    def _refine(self, _tick: Progress) -> Part:
        refinement = self._database.attribution.refine(self._found.run, model=MODEL)
        rows, mean = self._database.query.neuron_counts(refinement.id)
        _require(rows > 0, "no fact has a knowledge neuron")
        return Part(
            [f"{rows:,} (fact, neuron) pairs: {mean:.2f} knowledge neurons per fact (refinement {refinement.id})."]
        )

    def _shared(self, _tick: Progress) -> Part:
        refinement = self._database.query.refinement(model=MODEL)
        shared = self._database.query.shared([SHARED], refinement=refinement.id, top=TOP)
        _require(bool(shared), f"no neuron is shared by facts of {SHARED}")
        return Part(
            [f"kndb query shared --relation {SHARED} --top {TOP}"],
            [
                {
                    "neuron": str(Neuron(row.layer, row.neuron)),
                    "facts": row.facts,
                    "share": row.share,
                    "relations": row.relations,
                }
                for row in shared
            ],
        )

    def _update(self, _tick: Progress) -> Part:
        fact = self._fact()
        question = f"The manufacturer of {SUBJECT} is {BLANK}."
        before = self._answer(question)
        _require(before == fact.object, f"the model answers {before!r} before the edit, not {fact.object!r}")
        self._found.update = planned = self._database.edits.plan_update(MODEL, fact.id, NEW_ANSWER)
        applied = self._database.edits.apply(planned.id)
        during = self._answer(question)
        _require(during == NEW_ANSWER, f"the model answers {during!r} after the edit, not {NEW_ANSWER!r}")
        _require(self._weights() != self._found.weights, "the edit changed no byte")
        reverted = self._database.edits.revert(planned.id)
        after = self._answer(question)
        _require(after == before, f"the model answers {after!r} after the revert, not {before!r}")
        self._require_restored(applied.version_before, reverted.version_after)
        return Part(
            [
                f"“{question}” (a held-out template: the edit's neurons come from other sentences)",
                f"  version {applied.version_before}  {before}",
                f"  version {applied.version_after}  {during}   after `kndb edit apply {planned.id}`: "
                f"{planned.neurons} value slots changed",
                f"  version {reverted.version_after}  {after}   after `kndb edit revert {planned.id}`: "
                f"all {len(self._found.weights)} tensors have their old bytes",
            ]
        )

    def _evaluate_update(self, _tick: Progress) -> Part:
        edit = self._planned(self._found.update)
        measures: Any = self._database.edits.evaluate(edit.id, EvaluationSettings(sample=100)).measures
        return Part(
            ["Before and after, on this fact and on others; the control changes as many random neurons."],
            [
                _update_row("the edit", measures["edited"]),
                _update_row("random neurons", measures["control"]),
            ],
        )

    def _erase(self, _tick: Progress) -> Part:
        snapshots = {snapshot.name for snapshot in self._database.snapshots.all(MODEL)}
        if "before-erase" not in snapshots:
            self._database.snapshots.create("before-erase", MODEL)
        before = self._known()
        self._found.erase = planned = self._database.edits.plan_erase(MODEL, ERASED)
        applied = self._database.edits.apply(planned.id)
        _require(self._weights() != self._found.weights, "erasing changed no byte")
        erased = self._known()
        (restored,) = self._database.snapshots.restore("before-erase", MODEL)
        self._require_restored(applied.version_before, restored.version_after)
        after = self._known()
        _require(erased[0] < FORGOTTEN, f"the model still knows {erased[0]:.1%} of {ERASED} after erasing it")
        _require(
            erased[1] >= KEPT, f"after erasing {ERASED} the model knows but {erased[1]:.1%} of the other relations"
        )
        _require(after == before, f"the model knows {after[0]:.1%} of {ERASED} after the restore, not {before[0]:.1%}")
        return Part(
            [
                f"The value slots of the {planned.neurons} most common neurons of {ERASED} go to zero: the model "
                "forgets who makes what, and little else.",
                "Then the snapshot comes back, and with it every byte. Held-out templates answered right:",
            ],
            [
                _known_row(f"version {applied.version_before}", before),
                _known_row(f"version {applied.version_after}, `kndb edit apply {planned.id}`", erased),
                _known_row(f"version {restored.version_after}, `kndb snapshot restore before-erase`", after),
            ],
        )

    def _evaluate_erase(self, _tick: Progress) -> Part:
        edit = self._planned(self._found.erase)
        measures: Any = self._database.edits.evaluate(edit.id, EvaluationSettings(sample=100)).measures
        edited, control = measures["edited"], measures["control"]
        _require(
            edited["own"]["accuracy_after"] < control["own"]["accuracy_after"],
            f"erasing {ERASED} harmed it no more than erasing random neurons",
        )
        return Part(
            [f"`kndb edit eval {edit.id}`: all templates of {ERASED}, and 100 facts of other relations."],
            [_erase_row("the edit", edited), _erase_row("random neurons", control)],
            [
                "As many random neurons take little: the others are where this model keeps the relation. It was",
                "trained to keep facts in few neurons (kndb docs data); other models hold them in more.",
            ],
        )

    def _goodbye(self, _tick: Progress) -> Part:
        report = self._database.maintenance.check()
        _require(report.sound, f"the store is not sound: {'; '.join(report.problems)}")
        fact, update = self._fact(), self._planned(self._found.update)
        return Part(
            [
                f"{self._path} is sound, and holds all of the above. Try:",
                f"  export KNDB_DB={shlex.quote(str(self._path))}",
                f"  kndb query neurons {fact.id}",
                f"  kndb edit apply {update.id} && kndb ask --model {MODEL} "
                f'"The manufacturer of {SUBJECT} is [MASK]." && kndb edit revert {update.id}',
                "  kndb query shared --relation P36 --relation P37 --top 10",
                "  kndb serve   # all of it in a browser, offline (pip install 'kndb[web]')",
            ]
        )

    # --- help ----------------------------------------------------------------------------------------------

    def _fact(self) -> Fact:
        if self._found.fact is None:
            found = [fact for fact in self._database.facts.find([SHARED], SUBJECT) if fact.subject == SUBJECT]
            _require(len(found) == 1, f"there must be one fact of {SHARED} about {SUBJECT} (got {len(found)})")
            self._found.fact = found[0]
        return self._found.fact

    def _answer(self, question: str) -> str:
        return self._database.models.ask(MODEL, question, top=1)[0].token

    def _known(self) -> tuple[float, float]:
        """The shares of held-out prompts that the model answers right: of the erased relation, of all others."""
        loaded = self._database.models.load(MODEL)
        tokenizer = loaded.tokenizer
        _, rows = self._database.query.sql(HELD_OUT)
        right: dict[bool, list[bool]] = {True: [], False: []}
        for start in range(0, len(rows), ASKED_AT_ONCE):
            some = rows[start : start + ASKED_AT_ONCE]
            texts = [str(text).replace(BLANK, tokenizer.mask_token) for _, text, _ in some]
            inputs = tokenizer(texts, padding=True, return_tensors="pt")
            with torch.inference_mode():
                logits = loaded.model(**inputs).logits
            tokens = logits[inputs["input_ids"] == tokenizer.mask_token_id].argmax(-1).tolist()
            for (relation, _, answer), token in zip(some, tokens, strict=True):
                wanted, *_ = tokenizer(str(answer), add_special_tokens=False)["input_ids"]
                right[relation == ERASED].append(token == wanted)
        return sum(right[True]) / len(right[True]), sum(right[False]) / len(right[False])

    def _weights(self) -> dict[str, str]:
        """The sha256 of every parameter of the current version, by name."""
        model = self._database.load_model(MODEL)
        return {
            name: hashlib.sha256(tensor.detach().numpy().tobytes()).hexdigest()
            for name, tensor in model.named_parameters()
        }

    def _require_restored(self, version_before: str, version_after: str) -> None:
        _require(version_after == version_before, f"the version is {version_after}, not {version_before} again")
        _require(self._weights() == self._found.weights, "not every byte is as it was before the edit")

    @staticmethod
    def _planned(edit: Edit | None) -> Edit:
        if edit is None:
            raise DemoError("this chapter needs an edit that an earlier one plans")
        return edit


def _require(holds: bool, failure: str) -> None:
    if not holds:
        raise DemoError(f"the demo did not do what it says: {failure}")


def _update_row(name: str, measures: Mapping[str, Mapping[str, float]]) -> dict[str, object]:
    own, paraphrase = measures["own"], measures["own_held_out"]
    return {
        "": name,
        "new answer": f"{own['success_rate']:.0%}",
        "held-out template": f"{paraphrase['success_rate']:.0%}",
        "p(new answer)": f"{own['new_answer_probability_before']:.3f} → {own['new_answer_probability_after']:.3f}",
        "perplexity, same relation": _change(measures["intra"], "perplexity", ".3f"),
        "other relations": _change(measures["inter"], "perplexity", ".3f"),
    }


def _known_row(name: str, known: tuple[float, float]) -> dict[str, object]:
    return {"": name, ERASED: f"{known[0]:.1%}", "other relations": f"{known[1]:.1%}"}


def _erase_row(name: str, measures: Mapping[str, Mapping[str, float]]) -> dict[str, object]:
    return {
        "": name,
        f"accuracy {ERASED}": _change(measures["own"], "accuracy", ".1%"),
        "others' accuracy": _change(measures["inter"], "accuracy", ".1%"),
        f"perplexity {ERASED}": _change(measures["own"], "perplexity", ".3f"),
        "others' perplexity": _change(measures["inter"], "perplexity", ".3f"),
    }


def _change(measures: Mapping[str, float], name: str, form: str) -> str:
    return f"{measures[f'{name}_before']:{form}} → {measures[f'{name}_after']:{form}}"
