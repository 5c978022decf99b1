"""Kept covariances of keys: what a count of them is told, and what there is of each layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..advice import option
from ..content import MOST_BYTES
from ..errors import UsageError
from .display import Record
from .edit_settings import check_seed

TOKENS_PER_NEURON = 20
"""How many tokens are counted for each neuron of a layer, unless the user says otherwise."""
MOST_MEMORY = 4 << 30


@dataclass(frozen=True)
class StatisticsSettings:
    """Of which keys covariances are counted: those of the prompts of the store's facts, unless a source is named.

    Attributes:
        layers: which layers, at least one; `all`; None for those that edits of many facts change by default.
        texts: a file of texts in place of the facts; see `kndb.facts.plain_texts`.
        self_sampled: so many texts that the model says from nothing, in place of the facts; at least 1.
        max_tokens: tokens counted at most, at least 1: texts are taken in turn, whole, until no further one fits. None
            for twenty times the neurons of a layer. Not with `self_sampled`, which says how many.
        seed: of the order of the facts' prompts, and of what the model says.
        most_memory: bytes that the sums, and what is computed of them, may take: eight for each pair of neurons of a
            layer, for each layer and three more.
        most_bytes: a file of texts with more of unpacked text is refused.
    """

    layers: Sequence[int] | Literal["all"] | None = None
    texts: Path | str | None = None
    self_sampled: int | None = None
    max_tokens: int | None = None
    seed: int = 0
    most_memory: int = MOST_MEMORY
    most_bytes: int = MOST_BYTES

    def __post_init__(self) -> None:
        """Refuses what can't be.

        Raises:
            UsageError: if a setting is out of its range, or two sources are named.
        """
        for name in ("self_sampled", "max_tokens", "most_memory", "most_bytes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{option(name)} must be at least 1 (got {value})")
        if self.layers is not None and self.layers != "all" and (isinstance(self.layers, str) or not self.layers):
            raise UsageError(f"{option('layers')} must name at least one layer, or all (got {self.layers!r})")
        if self.texts is not None and self.self_sampled is not None:
            raise UsageError(
                f"{option('texts')} and {option('self_sampled')} are two sources of texts; leave one of them out"
            )
        if self.max_tokens is not None and self.self_sampled is not None:
            raise UsageError(
                f"{option('max_tokens')} cuts texts of facts or of a file; {option('self_sampled')} says how many "
                "texts the model makes. Leave one of them out"
            )
        check_seed(self.seed)


@dataclass(frozen=True)
class LayerStatistics(Record):
    """What is kept of one layer's keys: their covariance C = E[k kᵀ].

    Attributes:
        model: the model; `version`: which version of it the keys are of.
        layer: the layer; `neurons`: how many numbers a key has.
        source: where the texts are from: `facts`, `texts NAME`, `self-sampled`.
        texts: how many texts; `done`: how many of them were counted, fewer where the count was interrupted.
        tokens: how many keys were counted.
        rank: how many dimensions they span; None as long as texts are left.
        condition: the largest eigenvalue of C with the methods' ridge by its smallest; None as long as texts are left,
            or where the smallest is nothing.
        digest: sha256 of the texts' token ids, in hex.
        size: bytes of the file.
        file: its path.
        problem: why the file can't be used; None for a sound one. What else it says is empty then.
    """

    model: str
    version: str
    layer: int
    source: str = ""
    texts: int = 0
    done: int = 0
    tokens: int = 0
    neurons: int = 0
    rank: int | None = None
    condition: float | None = None
    digest: str = ""
    size: int = 0
    file: str = ""
    problem: str | None = None

    @property
    def complete(self) -> bool:
        """Whether it can be used: all texts were counted, and the file is sound."""
        return self.problem is None and self.done == self.texts

    @property
    def state(self) -> str:
        """In words: `complete`, `interrupted` or `damaged`."""
        return "damaged" if self.problem is not None else "complete" if self.complete else "interrupted"

    def _line(self) -> str:
        counted = f"{self.tokens:,} tokens of {self.source}" if self.complete else self.state
        return f"{self.model}, layer {self.layer}, version {self.version}, {counted}"
