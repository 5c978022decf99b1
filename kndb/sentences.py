"""Where a prompt's sentence ends: one definition for readers, store and models."""

from __future__ import annotations

from .records.facts import BLANK

CLOSING_MARKS = (
    ".!?…\"'”»)]}"
    "\u2019"  # right single quotation mark
    "\u3002\uff0e\uff61\uff01\uff1f"  # East Asian full stops, exclamation and question mark
    "\u061f\u06d4\u0964"  # Arabic question mark and full stop, danda
)
"""What may follow the last word of a sentence. A comma or a colon is not here: the sentence goes on."""


def is_closing(text: str) -> bool:
    """Whether a text holds nothing but whitespace and closing marks."""
    return all(character in CLOSING_MARKS or character.isspace() for character in text)


def blank_is_last(prompt_text: str) -> bool:
    """Tells whether nothing but whitespace and closing marks follows the blank.

    A causal model sees only what precedes the blank, so it can use exactly these prompts and templates.

    Args:
        prompt_text: a prompt or a template.

    Returns:
        Whether the text after the last `[Y]` is closing at most; False where there is no `[Y]`.
    """
    _, blank, after = prompt_text.rpartition(BLANK)
    return bool(blank) and is_closing(after)
