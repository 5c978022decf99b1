"""Where a prompt's subject ends among its tokens."""

from __future__ import annotations

from typing import Any

from ..errors import ModelError
from ..records.facts import BLANK
from .adapter import Blank
from .prompting import EncodedPrompt


def shown_text(tokenizer: Any, blank: Blank, before: str, after: str) -> str:
    """The text that a model is shown for a prompt: up to the blank, or with one mask token there."""
    return before.rstrip() if blank is Blank.CUT else f"{before.removesuffix(' ')}{tokenizer.mask_token}{after}"


def subject_place(tokenizer: Any, blank: Blank, text: str, subject: str, prompt: EncodedPrompt) -> int | None:
    """The index of a subject's last token among a prompt's token ids.

    Where the subject occurs several times, the last one counts: in a causal model, it alone sees all others.

    Args:
        tokenizer: the model's tokenizer, one that gives offsets.
        blank: how the model is shown a blank: by a mask token, or cut off there.
        text: the prompt, its blank as `[Y]`.
        subject: the subject as the text has it.
        prompt: the prompt as it was encoded, with as many mask tokens as its answer has.

    Returns:
        The index; None where the text that the model is shown lacks the subject.

    Raises:
        ModelError: if the tokenizer gives no offsets.
    """
    if not tokenizer.is_fast:
        raise ModelError(
            "the tokenizer does not say which characters its tokens stand for, so a subject's last token can't be "
            "found; save it as tokenizer.json, or use the answer's token"
        )
    before, _, after = text.partition(BLANK)
    shown = shown_text(tokenizer, blank, before, after)
    start = shown.rfind(subject)
    if start < 0 or not subject:
        return None
    end = start + len(subject)
    spans = tokenizer(shown, return_offsets_mapping=True, verbose=False)["offset_mapping"]
    place = max((index for index, (low, high) in enumerate(spans) if low < high and low < end), default=None)
    if place is None:
        return None
    behind_blank = blank is Blank.MASK and place > prompt.position
    return place + len(prompt.further) if behind_blank else place
