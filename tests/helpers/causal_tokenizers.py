"""Tokenizers of the kinds that causal language models have, small and made on the spot. Nothing here uses kndb."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

WORDS = ["Paris", "Rome", "The", "the", "is", "in", "of", "a", "capital", "assistant", "user", "Par"]
SCRIPTS = "首都是巴黎。東"
WHITESPACE = [" ", "\n", "\t", "\u3000"]
START, END, TURN = "<s>", "</s>", "<|im_end|>"
SPECIAL = [START, END, TURN]
SENTENCES = [
    "The capital of France is Paris.",
    "The capital of Italy is Rome.",
    "assistant\nParis\n\nuser\n\tRome is in the capital",
    "首都是巴黎。",
    "Rome\n\n",
] * 10
WORDS_WITH_WHAT_PRECEDES = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""A word takes the one character before it, a tab or a bracket as well as a space."""


def wrapped(tokenizer: Tokenizer, before: Sequence[str] = (), after: Sequence[str] = ()) -> Any:
    """The tokenizer for transformers, adding special tokens around each text."""
    if before or after:
        used = [*before, *after]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=" ".join([*before, "$A", *after]), special_tokens=[(one, tokenizer.token_to_id(one)) for one in used]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=START,
        eos_token=END,
        additional_special_tokens=[TURN],
        clean_up_tokenization_spaces=False,
    )


def byte_level(
    before: Sequence[str] = (), after: Sequence[str] = (), *, prefix: bool = False, split: str | None = None
) -> Any:
    """Byte-level BPE, as GPT-2, Llama 3 and Qwen have it."""
    tokenizer = Tokenizer(models.BPE())
    if split is None:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Split(Regex(split), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
        )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return wrapped(tokenizer, before, after)


def with_byte_fallback(before: Sequence[str] = (), after: Sequence[str] = (), *, first: bool = True) -> Any:
    """BPE over whole texts with spaces as marks, unknown characters as bytes; as Llama 2 (`first`) and Gemma have it.

    Two spaces are merged before anything else, so that a word after them has none.
    """
    merges = [("▁", "▁"), ("\n", "\n")]
    for word in ("▁Paris", "▁Rome", "▁The", "▁the", "▁is", "▁in", "▁of", "▁a", "Paris", "Rome", "The", "assistant"):
        merges += [(word[:end], word[end]) for end in range(1, len(word))]
    merges = list(dict.fromkeys(merges))
    letters = sorted({letter for word in [*WORDS, "N1().", SCRIPTS[:4]] for letter in word} - {" "})
    tokens = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "\n", *letters]
    tokens += [one for one in ("".join(pair) for pair in merges) if one not in tokens]
    tokenizer = Tokenizer(
        models.BPE({token: place for place, token in enumerate(dict.fromkeys(tokens))}, merges, byte_fallback=True)
    )
    replaced = normalizers.Replace(" ", "▁")
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), replaced]) if first else replaced
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if first else steps)
    return wrapped(tokenizer, before, after)


def unigram(before: Sequence[str] = (), after: Sequence[str] = ()) -> Any:
    """Unigram with the spaces as marks, the end appended, as SentencePiece makes them."""
    known = [*(f"▁{word}" for word in WORDS), *WORDS]
    letters = sorted({letter for word in [*WORDS, "N1().▁", SCRIPTS, "".join(WHITESPACE[1:])] for letter in word})
    pieces = [*((one, 0.0) for one in SPECIAL), *((word, -2.0) for word in known)]
    pieces += [(letter, -8.0) for letter in letters if letter not in known]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=None, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    return wrapped(tokenizer, before, after)


def letters_only(before: Sequence[str] = (), after: Sequence[str] = ()) -> Any:
    """Each character is a token, a space too."""
    letters = sorted({letter for word in [*WORDS, "N1().", SCRIPTS, "".join(WHITESPACE)] for letter in word})
    vocabulary = {token: place for place, token in enumerate([*SPECIAL, *letters])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.decoder = decoders.Fuse()
    return wrapped(tokenizer, before, after)


TURNS = (
    "{% for one in messages %}{{ '<s>' + one['role'] + '\n' + one['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<s>assistant\n' }}{% endif %}"
)
"""A chat template whose answers follow a line break."""
BRACKETS = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content | trim }} [/INST]"
    "{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
)
"""One whose answers follow a space."""


def save_chat_checkpoint(folder: Path, template: str | None = TURNS, seed: int = 0) -> Path:
    """Saves a random GPT-2 with a byte-level tokenizer and a chat template, and gives its folder."""
    tokenizer = byte_level()
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=80, n_embd=16, n_layer=2, n_head=2, initializer_range=0.3
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    return folder


KINDS: dict[str, Callable[[], Any]] = {
    "bytes": byte_level,
    "bytes, end appended": lambda: byte_level((), (END,)),
    "bytes, start and end": lambda: byte_level((START,), (END,)),
    "bytes, a space at the start": lambda: byte_level(prefix=True),
    "bytes, words take what precedes": lambda: byte_level((START,), split=WORDS_WITH_WHAT_PRECEDES),
    "byte fallback": lambda: with_byte_fallback((START,)),
    "byte fallback, end appended": lambda: with_byte_fallback((START,), (END,)),
    "byte fallback, no mark at the start": lambda: with_byte_fallback((START,), first=False),
    "unigram": lambda: unigram((START,)),
    "unigram, end appended": lambda: unigram((), (END,)),
    "letters": letters_only,
}
"""Each kind of tokenizer."""
