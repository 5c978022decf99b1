"""Small tokenizers in which every one-word answer of a corpus is one token.

A masked model gets WordPiece, as BERT has; a causal one byte-level byte-pair encoding, as GPT-2 has. Both can
spell any text: WordPiece from single characters (with `[UNK]` for characters never seen), the other from bytes.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from .corpus import Corpus, words_of

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
END_OF_TEXT = "<|endoftext|>"
ANSWER_WEIGHT = 2000
MOST_TOKENS = 64


def wordpiece(corpus: Corpus, vocabulary: int) -> Any:
    """A cased WordPiece tokenizer of at most `vocabulary` tokens: answers and frequent words whole."""
    answers, texts = words_of(corpus.examples)
    split = pre_tokenizers.BertPreTokenizer()
    counts = Counter(word for text in texts for word, _ in split.pre_tokenize_str(text))
    whole_answers = [word for answer in answers for word, _ in split.pre_tokenize_str(answer)]
    characters = sorted({character for word in counts for character in word})
    tokens: dict[str, None] = dict.fromkeys(SPECIAL)
    tokens.update(dict.fromkeys(characters))
    tokens.update(dict.fromkeys(f"##{character}" for character in characters))
    tokens.update(dict.fromkeys(whole_answers))
    for word, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if len(tokens) >= vocabulary:
            break
        tokens.setdefault(word)
    tokenizer = Tokenizer(
        models.WordPiece({token: index for index, token in enumerate(tokens)}, unk_token="[UNK]")  # noqa: S106
    )
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    tokenizer.pre_tokenizer = split
    tokenizer.decoder = decoders.WordPiece()
    cls, sep = SPECIAL.index("[CLS]"), SPECIAL.index("[SEP]")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[("[CLS]", cls), ("[SEP]", sep)],
    )
    return _for_transformers(
        tokenizer,
        pad_token="[PAD]",  # noqa: S106
        unk_token="[UNK]",  # noqa: S106
        cls_token="[CLS]",  # noqa: S106
        sep_token="[SEP]",  # noqa: S106
        mask_token="[MASK]",  # noqa: S106
    )


def _for_transformers(tokenizer: Tokenizer, **special: str) -> Any:
    fast: Any = PreTrainedTokenizerFast  # Its constructor has no types.
    return fast(tokenizer_object=tokenizer, model_max_length=MOST_TOKENS, **special)


def byte_pair(corpus: Corpus, vocabulary: int) -> Any:
    """A byte-level BPE tokenizer of at most `vocabulary` tokens, trained with the answers weighted up."""
    answers, texts = words_of(corpus.examples)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    weighted = [" " + " ".join(answers)] * ANSWER_WEIGHT
    tokenizer.train_from_iterator([*weighted, *texts], trainer)
    return _for_transformers(
        tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        unk_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
    )
