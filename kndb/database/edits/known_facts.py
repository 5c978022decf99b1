"""How much of a fact a model knows: what `--known` means, wherever facts are drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...analysis.evaluation_prompts import known
from ...models.prompting import EncodedPrompt
from ...records.facts import Fact, Prompt
from ..models import ModelVersion


def is_known(share: float | None, least: float) -> bool:
    """Whether a fact of which a model answers such a share of the prompts counts as known; without any, it does not."""
    return share is not None and share >= least


class KnownShares:
    """The share of each fact's prompts that a model answers with the fact's own object.

    All prompts of a fact count, held-out ones too, as an edit is measured on them: only where the model knows a fact
    does a new answer take the place of the old one. Those that the model can't be asked don't count. A prompt is
    answered if each token of the object is the most probable one in its place.

    Args:
        version: the model version that is asked, once for each fact.
        prompts: each fact's prompts, by its number.
    """

    def __init__(self, version: ModelVersion, prompts: Mapping[int, Sequence[Prompt]]) -> None:
        self._version = version
        self._prompts = prompts
        self._shares: dict[int, float | None] = {}

    def of(self, facts: Sequence[Fact]) -> list[float | None]:
        """Each fact's share, from 0 to 1; None where the model can be asked none of its prompts."""
        self._ask([fact for fact in facts if fact.id not in self._shares])
        return [self._shares[fact.id] for fact in facts]

    def _ask(self, facts: Sequence[Fact]) -> None:
        asked = [(fact.id, self._encoded(prompt, fact)) for fact in facts for prompt in self._prompts.get(fact.id, ())]
        usable = [(number, [one]) for number, one in asked if one is not None]
        flags = known(self._version.network, [one for _, one in usable]) if usable else []
        answered: dict[int, list[bool]] = {fact.id: [] for fact in facts}
        for (number, _), flag in zip(usable, flags, strict=True):
            answered[number].append(flag)
        self._shares |= {number: sum(found) / len(found) if found else None for number, found in answered.items()}

    def _encoded(self, prompt: Prompt, fact: Fact) -> EncodedPrompt | None:
        found = self._version.encoder.encode(prompt.id, prompt.text, fact.object, subject=prompt.subject_span)
        return found if isinstance(found, EncodedPrompt) else None
