"""What a tokenizer makes of texts: the tokens before a blank, the special ones in it, and the exact text of a token.

Where a text ends in whitespace, its tokens depend on what follows: many tokenizers join one space with the word after
it, and cut several spaces or line breaks otherwise before a word than at a text's end. The tokens before a blank are
those that stand there when a word follows. They are found with words of our own (`WORDS`), never with an answer, so
that what a model is fed does not depend on the answer that is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any

from ..errors import ModelError

WORDS = ("Paris", "the", "a", "N", "1", "in")
"""Words that are put in place of a blank to see where the tokens before it end."""
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LONGEST_WORD = 24
"""Tokens that a word of `WORDS`, with the whitespace before it, has at most; its letters may all be bytes."""
_HALF = "\ufffd"
"""What stands for bytes that are a part of a character."""

_PRINTED = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_BYTE_OF = {
    **{chr(byte): byte for byte in _PRINTED},
    **{chr(0x100 + place): byte for place, byte in enumerate(sorted({*range(0x100)} - {*_PRINTED}))},
}
"""How byte-level vocabularies write bytes: printed characters as themselves, the others in turn from U+0100 on."""

Ids = tuple[int, ...]


class NoTokensError(ModelError):
    """A text that a tokenizer can't cut into tokens: it has no bytes to fall back to, and no unknown token."""


