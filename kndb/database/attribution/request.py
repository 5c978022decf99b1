"""What is to be attributed, as one value: facts of the store, or free prompts; of which version; for which run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...advice import Placeholder, call, option
from ...errors import UsageError
from ...records.facts import BLANK, SUBJECT_SLOT
from ...store.selection import Selection, require_sense

GOLD, PREDICTED = "gold", "predicted"
"""The targets that are no answer's text."""
PROMPTS = option("prompts", [Placeholder("TEXT")])
EXAMPLE = f"The capital of France is {BLANK}."


@dataclass(frozen=True)
class AttributionRequest:
    """What to attribute: all prompts of some facts that have no result yet in the run.

    Attributes:
        model: a registered model, or a lab model.
        version: which version of it: `current`, `base`, a version id or an unambiguous start of one, or a snapshot's
            name.
        relations: the relations' keys; none named means all.
        facts: of the facts chosen otherwise, only the first so many, in the store's order.
        sample: of these, only so many, drawn at random by the settings' seed; a larger sample holds the smaller ones.
        subjects: only facts of these subjects, by their exact texts.
        fact_ids: only the facts of these numbers.
        prompts: in place of facts of the store, sentences with one `[Y]` or `[MASK]` each (for a causal model, it may
            be left out at the end): they are stored as prompts of one fact, in the relation `free-prompts`.
        answer: the object of that fact.
        target: the answer that scores are for: `gold` (the fact's), `predicted` (the model's own most probable token),
            or a text.
        held_out: attribute prompts of held-out templates too.
        run: go on with this run; refused if anything that decides its numbers differs.

    Raises:
        UsageError: for what makes no sense, or does not go together.
    """

    model: str
    version: str = "current"
    relations: Sequence[str] = ()
    facts: int | None = None
    sample: int | None = None
    subjects: Sequence[str] = ()
    fact_ids: Sequence[int] = ()
    prompts: Sequence[str] = ()
    answer: str | None = None
    target: str = GOLD
    held_out: bool = False
    run: int | None = None

    def __post_init__(self) -> None:
        if not self.target.strip():
            raise UsageError(f"{option('target')} must be gold, predicted or an answer's text (got an empty one)")
        selection = self.selection(seed=0)
        require_sense(selection)
        self._check_free_prompts(selection)

    def selection(self, seed: int) -> Selection:
        """The choice of facts of the store, with the seed of its sample."""
        return Selection(self.relations, self.subjects, self.fact_ids, self.facts, self.sample, seed)

    @property
    def free_prompts(self) -> list[str]:
        """The free prompts, if there are any, without those given twice."""
        return list(dict.fromkeys(prompt.strip() for prompt in self.prompts))

    def _check_free_prompts(self, selection: Selection) -> None:
        if not self.prompts:
            if self.answer is not None:
                raise UsageError(f"{option('answer')} is the answer to free prompts: it needs {PROMPTS}")
            return
        if self.answer is None or not self.answer.strip():
            raise UsageError(f"{PROMPTS} needs {option('answer')}, as in: {example_of(self.model)}")
        if selection.narrowed or selection.relations:
            names = ("relations", "facts", "sample", "subjects", "fact_ids")
            raise UsageError(
                f"{PROMPTS} takes no facts of the store; leave out {', '.join(map(option, names[:-1]))} and "
                f"{option(names[-1])}"
            )
        for text in (*self.prompts, self.answer):
            if SUBJECT_SLOT in text or not all(mark.isprintable() for mark in text):
                raise UsageError(
                    f"{PROMPTS} and {option('answer')} must be one printable line each, without "
                    f"{SUBJECT_SLOT} (got {text!r})"
                )


def example_of(model: str) -> str:
    """A call with free prompts that is right, for messages."""
    return call("attribution.run", model=model, prompts=[EXAMPLE], answer="Paris")
