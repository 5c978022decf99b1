"""The measures that conditions on edits may name, and where evaluations of edits have them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SHARE, NUMBER = "a share from 0 to 1", "a number of at least 0"


@dataclass(frozen=True)
class ConditionMeasure:
    """A measure that conditions may name.

    Attributes:
        meaning: what it is, in a line.
        unit: what its values are, `SHARE` or `NUMBER`.
        places: where evaluations have it, as group and name; the first that is there counts.
        nothing: why it can't be measured, where no place has it.
        of_own: whether prompts of the edited facts, and texts made for them, are all that it takes.
    """

    meaning: str
    unit: str
    places: tuple[tuple[str, str], ...]
    nothing: str
    of_own: bool = False


_NOT_OWN = "the edit gives no fact a new answer that the model can be asked for here"
_NO_HELD_OUT = "there are no held-out prompts or paraphrases of its facts that the model can be asked"
_NO_NEIGHBOURS = "the store has no other facts of its relation that the model can be asked"
_NO_OTHERS = "the store has no facts of other relations that the model can be asked"
_NOT_ERASED = "the edit erases no relation"

MEASURES: Mapping[str, ConditionMeasure] = {
    "success": ConditionMeasure(
        "prompts of the edited facts on which the new answer wins",
        SHARE,
        (("own", "success_rate"),),
        _NOT_OWN,
        of_own=True,
    ),
    "held_out_success": ConditionMeasure(
        "the same over held-out prompts and paraphrases",
        SHARE,
        (("own_held_out", "success_rate"),),
        _NO_HELD_OUT,
        of_own=True,
    ),
    "efficacy_score": ConditionMeasure(
        "prompts of the edited facts on which the new answer is more probable than the fact's object",
        SHARE,
        (("summary", "ES"), ("own", "efficacy_score")),
        _NOT_OWN,
        of_own=True,
    ),
    "paraphrase_score": ConditionMeasure(
        "the same over held-out prompts and paraphrases",
        SHARE,
        (("summary", "PS"), ("own_held_out", "paraphrase_score")),
        _NO_HELD_OUT,
        of_own=True,
    ),
    "neighbourhood_score": ConditionMeasure(
        "prompts of neighbours on which their answer stays more probable than the new one",
        SHARE,
        (
            ("summary", "NS"),
            ("neighbourhood", "neighbourhood_score_after"),
            ("intra", "neighbourhood_score_after"),
        ),
        "no neighbour can be asked: another subject of the relation that might get the new answer",
    ),
    "score": ConditionMeasure(
        "harmonic mean of the efficacy, paraphrase and neighbourhood scores (CounterFact's score)",
        SHARE,
        (("summary", "S"),),
        "",
    ),
    "rewrite_acc": ConditionMeasure(
        "tokens of the new answers that are the most probable ones, over prompts of the edited facts (EasyEdit)",
        SHARE,
        (("summary", "rewrite_acc"),),
        _NOT_OWN,
        of_own=True,
    ),
    "rephrase_acc": ConditionMeasure(
        "the same over held-out prompts and paraphrases",
        SHARE,
        (("summary", "rephrase_acc"),),
        _NO_HELD_OUT,
        of_own=True,
    ),
    "locality": ConditionMeasure(
        "tokens of answers to prompts of other relations that stay as they were (EasyEdit)",
        SHARE,
        (("summary", "locality"),),
        _NO_OTHERS,
    ),
    "portability": ConditionMeasure(
        "prompts that use the new answer and are answered right",
        SHARE,
        (("portability", "accuracy_after"),),
        "the facts have no portability prompts that the model can be asked",
        of_own=True,
    ),
    "perplexity.relation": ConditionMeasure(
        "perplexity of the relation's other facts, after ÷ before",
        NUMBER,
        (("intra", "perplexity_relative_change"),),
        _NO_NEIGHBOURS,
    ),
    "perplexity.others": ConditionMeasure(
        "perplexity of facts of other relations, after ÷ before",
        NUMBER,
        (("inter", "perplexity_relative_change"),),
        _NO_OTHERS,
    ),
    "flips.relation": ConditionMeasure(
        "prompts of the relation's other facts whose answer changes", SHARE, (("intra", "unchanged"),), _NO_NEIGHBOURS
    ),
    "flips.others": ConditionMeasure(
        "prompts of facts of other relations whose answer changes", SHARE, (("inter", "unchanged"),), _NO_OTHERS
    ),
    "accuracy.relation": ConditionMeasure(
        "prompts of the relation's other facts answered right, after",
        SHARE,
        (("intra", "accuracy_after"),),
        _NO_NEIGHBOURS,
    ),
    "accuracy.others": ConditionMeasure(
        "prompts of facts of other relations answered right, after", SHARE, (("inter", "accuracy_after"),), _NO_OTHERS
    ),
    "locality.relation": ConditionMeasure(
        "prompts of the relation's other facts answered as by the unedited model",
        SHARE,
        (("intra", "locality"),),
        _NO_NEIGHBOURS,
    ),
    "locality.others": ConditionMeasure(
        "prompts of facts of other relations answered as by the unedited model",
        SHARE,
        (("inter", "locality"),),
        _NO_OTHERS,
    ),
    "divergence.relation": ConditionMeasure(
        "KL divergence from the unedited model on the relation's other facts, in nats",
        NUMBER,
        (("intra", "locality_divergence"),),
        _NO_NEIGHBOURS,
    ),
    "divergence.others": ConditionMeasure(
        "the same on facts of other relations", NUMBER, (("inter", "locality_divergence"),), _NO_OTHERS
    ),
    "remembered": ConditionMeasure(
        "prompts of an erased relation still answered right", SHARE, (("own", "accuracy_after"),), _NOT_ERASED
    ),
    "fluency": ConditionMeasure(
        "fluency of continuations, after ÷ before (causal models, edits of facts)",
        NUMBER,
        (("summary", "fluency_ratio"),),
        "the edit gives no fact a new answer, so that nothing is continued",
        of_own=True,
    ),
}
"""What conditions may name."""
ALIASES: Mapping[str, str] = {
    "paraphrase": "held_out_success",
    "divergence": "divergence.others",
    "es": "efficacy_score",
    "ps": "paraphrase_score",
    "ns": "neighbourhood_score",
    "s": "score",
    "perplexity_relation": "perplexity.relation",
    "perplexity_others": "perplexity.others",
    "flips_relation": "flips.relation",
    "flips_others": "flips.others",
    "fluency_ratio": "fluency",
}
"""Second names, in lower case: `paraphrase` as tables over edits have it, the others as evaluations and benches do."""