class TokenTexts:
    """A transformers tokenizer, asked about texts.

    Args:
        tokenizer: the tokenizer.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    # --- texts to tokens ---------------------------------------------------------------------------------------

    def whole(self, text: str) -> Ids:
        """A text's tokens with those that the tokenizer adds."""
        return self._cut(text, add=True)

    def bare(self, text: str) -> Ids:
        """A text's tokens without them."""
        return self._cut(text, add=False)

    def _cut(self, text: str, *, add: bool) -> Ids:
        try:
            return tuple(self._tokenizer(text, add_special_tokens=add, verbose=False)["input_ids"])
        except Exception as error:  # Tokenizers' own errors are bare exceptions.
            raise NoTokensError(f"the tokenizer has no tokens for {text!r}: {error}") from error

    def opened(self, text: str) -> Ids:
        """A text's tokens as one that goes on has them: with those added at its start, and none at its end.

        A start that the text has in its own words is not doubled.
        """
        ids, (start, end) = self.whole(text), self.added
        if end and ids[-len(end) :] == end:
            ids = ids[: -len(end)]
        if start and ids[: 2 * len(start)] == start * 2:
            ids = ids[len(start) :]
        return ids

    @cached_property
    def added(self) -> tuple[Ids, Ids]:
        """What the tokenizer adds before and after every text."""
        for word in self._words:
            bare, whole = self.bare(word), self.whole(word)
            for start in range(len(whole) - len(bare) + 1):
                if bare and whole[start : start + len(bare)] == bare:
                    return whole[:start], whole[start + len(bare) :]
        return (), ()

    def before_blank(self, text: str, *, add: bool = True) -> Ids:
        """The tokens of a text before a blank, whose answer follows.

        Its whitespace is kept, except for one space at its end where the tokenizer joins that with the word after it:
        it is then the start of the answer.

        Args:
            text: the text before the blank, not empty.
            add: with the tokens that the tokenizer adds at the start.
        """
        tokens = self.opened if add else self.bare
        kept = text.rstrip()
        if kept == text:
            return tokens(text)
        if kept and text == f"{kept} ":
            return tokens(kept if self._joins_space else text)
        return self._before_word(text, add=add)

    def _before_word(self, text: str, *, add: bool) -> Ids:
        """The tokens of a text that ends in whitespace, as they are when a word follows.

        They end where the text does, or one space earlier if no token begins after that space.
        """
        tokens = self.opened if add else self.bare
        own = tokens(text)
        end = self._text(own)
        sooner = self._text(tokens(text[:-1])) if text.endswith(" ") else None
        found: Ids | None = None
        for word in self._words:
            ids = tokens(f"{text}{word}")
            at_end = self._prefix(ids, end)
            if at_end is not None:
                found = at_end if found is None else found
            elif sooner is not None and (joined := self._prefix(ids, sooner)) is not None:
                return joined
            if found is not None and sooner is None:
                break
        return own if found is None else found

    def _prefix(self, ids: Ids, text: str) -> Ids | None:
        """The first tokens of a longer text that make up a text exactly; None if a token goes across its end."""
        for stop in range(len(ids) - 1, max(0, len(ids) - _LONGEST_WORD), -1):
            if self._text(ids[:stop]) == text:
                return ids[:stop]
        return None

    @cached_property
    def _words(self) -> list[str]:
        return self._known(WORDS)

    @cached_property
    def _joins_space(self) -> bool:
        """Whether words take the space before them into their first token."""
        words = self._known(" ") and self._known((*WORDS, *_LETTERS))
        spaced = ((self.bare(f"{word} "), self.bare(f"{word} {word}")) for word in words)
        return any(whole[: len(start)] != start for start, whole in spaced)

    def _text(self, ids: Ids) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))

    # --- special tokens ----------------------------------------------------------------------------------------

    @cached_property
    def special(self) -> dict[str, int]:
        """The texts that this tokenizer takes for special tokens, such as `<|im_end|>`, with their tokens."""
        found = {
            token: int(self._tokenizer.convert_tokens_to_ids(token)) for token in self._tokenizer.all_special_tokens
        }
        for number, token in getattr(self._tokenizer, "added_tokens_decoder", {}).items():
            if token.special:
                found[str(token.content)] = int(number)
        return {token: number for token, number in found.items() if token}

    def names_special(self, text: str, span: tuple[int, int]) -> bool:
        """Whether a part of a text is, or is a part of, the text of a special token."""
        start, stop = span
        most = max(map(len, self.special), default=0)
        if self._first_letters.isdisjoint(text[max(0, start - most + 1) : stop]):
            return False
        return any(token in text[max(0, start - len(token) + 1) : stop + len(token) - 1] for token in self.special)

    @cached_property
    def _first_letters(self) -> set[str]:
        return {token[0] for token in self.special}

    # --- tokens to texts ---------------------------------------------------------------------------------------

    def pieces(self, ids: Ids) -> list[str]:
        """Tokens as the vocabulary writes them; a number beyond it has none."""
        return [piece if isinstance(piece, str) else "" for piece in self._tokenizer.convert_ids_to_tokens(list(ids))]

    def exact(self, ids: Ids) -> Iterator[str]:
        """The text of each token, whatever stands before it: with its space, if it begins with one.

        A part of a character is shown as its bytes, `<0xE6>`; the rest of a word as the vocabulary writes it, `##ia`.
        """
        for token, piece in zip(ids, self.pieces(ids), strict=True):
            text = self._text((token,))
            if piece.startswith("\u2581") and not text.startswith(" "):
                # Such decoders leave out the space of a text's first word.
                text = self._text((*self._anchor, token)).removeprefix(self._text(self._anchor))
            yield _as_bytes(piece) if _HALF in text and piece else text

    @cached_property
    def _anchor(self) -> Ids:
        words = self._known((*_LETTERS, *WORDS))
        return self.bare(words[0]) if words else ()

    def _known(self, words: Iterable[str]) -> list[str]:
        """Those of some words that there are tokens for."""
        return [word for word in words if self._has_tokens(word)]

    def _has_tokens(self, text: str) -> bool:
        try:
            self.bare(text)
        except NoTokensError:
            return False
        return True


def _as_bytes(piece: str) -> str:
    """A token of a byte-level vocabulary as its bytes; any other as it is."""
    if not all(letter in _BYTE_OF for letter in piece):
        return piece
    return "".join(f"<0x{_BYTE_OF[letter]:02X}>" for letter in piece)
