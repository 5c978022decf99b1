"""What a model is fed for a prompt, token by token, for people to look at: the encoder's own work, with names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..records.facts import BLANK
from ..records.models import FedToken
from .chat import turns
from .prompting import EncodedPrompt, Encoder, Skipped
from .token_texts import Ids

ADDED, CHAT, SPECIAL, IS_BLANK, PLAIN, ANSWER = "added", "chat", "special", "blank", "text", "answer"


def fed_tokens(encoder: Encoder, text: str, answer: str | None) -> list[FedToken] | Skipped:
    """The tokens of a prompt, and of its answer if there is one.

    Args:
        encoder: the model's.
        text: the prompt, with one `[Y]`.
        answer: the answer to ask for, or None.

    Returns:
        The tokens in the order in which the model is fed them, then the answer's; or why it can't be asked.
    """
    encoded = encoder.encode(0, text, answer)
    if isinstance(encoded, Skipped):
        return encoded
    before = text.partition(BLANK)[0]
    if encoded.source:
        kinds = _kinds(encoder, encoded.source, before)
        first = _rows(encoder, "encoder", encoded.source, kinds, {})
        fed = first + _rows(encoder, "decoder", encoded.ids, [ADDED, IS_BLANK], _reads(encoded))
    else:
        fed = _rows(encoder, "text", encoded.ids, _kinds(encoder, encoded.ids, before), _reads(encoded))
    return fed if answer is None else fed + _answer_rows(encoder, encoded)


def _reads(encoded: EncodedPrompt) -> dict[int, int]:
    """Which token of the answer is read at which position of what is fed before any of them."""
    numbered = enumerate(encoded.questions, 1)
    return {one.position: number for number, one in numbered if one.position < len(encoded.ids)}


def _answer_rows(encoder: Encoder, encoded: EncodedPrompt) -> list[FedToken]:
    """The answer's tokens: a masked model's stand at its masks; those of others follow, each fed for the next."""
    rows = zip(
        encoded.answers, encoder.texts.pieces(encoded.answers), encoder.texts.exact(encoded.answers), strict=True
    )
    found = []
    for number, ((token, piece, text), question) in enumerate(zip(rows, encoded.questions, strict=True), 1):
        masked = len(question.ids) == len(encoded.ids) and encoder.masks
        reads = None if masked or number == len(encoded.answers) else number + 1
        position = question.position if masked else question.position + 1
        found.append(FedToken(ANSWER, position, token, piece, text, ANSWER, reads))
    return found


def _kinds(encoder: Encoder, ids: Ids, before: str) -> list[str]:
    """What each token of a text is there for."""
    special = set(encoder.texts.special.values())
    kinds = [IS_BLANK if token == encoder.blank_token else SPECIAL if token in special else PLAIN for token in ids]
    if encoder.chat is not None:
        opening, user, middle = encoder.chat.start, turns(before)[0], encoder.chat.middle
        parts = (opening, f"{opening}{user}", f"{opening}{user}{middle}")
        first, said, opened = (_alike(encoder.texts.bare(part), ids) for part in parts)
        return [CHAT] * first + kinds[first:said] + [CHAT] * (opened - said) + kinds[opened:]
    start, end = encoder.texts.added
    own = bool(start) and encoder.blank_token is None and encoder.texts.bare(before)[: len(start)] == start
    if not own:
        kinds[: len(start)] = [ADDED] * len(start)
    if end and encoder.blank_token is not None:
        kinds[-len(end) :] = [ADDED] * len(end)
    return kinds


def _alike(some: Sequence[int], others: Sequence[int]) -> int:
    """How many tokens two texts begin with alike."""
    pairs = enumerate(zip(some, others, strict=False))
    return next((place for place, (one, other) in pairs if one != other), min(len(some), len(others)))


def _rows(encoder: Encoder, part: str, ids: Ids, kinds: Sequence[str], reads: Mapping[int, int]) -> list[FedToken]:
    columns = zip(ids, encoder.texts.pieces(ids), encoder.texts.exact(ids), kinds, strict=True)
    return [
        FedToken(part, place, token, piece, text, kind, reads.get(place))
        for place, (token, piece, text, kind) in enumerate(columns)
    ]
