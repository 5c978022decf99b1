"""Template and fact to prompt."""

from __future__ import annotations

from ..errors import InputError
from ..records import BLANK, SUBJECT_SLOT

_CLOSING = frozenset(
    ".!?…\"'”»)]}"
    "\u2019"  # right single quotation mark
    "\u3002\uff0e\uff61\uff01\uff1f"  # East Asian full stops, exclamation and question mark
    "\u061f\u06d4\u0964"  # Arabic question mark and full stop, danda
)
"""What may follow the last word of a sentence. A comma or a colon is not here: the sentence goes on."""


def fill(template_text: str, subject: str) -> str:
    """Puts a subject in the place of the template's `[X]`.

    The place is found before the subject is put there, so a subject may hold any text, `{}` and `[X]` too.

    Args:
        template_text: a template with one `[X]`.
        subject: the text to put there, unchanged.

    Returns:
        The template with the subject; its `[Y]` is left as it is.

    Raises:
        InputError: if the template has no `[X]`, or several.
    """
    count = template_text.count(SUBJECT_SLOT)
    if count != 1:
        raise InputError(f"found {count} {SUBJECT_SLOT} in the template {template_text!r}; expected one")
    before, _, after = template_text.partition(SUBJECT_SLOT)
    return before + subject + after


def blank_is_last(prompt_text: str) -> bool:
    """Tells whether nothing but whitespace and closing punctuation follows the blank.

    A causal model sees only what precedes the blank, so it can use exactly these prompts and templates.

    Args:
        prompt_text: a prompt or a template.

    Returns:
        Whether the text after the last `[Y]` is closing at most; False where there is no `[Y]`.
    """
    _, blank, after = prompt_text.rpartition(BLANK)
    return bool(blank) and all(character in _CLOSING or character.isspace() for character in after)
