"""The demo: the whole idea on `lab-bert`, told as it happens, each claim checked.

It goes through the same methods as every user, in a store that it leaves behind. A step that does not do what it says
ends the demo with an error.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from ..errors import DemoError
from ..models.answers import batched_log_probabilities
from ..models.fingerprint import tensor_sha256
from ..models.network import Network
from ..models.prompting import EncodedPrompt
from ..records.edits import Edit
from ..records.facts import BLANK, Fact
from ..records.models import Neuron
from ..store import facts as store_facts
from .database import Database, open_database
from .lab import own_facts

MODEL = "lab-bert"
RELATIONS = ("P176", "P178", "P127", "P36", "P37", "P103")
"""The relations that the demo attributes; the others serve to measure what an edit does to unrelated facts."""
SHARED = "P176"
SUBJECT, NEW_ANSWER = "Nissan Leaf", "Toyota"
ERASED = "P176"
FORGOTTEN, KEPT = 0.3, 0.95
"""What the model may still know of the erased relation, and must of all others: shares of their held-out prompts."""
TOP = 8

Tick = Callable[[int, int], None]


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
    run: Callable[[Tick], Part]


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
            raise DemoError(f"{self._folder} can't be made ({error.strerror}); choose another --out") from error
        self._database: Database = open_database(self._path)
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

    def _ingest(self, _tick: Tick) -> Part:
        report = self._database.facts.ingest([own_facts()])
        relations = self._database.facts.relations()
        facts, prompts = sum(row.facts for row in relations), sum(row.prompts for row in relations)
        _require(facts > 0, "no facts were read")
        return Part(
            [
                f"{facts:,} facts of {len(relations)} relations in {prompts:,} prompts "
                f"({report.facts_added:,} facts and {report.prompts_added:,} prompts are new in {self._path})."
            ]
        )

    def _model(self, _tick: Tick) -> Part:
        model = self._database.models.get(MODEL)
        base = self._database.models.resolve_version(MODEL, "base")
        _require(
            model.version == base,
            f"{MODEL} is at version {model.version} in {self._path}, not at its base; go back with "
            f"`kndb snapshot restore base --model {MODEL} --db {self._path}`, or choose another --out",
        )
        self._found.weights = self._weights()
        return Part(
            [
                f"{MODEL}: a BERT of {model.layers} layers of {model.neurons} FFN neurons, trained on these facts.",
                f"Fingerprint {model.fingerprint[:16]}…, version {model.version}.",
            ]
        )

    def _attribute(self, tick: Tick) -> Part:
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

    def _refine(self, _tick: Tick) -> Part:
        refinement = self._database.attribution.refine(self._found.run, model=MODEL)
        rows, mean = self._database.query.neuron_counts(refinement.id)
        _require(rows > 0, "no fact has a knowledge neuron")
        return Part(
            [f"{rows:,} (fact, neuron) pairs: {mean:.2f} knowledge neurons per fact (refinement {refinement.id})."]
        )

    def _shared(self, _tick: Tick) -> Part:
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

    def _update(self, _tick: Tick) -> Part:
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

    def _evaluate_update(self, _tick: Tick) -> Part:
        edit = self._planned(self._found.update)
        measures: Any = self._database.edits.evaluate(edit.id, sample=100).measures
        return Part(
            ["Before and after, on this fact and on others; the control changes as many random neurons."],
            [
                _update_row("the edit", measures["edited"]),
                _update_row("random neurons", measures["control"]),
            ],
        )

    def _erase(self, _tick: Tick) -> Part:
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

    def _evaluate_erase(self, _tick: Tick) -> Part:
        edit = self._planned(self._found.erase)
        measures: Any = self._database.edits.evaluate(edit.id, sample=100).measures
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

    def _goodbye(self, _tick: Tick) -> Part:
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
            ]
        )

    # --- help ----------------------------------------------------------------------------------------------

    def _fact(self) -> Fact:
        if self._found.fact is None:
            found = [fact for fact in self._database.facts.find([SHARED], SUBJECT) if fact.subject == SUBJECT]
            _require(len(found) == 1, f"found {len(found)} facts of {SHARED} about {SUBJECT}; expected one")
            self._found.fact = found[0]
        return self._found.fact

    def _answer(self, question: str) -> str:
        return self._database.models.ask(MODEL, question, top=1)[0].token

    def _known(self) -> tuple[float, float]:
        """The shares of held-out prompts that the model answers right: of the erased relation, of all others."""
        version = self._database.models.load(MODEL)
        with self._database.store.reading() as connection:
            relations = {fact.id: fact.relation for fact in store_facts.find_facts(connection)}
            prompts = [prompt for prompt in store_facts.prompts(connection, held_out=True) if prompt.held_out]
        asked = [(prompt, version.encoder.encode(prompt.id, prompt.text, prompt.answer)) for prompt in prompts]
        usable = [(prompt, question) for prompt, question in asked if isinstance(question, EncodedPrompt)]
        network = Network(version.model, version.adapter)
        right: dict[bool, list[bool]] = {True: [], False: []}
        for indices, log_probabilities in batched_log_probabilities(network, [question for _, question in usable]):
            for index, token in zip(indices, log_probabilities.argmax(-1).tolist(), strict=True):
                prompt, question = usable[index]
                right[relations[prompt.fact_id] == ERASED].append(token == question.answer)
        return sum(right[True]) / len(right[True]), sum(right[False]) / len(right[False])

    def _weights(self) -> dict[str, str]:
        """The sha256 of every parameter of the current version, by name."""
        model = self._database.load_model(MODEL)
        return {name: tensor_sha256(tensor.detach()) for name, tensor in model.named_parameters()}

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
