"""From a prompt's text to token ids, answer position and answer tokens.

An answer of m tokens is m questions. A causal model is asked for each token after the prompt and the tokens before it
(teacher forcing); a masked model is shown m mask tokens, and asked for each at its own, the others left masked; an
encoder–decoder is shown one sentinel, and its decoder is asked for each token after the sentinel and the tokens before
it. A prompt is skipped, with a reason, where the tokenizer has no way to ask for its answer.

Which tokens an answer has is seen from the sentence with the answer in it, so that a leading space, a word's mark or a
token at the start belong to it just as the model would meet them. What is fed before a blank does not depend on the
answer; `token_texts` says where its tokens end. Templates may name special tokens (`<|im_end|>`), subjects and answers
may not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import ModelError
from ..records.facts import BLANK
from ..records.skip_reasons import (
    SKIP_EMPTY,
    SKIP_EXTRA_MASK,
    SKIP_MERGED,
    SKIP_MULTI_TOKEN,
    SKIP_NO_PREFIX,
    SKIP_NO_TOKENS,
    SKIP_NOT_LAST,
    SKIP_SPECIAL,
    SKIP_TOO_LONG,
    SKIP_UNKNOWN,
)
from ..sentences import is_closing
from .adapter import Blank
from .chat import ChatFrame
from .token_texts import Ids, NoTokensError, TokenTexts

SENTINEL = "<extra_id_0>"
"""T5's first sentinel: the blank of an encoder–decoder."""


@dataclass(frozen=True)
class EncodedPrompt:
    """A prompt as a model sees it: the question for its answer's first token, and those for further tokens.

    Attributes:
        prompt_id: the prompt in the store.
        ids: token ids; the decoder's, for an encoder–decoder.
        position: 0-based index into `ids` at whose output the answer is read.
        answer: the answer token's id; −1 to take the model's own most probable one.
        source: token ids for the encoder, if there is one.
        further: the questions for the answer's further tokens.
        gold: the tokens of the fact's own answer, where the answer asked about is another one; empty if it has none.
        fact_id: the prompt's fact in the store.
    """

    prompt_id: int
    ids: tuple[int, ...]
    position: int
    answer: int
    source: tuple[int, ...] = ()
    further: tuple[EncodedPrompt, ...] = ()
    gold: tuple[int, ...] | None = None
    fact_id: int = 0

    @property
    def questions(self) -> tuple[EncodedPrompt, ...]:
        """One question for each token of the answer."""
        return (self, *self.further)

    @property
    def answers(self) -> tuple[int, ...]:
        """The answer's tokens."""
        return tuple(question.answer for question in self.questions)


@dataclass(frozen=True)
class Skipped:
    """A prompt that this model can't be asked, and why (a key of `records.skip_reasons.SKIP_REASONS`)."""

    prompt_id: int
    reason: str


