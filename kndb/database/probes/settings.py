"""What an experiment is to find out, and how it is made, as values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...advice import option
from ...errors import UsageError
from ...models.device_maps import DeviceMapChoice
from ...models.dtypes import find_dtype
from ...records.attribution import RefinementChoice
from .draws import require_seed

FACTORS = {"suppress": 0.0, "amplify": 2.0}
"""What activations are multiplied by, unless the user says otherwise."""


@dataclass(frozen=True)
class ProbeSettings:
    """How an experiment is made, of whatever kind.

    Attributes:
        refinement: whose sets; see `QueryCommands.choose`.
        version: which version of the model.
        seed: of all draws, 0 to 2^63 − 1.
        dtype: what is computed in, a name of `kndb.models.dtypes.COMPUTE_DTYPES`.
        device: where, `auto`, `cpu`, `cuda` or `mps`.
        batch_size: prompts in one forward pass, at least 1; None takes as many as fit into memory.
        device_map: where the model's weights are kept, as for `AttributionSettings`.
    """

    refinement: RefinementChoice = None
    version: str = "current"
    seed: int = 0
    dtype: str = "float32"
    device: str = "auto"
    batch_size: int | None = None
    device_map: DeviceMapChoice = None

    def __post_init__(self) -> None:
        require_seed(self.seed)
        find_dtype(self.dtype)
        require_at_least("batch_size", self.batch_size, 1)


@dataclass(frozen=True)
class ScalingRequest:
    """An experiment that multiplies the activations of facts' neurons.

    Attributes:
        kind: `suppress` or `amplify`.
        model: a registered model, or a lab model.
        relations: the keys of the relations whose facts are probed; none named means all.
        factor: what activations are multiplied by; None takes 0 to suppress, 2 to amplify.
        baseline: the refinement of the arm `activation`; None takes the one of this model and version whose run's
            method is `activation`, and goes without that arm if there is none.
        others: how many prompts of facts of other relations each fact is asked, drawn at random.
        facts: facts per relation, drawn at random; None takes all.
    """

    kind: str
    model: str
    relations: Sequence[str] = ()
    factor: float | None = None
    baseline: RefinementChoice = None
    others: int = 20
    facts: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in FACTORS:
            raise UsageError(f"an experiment's kind must be one of {', '.join(FACTORS)} (got {self.kind!r})")
        factor = self.multiplier
        if self.kind == "suppress" and not 0 <= factor < 1:
            raise UsageError(f"{option('factor')} must be from 0, below 1, to suppress (got {factor:g})")
        if self.kind == "amplify" and not (factor > 1 and math.isfinite(factor)):
            raise UsageError(f"{option('factor')} must be above 1 to amplify (got {factor:g})")
        require_at_least("others", self.others, 0)
        require_at_least("facts", self.facts, 1)

    @property
    def multiplier(self) -> float:
        """The factor, or the kind's usual one."""
        return float(FACTORS[self.kind] if self.factor is None else self.factor)


@dataclass(frozen=True)
class ReadingRequest:
    """An experiment that reads the activations of facts' neurons over texts.

    Attributes:
        model: a registered model, or a lab model.
        texts: files of texts, at least one; see `kndb.facts.texts`.
        input_format: `auto`, `jsonl` or `bags`.
        pairs: the file that names the facts of bags; None looks for `query_pairs.json`.
        keep: how many texts of the highest and of the lowest activation are kept for each fact.
    """

    model: str
    texts: Sequence[str | Path]
    input_format: str = "auto"
    pairs: str | Path | None = None
    keep: int = 3

    def __post_init__(self) -> None:
        require_at_least("keep", self.keep, 0)
        if not self.texts:
            raise UsageError("there is no file of texts; name at least one")


def require_at_least(name: str, value: int | None, least: int) -> None:
    """Refuses an option's number that is too small; None passes.

    Raises:
        UsageError: if it is.
    """
    if value is not None and value < least:
        raise UsageError(f"{option(name)} must be at least {least} (got {value})")
