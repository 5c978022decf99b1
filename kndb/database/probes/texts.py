"""Texts for an activation experiment: whose they are, which word of them is left out, and what the model is shown.

A text's blank is where its file has one. Otherwise a word is left out, as in the paper's own code: of a text that names
head and tail the tail, of one that names the head a random word outside it, of any other a random word. A causal model
reads only what stands before the blank, so there the blank is never the first word.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

from ...advice import call
from ...analysis.interventions import NeuronQuestion, mean_activations
from ...errors import InputError
from ...facts.texts import HEAD, HEAD_AND_TAIL, KINDS, NEITHER, FactName, NamedText, TextFile
from ...models.adapter import Blank
from ...models.network import Network
from ...models.prompting import EncodedPrompt, Encoder
from ...records.facts import BLANK
from ...records.probes import ExtremeText, FactActivation
from ...records.skip_reasons import SKIP_NO_PREFIX, SKIP_REASONS
from ...store.fact_index import FactIndex, StoredFact
from .draws import chance_of, shuffled
from .scaling import batch_size_for

SKIP_NO_TAIL = "tail-not-found"
SKIP_NO_WORD = "no-word-to-leave-out"

TEXT_SKIP_REASONS = {
    **SKIP_REASONS,
    SKIP_NO_TAIL: "the text does not name the fact's object as a word of its own, outside the subject",
    SKIP_NO_WORD: "no word is left that could be the blank",
}
"""Each reason for which a text is not measured, in words."""

TEXTS_AT_ONCE = 4096
"""Texts whose activations are read at once."""

_WORD = re.compile(r"\w+(?:['\u2019-]\w+)*")


@dataclass(frozen=True)
class ShownText:
    """A text of a fact as the model is shown it; `text` has the blank as `[Y]`, and what follows it too."""

    fact: StoredFact
    kind: str
    text: str
    encoded: EncodedPrompt


def find_fact(index: FactIndex, name: FactName) -> StoredFact | None:
    """The fact of a name, if the store has it.

    Raises:
        InputError: if an external id stands for several facts.
    """
    if name.external_id is not None:
        found = index.by_id(name.external_id)
        numbers = sorted(fact.id for fact in found)
        if len(found) > 1:
            raise InputError(
                f"facts {', '.join(map(str, numbers))} share the external id {name.external_id!r}; name the fact by "
                "its number, as a whole number, or by relation, subject and object"
            )
        return found[0] if found else None
    if name.number is not None:
        return index.by_number(name.number)
    return None if name.triple is None else index.by_triple(*name.triple)


def join(files: Sequence[TextFile], index: FactIndex, seed: int) -> tuple[list[tuple[StoredFact, NamedText]], int]:
    """The texts of all files with their facts.

    Facts of the paper's bags get texts of kind `neither`: as many as they have of head and tail, drawn from the
    sentences of all bags, without those that name the fact's subject or object.

    Returns:
        Facts with their texts, and how many facts that files name are not in the store.

    Raises:
        InputError: if no fact of the files is in the store.
    """
    joined = [(find_fact(index, text.fact), text) for file in files for text in file.texts]
    unknown = len({text.fact for fact, text in joined if fact is None})
    found = [(fact, text) for fact, text in joined if fact is not None]
    if not found:
        sources = ", ".join(file.source for file in files)
        raise InputError(
            f"{sources}: none of its {unknown} facts is in the store; they must be ingested, and named by number, by "
            f"external id, or by relation, subject and object, as they are listed by: {call('facts.find')}"
        )
    bags = [text for file in files if file.bags for text in file.texts]
    sentences = list(dict.fromkeys(text.text for text in bags))
    counts = Counter(text.fact for text in bags if text.kind == HEAD_AND_TAIL)
    for name, count in counts.items():
        fact = find_fact(index, name)
        if fact is not None:
            drawn = _unrelated(fact, sentences, count, seed)
            found += [(fact, NamedText(name, NEITHER, sentence)) for sentence in drawn]
    return found, unknown


def show(
    texts: Sequence[tuple[StoredFact, NamedText]], encoder: Encoder, blank: Blank, seed: int
) -> tuple[list[ShownText], dict[str, int]]:
    """What the model is shown of each text.

    Returns:
        The texts, and how many can't be shown, by reason (a key of `TEXT_SKIP_REASONS`).
    """
    shown: list[ShownText] = []
    skipped: Counter[str] = Counter()
    for fact, text in texts:
        chance = chance_of(seed, "blank", fact.id, text.kind, text.text)
        with_blank = place_blank(text, fact, chance, first=blank is not Blank.CUT)
        if with_blank is None:
            skipped[SKIP_NO_TAIL if text.kind == HEAD_AND_TAIL else SKIP_NO_WORD] += 1
            continue
        before, _, _ = with_blank.partition(BLANK)
        if blank is Blank.CUT and not before.strip():
            skipped[SKIP_NO_PREFIX] += 1
            continue
        encoded = encoder.encode(len(shown), f"{before}{BLANK}" if blank is Blank.CUT else with_blank, None)
        if isinstance(encoded, EncodedPrompt):
            shown.append(ShownText(fact, text.kind, with_blank, encoded))
        else:
            skipped[encoded.reason] += 1
    return shown, dict(skipped)


def place_blank(text: NamedText, fact: StoredFact, chance: random.Random, *, first: bool) -> str | None:
    """A text with one word (or the whole tail) left out as `[Y]`; None if there is none to leave out.

    Args:
        text: the text; one with a blank stays as it is.
        fact: whose subject is the head and whose object is the tail.
        chance: where the draw comes from.
        first: whether the blank may be the first of the text.
    """
    if BLANK in text.text:
        return text.text
    heads = list(_occurrences(fact.subject, text.text))
    if text.kind == HEAD_AND_TAIL:
        candidates = list(_occurrences(fact.object, text.text))
    else:
        candidates = [match.span() for match in _WORD.finditer(text.text)]
    if text.kind in (HEAD, HEAD_AND_TAIL):
        candidates = [span for span in candidates if not any(_overlap(span, head) for head in heads)]
    if not first:
        candidates = [span for span in candidates if _WORD.search(text.text[: span[0]])]
    if not candidates:
        return None
    start, stop = candidates[0] if text.kind == HEAD_AND_TAIL else chance.choice(candidates)
    return f"{text.text[:start]}{BLANK}{text.text[stop:]}"


def read(network: Network, questions: Sequence[NeuronQuestion], batch_size: int | None) -> list[float]:
    """The mean activation of each question's neurons."""
    size = batch_size or batch_size_for(network, [question.prompt for question in questions])
    return mean_activations(network, questions, size)