class Encoder:
    """Turns prompts into token ids for one tokenizer.

    Args:
        tokenizer: a transformers tokenizer.
        blank: how the blank is shown to the model.
        max_tokens: the number of positions that the model has.
        decoder_start: the token with which a decoder starts, for models with an encoder; None for the padding token.
        chat: wrap each prompt in this; for causal models.

    Raises:
        ModelError: if the tokenizer lacks the token that stands for the blank, or there is none for a decoder to start.
    """

    def __init__(
        self,
        tokenizer: Any,
        blank: Blank,
        max_tokens: int,
        decoder_start: int | None = None,
        chat: ChatFrame | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self.texts = TokenTexts(tokenizer)
        self.chat = chat
        self.blank = blank
        self._max_tokens = max_tokens
        self._decoder_start = tokenizer.pad_token_id if decoder_start is None else decoder_start
        if blank is Blank.MASK and tokenizer.mask_token_id is None:
            raise ModelError(
                "the tokenizer has no mask token, which a masked language model's blank needs; "
                "name one in its tokenizer_config.json"
            )
        if blank is Blank.SENTINEL and not self._has_sentinel():
            raise ModelError(
                f"the tokenizer has no token {SENTINEL}, which an encoder–decoder's blank needs; "
                "use a tokenizer with T5's sentinels"
            )
        if blank is Blank.SENTINEL and self._decoder_start is None:
            raise ModelError(
                "the configuration has no decoder_start_token_id, the token with which the decoder starts, and the "
                "tokenizer no padding token to start with; add either (T5 starts with its padding token, 0)"
            )

    @property
    def fed_always(self) -> tuple[tuple[str, int], ...]:
        """What every prompt is fed: the names of these tokens, and their numbers."""
        blank = () if self.blank_token is None else (("its blank", self.blank_token),)
        starts = self.blank is Blank.SENTINEL
        return (*blank, ("the start of its decoder", int(self._decoder_start))) if starts else blank

    @property
    def masks(self) -> bool:
        """Whether the blank is a mask, one for each token of an answer."""
        return self.blank is Blank.MASK

    @property
    def blank_token(self) -> int | None:
        """The token that stands for the blank; None where the text is cut there."""
        if self.blank is Blank.CUT:
            return None
        mask = self.blank is Blank.MASK
        return int(self._tokenizer.mask_token_id if mask else self._tokenizer.convert_tokens_to_ids(SENTINEL))

    def encode(
        self,
        prompt_id: int,
        text: str,
        answer: str | None,
        *,
        single_token: bool = False,
        subject: tuple[int, int] | None = None,
    ) -> EncodedPrompt | Skipped:
        """Encodes one prompt.

        Args:
            prompt_id: handed through to the result.
            text: the prompt, with its blank as `[Y]`.
            answer: the answer's text, or None to leave the answer open.
            single_token: skip the prompt if its answer has several tokens.
            subject: where the subject begins and ends in the text, if that is known: it may name no special token.
        """
        if answer is not None and not answer.strip():
            return Skipped(prompt_id, SKIP_EMPTY)
        before, _, after = text.partition(BLANK)
        if self.chat is not None and before.strip():
            before = self.chat.wrap(before, subject)
        encode = {Blank.MASK: self._masked, Blank.CUT: self._cut, Blank.SENTINEL: self._sentinel}[self.blank]
        try:
            questions = encode(prompt_id, before, after, answer)
        except NoTokensError:
            return Skipped(prompt_id, SKIP_NO_TOKENS)
        if isinstance(questions, str):
            return Skipped(prompt_id, questions)
        if subject is not None and self.texts.names_special(text, subject):
            return Skipped(prompt_id, SKIP_SPECIAL)
        if answer is not None and self.texts.names_special(answer, (0, len(answer))):
            return Skipped(prompt_id, SKIP_SPECIAL)
        if single_token and len(questions) > 1:
            return Skipped(prompt_id, SKIP_MULTI_TOKEN)
        if any(max(len(one.ids), len(one.source)) > self._max_tokens for one in questions):
            return Skipped(prompt_id, SKIP_TOO_LONG)
        first, *further = questions
        if not further:
            return first
        return EncodedPrompt(prompt_id, first.ids, first.position, first.answer, first.source, tuple(further))

    def answer_token(self, answer: str) -> int | str:
        """The token id of an answer as it stands after a space, or the reason why it has none."""
        if not answer.strip():
            return SKIP_EMPTY
        if self.texts.names_special(answer, (0, len(answer))):
            return SKIP_SPECIAL
        try:
            ids = self._after_space(answer)
        except NoTokensError:
            return SKIP_UNKNOWN
        if self._has_unknown(ids):
            return SKIP_UNKNOWN
        return ids[0] if len(ids) == 1 else SKIP_MULTI_TOKEN

    def _masked(self, prompt_id: int, before: str, after: str, answer: str | None) -> list[EncodedPrompt] | str:
        mask = self._tokenizer.mask_token_id
        ids = self._shown(before, self._tokenizer.mask_token, after)
        if ids.count(mask) != 1:
            return SKIP_EXTRA_MASK
        position = ids.index(mask)
        answers: Ids = (-1,)
        if answer is not None:
            answers = self._between(ids[:position], ids[position + 1 :], before, after, answer)
            if self._has_unknown(answers):
                return SKIP_UNKNOWN
        shown = ids[:position] + (mask,) * len(answers) + ids[position + 1 :]
        return [EncodedPrompt(prompt_id, shown, position + number, token) for number, token in enumerate(answers)]

    def _shown(self, before: str, token: str, after: str) -> Ids:
        """A text's tokens with a token at its blank. A space before the blank belongs to the answer, so it goes too.

        Other whitespace stays. Masks that take what stands on their left would take it along, so the two sides are cut
        into tokens apart.
        """
        left = before.removesuffix(" ")
        if left == left.rstrip():
            return self.texts.whole(f"{left}{token}{after}")
        return self.texts.before_blank(before) + self.texts.bare(f"{token}{after}") + self.texts.added[1]

    def _between(self, head: Ids, tail: Ids, before: str, after: str, answer: str) -> Ids:
        """The answer's tokens: what the full sentence has between the tokens before and after the blank.

        A blank may change how the text behind it is cut into tokens: then they are what the answer adds to the text
        before it. Where it merges with that, they are those that it has on its own.
        """
        whole = self.texts.whole(f"{before}{answer}{after}")
        stop = len(whole) - len(tail)
        if stop > len(head) and whole[: len(head)] == head and whole[stop:] == tail:
            return whole[len(head) : stop]
        added = self._added(before.removesuffix(" "), f"{before}{answer}")
        if added:
            return added
        spaced = not before or before.endswith(" ")
        return self._after_space(answer) if spaced else self.texts.bare(answer)

    def _cut(self, prompt_id: int, before: str, after: str, answer: str | None) -> list[EncodedPrompt] | str:
        if not is_closing(after):
            return SKIP_NOT_LAST
        if not before.strip():
            return SKIP_NO_PREFIX
        add = self.chat is None  # A chat template writes what stands at a text's start itself.
        ids = self.texts.before_blank(before, add=add)
        if answer is None:
            return [EncodedPrompt(prompt_id, ids, len(ids) - 1, -1)]
        # The answer's tokens are what the whole text has beyond the prefix: a tokenizer may merge across the
        # boundary, in which case the answer can't be asked for after this prefix.
        full = f"{before}{answer}"
        whole = self.texts.opened(full) if add else self.texts.bare(full)
        if whole[: len(ids)] != ids or len(whole) == len(ids):
            return SKIP_MERGED
        answers = whole[len(ids) :]
        if self._has_unknown(answers):
            return SKIP_UNKNOWN
        return self._teacher_forced(prompt_id, ids, answers)

    def _sentinel(self, prompt_id: int, before: str, after: str, answer: str | None) -> list[EncodedPrompt] | str:
        sentinel = self._tokenizer.convert_tokens_to_ids(SENTINEL)
        source = self._shown(before, SENTINEL, after)
        if source.count(sentinel) != 1:
            return SKIP_EXTRA_MASK
        position = source.index(sentinel)
        answers: Ids = (-1,)
        if answer is not None:
            answers = self._between(source[:position], source[position + 1 :], before, after, answer)
            if self._has_unknown(answers):
                return SKIP_UNKNOWN
        return self._teacher_forced(prompt_id, (self._decoder_start, sentinel), answers, source)

    @staticmethod
    def _teacher_forced(prompt_id: int, ids: Ids, answers: Ids, source: Ids = ()) -> list[EncodedPrompt]:
        return [
            EncodedPrompt(prompt_id, ids + answers[:number], len(ids) + number - 1, token, source)
            for number, token in enumerate(answers)
        ]

    def _has_sentinel(self) -> bool:
        token = self._tokenizer.convert_tokens_to_ids(SENTINEL)
        try:
            return token != self._tokenizer.unk_token_id and self.texts.bare(SENTINEL) == (token,)
        except NoTokensError:
            return False

    def _has_unknown(self, ids: Ids) -> bool:
        unknown = self._tokenizer.unk_token_id
        return not ids or (unknown is not None and unknown in ids)

    def _after_space(self, answer: str) -> Ids:
        """The tokens of an answer after a space: what it adds to a word before it."""
        return self._added("a", f"a {answer}") or self.texts.bare(f" {answer}")

    def _added(self, start: str, text: str) -> Ids:
        """The tokens that a text has beyond those of its start; none where its tokens do not begin with them."""
        first, every = self.texts.bare(start), self.texts.bare(text)
        return every[len(first) :] if every[: len(first)] == first else ()
