"""How varied a text is, by the entropies of its n-grams: a model that an edit broke repeats itself."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

WEIGHTS = {2: 2 / 3, 3: 4 / 3}
"""ROME's weights of the entropies of bigrams and trigrams (Meng et al. 2022), whose mean is the fluency."""
_WORD = re.compile(r"\w+|[^\w\s]")


def fluency(text: str) -> float:
    """The weighted mean of a text's bigram and trigram entropies, in bits, as ROME defines it.

    Words and single marks count as its words. A text too short for an n-gram has an entropy of 0 for it.
    """
    words = _WORD.findall(text)
    return sum(weight * ngram_entropy(words, size) for size, weight in WEIGHTS.items()) / len(WEIGHTS)


def ngram_entropy(words: Sequence[str], size: int) -> float:
    """−Σ f·log₂ f over the relative frequencies f of n-grams of a size."""
    grams = Counter(tuple(words[start : start + size]) for start in range(len(words) - size + 1))
    total = sum(grams.values())
    return -sum(count / total * math.log2(count / total) for count in grams.values()) if total else 0.0