def summed_up(
    texts: Sequence[ShownText], values: Sequence[float], keep: int
) -> tuple[list[FactActivation], list[ExtremeText]]:
    """For each fact the mean over its texts of each kind, and its texts of the highest and lowest values."""
    of_fact: dict[int, list[tuple[float, ShownText]]] = {}
    for value, text in zip(values, texts, strict=True):
        of_fact.setdefault(text.fact.id, []).append((value, text))
    means: list[FactActivation] = []
    extremes: list[ExtremeText] = []
    for fact_id, measured in sorted(of_fact.items()):
        for kind in KINDS:
            some = [value for value, text in measured if text.kind == kind]
            if some:
                means.append(FactActivation(fact_id, measured[0][1].fact.relation, kind, len(some), fmean(some)))
        measured.sort(key=lambda pair: -pair[0])
        for sign, ordered in ((1, measured), (-1, measured[::-1])):
            for rank, (value, text) in enumerate(ordered[:keep], 1):
                extremes.append(ExtremeText(fact_id, sign * rank, text.kind, text.text, value))
    return means, extremes


def _unrelated(fact: StoredFact, sentences: Sequence[str], count: int, seed: int) -> Iterator[str]:
    """Sentences that name neither subject nor object, drawn at random."""
    order = shuffled(len(sentences), chance_of(seed, "neither", fact.id))
    while count and (place := next(order, None)) is not None:
        sentence = sentences[place]
        if not any(any(_occurrences(name, sentence)) for name in (fact.subject, fact.object)):
            count -= 1
            yield sentence


def _occurrences(name: str | None, text: str) -> Iterator[tuple[int, int]]:
    """Where a text names something, as a word of its own."""
    if name:
        for match in re.finditer(rf"(?<!\w){re.escape(name)}(?!\w)", text):
            yield match.span()


def _overlap(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one[0] < other[1] and other[0] < one[1]
