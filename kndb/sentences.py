"""Where a prompt's sentence ends: one definition for readers, store and models."""

from __future__ import annotations

import unicodedata

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


def with_blank_at_end(text: str) -> str:
    """A text that just ends, with a blank where it goes on.

    A space comes between, but not after whitespace, an opening bracket or quotation mark, or a letter of a script that
    is written without spaces.
    """
    last = text[-1:]
    spaceless = unicodedata.east_asian_width(last) in ("W", "F") and not unicodedata.name(last, "").startswith("HANGUL")
    close = last.isspace() or spaceless or unicodedata.category(last) in ("Ps", "Pi")
    return f"{text}{BLANK}" if close else f"{text} {BLANK}"


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
