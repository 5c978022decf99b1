"""Prompts whose answers have one token or several, as the questions that a model is asked for them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ...models.prompting import EncodedPrompt


class Questions:
    """Prompts, and their questions' places in a list of all questions.

    Attributes:
        each: the questions, prompt by prompt.
        places: their places in the list of all.

    Args:
        prompts: the prompts.
        start: the place of the first question.
    """

    def __init__(self, prompts: Sequence[EncodedPrompt], start: int) -> None:
        self.each = [question for prompt in prompts for question in prompt.questions]
        self.places = range(start, start + len(self.each))
        self._of_prompt: list[range] = []
        for prompt in prompts:
            self._of_prompt.append(range(start, start + len(prompt.questions)))
            start += len(prompt.questions)

    def __len__(self) -> int:
        return len(self._of_prompt)

    def of(self, prompts: Sequence[int]) -> tuple[list[int], torch.Tensor]:
        """The places of some prompts' questions; and their weights in a mean over the prompts, 1/m of a prompt's m."""
        places = [place for prompt in prompts for place in self._of_prompt[prompt]]
        weights = [
            1 / len(self._of_prompt[prompt]) / len(prompts) for prompt in prompts for _ in self._of_prompt[prompt]
        ]
        return places, torch.tensor(weights)

    def answers(self, places: Sequence[int]) -> list[int]:
        """The tokens that questions ask for."""
        return [self.each[place - self.places.start].answer for place in places]

    def all_of(self, prompts: Sequence[int], places: Sequence[int], flags: Sequence[bool]) -> list[bool]:
        """Whether all questions of each prompt are flagged, from the flags of all of these prompts' questions."""
        of_place = dict(zip(places, flags, strict=True))
        return [all(of_place[place] for place in self._of_prompt[prompt]) for prompt in prompts]
