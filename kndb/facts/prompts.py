"""Template and fact to prompt."""

from __future__ import annotations

from ..errors import InputError
from ..records.facts import SUBJECT_SLOT


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
        raise InputError(f"the template {template_text!r} has {count or 'no'} {SUBJECT_SLOT}; it must have exactly one")
    before, _, after = template_text.partition(SUBJECT_SLOT)
    return before + subject + after
