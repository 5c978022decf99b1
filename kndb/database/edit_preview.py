"""What an edit would do, before it is stored: answers before and after, and who holds its value slots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..editing.slots import edited
from ..errors import UsageError
from ..findings import Collateral
from ..models.answers import batched_log_probabilities
from ..models.network import Network
from ..records import Neuron, Prompt
from ..store import collateral as store_collateral
from ..store import facts as store_facts
from ..store.engine import Store
from .edit_drafts import Draft
from .edit_optimize import encode_open

_PROMPTS = 10
"""Prompts that are asked for an edit of a relation: the first of as many facts."""


@dataclass(frozen=True)
class PreviewedAnswer:
    """An answer of a certain rank before an edit, and that of the same rank with it.

    Attributes:
        prompt: the question, its blank as `[Y]`.
        rank: 1 for the most probable.
        before, after: the answers.
        probability_before, probability_after: their probabilities, 0 to 1.
    """

    prompt: str
    rank: int
    before: str
    probability_before: float
    after: str
    probability_after: float


@dataclass(frozen=True)
class EditPreview:
    """What an edit would do, with nothing stored: the model's answers, and who holds the value slots."""

    answers: tuple[PreviewedAnswer, ...]
    collateral: Collateral


def preview(store: Store, draft: Draft, top: int) -> EditPreview:
    """Asks the draft's prompts before and after it, in memory, and finds who holds its value slots; stores nothing.

    The prompts are those of the draft's fact, held-out templates included; for a relation, one of each of its first
    ten facts. The model is as it was when this returns.

    Args:
        store: the store.
        draft: the edit.
        top: answers to show for each prompt, at least 1.

    Raises:
        UsageError: if top is under 1, or the draft is for no fact and no relation.
    """
    if top < 1:
        raise UsageError(f"found top {top}; expected at least 1")
    content = draft.content
    if draft.refinement_id is None:
        raise UsageError("found a capture; expected an edit of a fact or a relation, of which there is a preview")
    neurons = [
        Neuron(content.layers[diff.parameter], index) for diff in content.parameters for index in diff.indices.tolist()
    ]
    with store.reading() as connection:
        if draft.fact_id is not None:
            prompts = store_facts.prompts(connection, fact_ids=[draft.fact_id])
        else:
            every = store_facts.prompts(connection, relations=[str(content.recipe["relation"])])
            prompts = list({prompt.fact_id: prompt for prompt in reversed(every)}.values())[::-1][:_PROMPTS]
        touched: Collateral = store_collateral.collateral(connection, draft.refinement_id, neurons)
    parameters = dict(draft.version.model.named_parameters())
    before = _answers(draft, prompts, top)
    with edited(parameters, content):
        after = _answers(draft, prompts, top)
    answers = [
        PreviewedAnswer(prompt, rank, *old, *new)
        for (prompt, first), (_, second) in zip(before, after, strict=True)
        for rank, (old, new) in enumerate(zip(first, second, strict=True), start=1)
    ]
    return EditPreview(tuple(answers), touched)


def _answers(draft: Draft, prompts: Sequence[Prompt], top: int) -> list[tuple[str, list[tuple[str, float]]]]:
    """Each prompt's text, with its most probable answers and their probabilities."""
    version = draft.version
    encoded = encode_open(version, prompts)
    texts = {prompt.id: prompt.text for prompt in prompts}
    found: list[tuple[str, list[tuple[str, float]]]] = [("", [])] * len(encoded)
    for indices, log_probabilities in batched_log_probabilities(Network(version.model, version.adapter), encoded):
        values, tokens = log_probabilities.topk(min(top, log_probabilities.shape[1]))
        for index, row, ids in zip(indices, values.exp().tolist(), tokens.tolist(), strict=True):
            decoded = [version.loaded.decode(token) for token in ids]
            found[index] = texts[encoded[index].prompt_id], list(zip(decoded, row, strict=True))
    return found
