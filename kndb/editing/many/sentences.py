"""What an edit of many facts is computed on: sentences with a place each, one list of them for each new answer.

The place is the token at which a layer's output is to change: the subject's last token, as ROME and MEMIT have it, or
the position where the answer is read. All tokens of an answer are asked for in one pass over the sentence.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ...advice import option
from ...errors import EditError
from ...models.adapter import Blank
from ...models.prompting import EncodedPrompt, Encoder, Skipped
from ...models.subjects import shown_text, subject_place
from ...records.facts import BLANK
from ...records.many_settings import Token
from ...records.skip_reasons import SKIP_REASONS

_USE_ANSWER = f"change what the model makes of the answer's place: {option('token', 'answer')}"
_ESSENCES = "{} is a [Y].", "Note that {} is a [Y]."
"""The second for where the first begins with the subject's last token."""


@dataclass(frozen=True)
class Sentence:
    """A prompt as a model sees it, with its answer's tokens and the place that an edit changes.

    Attributes:
        ids: token ids, those of the answer before its last one included where the model is causal.
        place: 0-based index into `ids` of the token whose output is to change.
        reads: where the answer's tokens are read, one for each.
        answers: the answer's tokens; −1 for one that is left open.
    """

    ids: tuple[int, ...]
    place: int
    reads: tuple[int, ...]
    answers: tuple[int, ...]


@dataclass(frozen=True)
class Rewrite:
    """One new output at one place: a fact's new answer, or one token of it.

    Attributes:
        sentences: the sentences that have it, at least one.
        kept: sentences about the same subject where the model is to say what it said: "{subject} is a", and others.
        fact: which of the facts it is of, counted as the caller counts them.
    """

    sentences: tuple[Sentence, ...]
    kept: tuple[Sentence, ...] = ()
    fact: int = 0


@dataclass(frozen=True)
class NewAnswer:
    """A fact's new answer, in words.

    Attributes:
        subject: the fact's subject as its prompts write it; None where it is not known.
        prompts: the fact's prompts, the blank as `[Y]`.
        to: the new answer.
        others: prompts of other facts of the same subject, whose answers are to stay.
    """

    subject: str | None
    prompts: tuple[str, ...]
    to: str
    others: tuple[str, ...] = ()


def rewrites(
    tokenizer: Any,
    encoder: Encoder,
    blank: Blank,
    answers: Iterable[NewAnswer],
    token: Token,
    prefixes: Sequence[str] = (),
) -> list[Rewrite]:
    """New answers as a model sees them.

    Args:
        tokenizer: the model's.
        encoder: of the same tokenizer.
        blank: how the model is shown a blank.
        answers: what is wanted.
        token: which token's output is to change: `subject`, its last one, or `answer`, where each token of the answer
            is read; that gives a rewrite for each of them.
        prefixes: texts that each prompt is also put behind, as whole sentences of their own; they make keys and targets
            depend less on how a text begins.

    Returns:
        In the order of the answers; prompts that the model can't be asked are left out, as are those that begin with
        the subject's last token, if there are others.

    Raises:
        EditError: if an answer has no prompt that the model can be asked, or a prompt lacks its subject; if a subject
            is not named, or lies in an encoder's text, and `token` is `subject`.
    """
    found: list[Rewrite] = []
    for number, answer in enumerate(answers):
        if token == "subject":  # noqa: S105
            found.append(_at_subject(tokenizer, encoder, blank, answer, number, prefixes))
            continue
        encoded = _encoded(encoder, answer, prefixes)
        for place in range(len(encoded[0][1].questions)):
            own = tuple(_one_question(prompt.questions[place]) for _, prompt in encoded)
            found.append(Rewrite(own, fact=number))
    return found


def _at_subject(
    tokenizer: Any, encoder: Encoder, blank: Blank, answer: NewAnswer, number: int, prefixes: Sequence[str]
) -> Rewrite:
    if answer.subject is None:
        raise EditError(f"the fact whose new answer is {answer.to!r} has no named subject; {_USE_ANSWER}")
    if blank is Blank.SENTINEL:
        raise EditError(f"the subject stands in the encoder's text of this model; {_USE_ANSWER}")
    sentences = [
        _whole(prompt, _place(tokenizer, blank, text, answer.subject, prompt), blank)
        for text, prompt in _encoded(encoder, answer, prefixes)
    ]
    kept: list[Sentence] = []
    for texts in (tuple(essence.format(answer.subject) for essence in _ESSENCES), *((text,) for text in answer.others)):
        shown = [(text, encoder.encode(0, text, None)) for text in texts]
        found = [
            _whole(prompt, _place(tokenizer, blank, text, answer.subject, prompt), blank)
            for text, prompt in shown
            if isinstance(prompt, EncodedPrompt)
        ]
        kept += [one for one in found if one.place][:1]
    return Rewrite(_not_first(sentences), tuple(kept), number)


def _not_first(sentences: Sequence[Sentence]) -> tuple[Sentence, ...]:
    """The sentences that do not begin with their place, if there are any.

    Decoders look at a text's first token whatever it is, and its activations are like those of no other: averaged with
    them, a key is of first tokens and hardly of its subject, and an edit by it changes every text.
    """
    return tuple(one for one in sentences if one.place) or tuple(sentences)


def _encoded(encoder: Encoder, answer: NewAnswer, prefixes: Sequence[str]) -> list[tuple[str, EncodedPrompt]]:
    """The prompts that the model can be asked, with their text; all have as many answer tokens as the first."""
    texts = [*answer.prompts, *(f"{prefix} {prompt}" for prefix in prefixes for prompt in answer.prompts)]
    pairs = [(text, encoder.encode(0, text, answer.to)) for text in texts]
    found = [(text, prompt) for text, prompt in pairs if isinstance(prompt, EncodedPrompt)]
    if not found:
        reasons = sorted({SKIP_REASONS[one.reason] for _, one in pairs if isinstance(one, Skipped)})
        raise EditError(
            f"no prompt of {answer.subject or 'the fact'} can be asked with the new answer {answer.to!r}: "
            f"{'; '.join(reasons) or 'the fact has no prompts'}"
        )
    tokens = found[0][1].answers
    return [(text, prompt) for text, prompt in found if prompt.answers == tokens]


def _place(tokenizer: Any, blank: Blank, text: str, subject: str, prompt: EncodedPrompt) -> int:
    place = subject_place(tokenizer, blank, text, subject, prompt)
    if place is None:
        shown = shown_text(tokenizer, blank, *text.split(BLANK, 1))
        raise EditError(f"the subject {subject!r} was not found in {shown!r}; {_USE_ANSWER}")
    return place


def _whole(prompt: EncodedPrompt, place: int, blank: Blank) -> Sentence:
    """A prompt with all tokens of its answer in one pass: a causal model's last question holds those before it."""
    ids = prompt.questions[-1].ids if blank is Blank.CUT else prompt.ids
    return Sentence(ids, place, tuple(one.position for one in prompt.questions), prompt.answers)


def asked(prompt: EncodedPrompt, blank: Blank) -> Sentence:
    """A prompt with all tokens of its answer in one pass; its place is where the first of them is read."""
    return _whole(prompt, prompt.position, blank)


def _one_question(question: EncodedPrompt) -> Sentence:
    return Sentence(question.ids, question.position, (question.position,), (question.answer,))
