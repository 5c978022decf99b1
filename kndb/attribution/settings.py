"""How prompts are attributed, as one value that travels whole from who asks to the engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..advice import option
from ..errors import UsageError
from ..records.attribution import error_limit
from .methods import find_method
from .quadrature import Quadrature

if TYPE_CHECKING:
    from ..models.device_maps import DeviceMapChoice


@dataclass(frozen=True)
class AttributionSettings:
    """How to attribute prompts. All but devices and batch size decides the numbers, and so is stored with a run.

    Attributes:
        quadrature: the integration rules.
        floor: scores under this share of a prompt's largest score are not kept, 0 to 1.
        known_only: leave out prompts whose most probable token is not the answer.
        method: the kind of score, a name of `kndb.attribution.methods.METHODS`.
        negative: keep scores under zero too, down to the floor's share of the most negative one.
        seed: of everything drawn at random.
        dtype: what numbers are computed in, a name of `kndb.models.dtypes.COMPUTE_DTYPES`.
        device: where, `auto`, `cpu`, `cuda` or `mps`.
        batch_size: prompts per batch, at least 1; None takes as many as fit into memory.
        device_map: where the model's weights are kept, if not all of them where it is computed: `auto`, a JSON file, or
            what such a file says as a mapping; see `kndb.models.device_maps`.
    """

    quadrature: Quadrature = field(default_factory=Quadrature.choose)
    floor: float = 0.1
    known_only: bool = False
    method: str = "integrated-gradients"
    negative: bool = False
    seed: int = 0
    dtype: str = "float32"
    device: str = "auto"
    batch_size: int | None = None
    device_map: DeviceMapChoice = None

    def __post_init__(self) -> None:
        from ..models.dtypes import find_dtype

        find_method(self.method)
        find_dtype(self.dtype)
        if not 0 <= self.floor <= 1:
            raise UsageError(f"{option('floor')} must be a number from 0 to 1 (got {self.floor})")
        if self.batch_size is not None and self.batch_size < 1:
            raise UsageError(f"{option('batch_size')} must be at least 1 (got {self.batch_size})")

    def as_settings(self) -> dict[str, object]:
        """Plain values, for the store: those that the method uses."""
        method = find_method(self.method)
        return {
            **(self.quadrature.settings() if method.integrates else {}),
            **({"seed": self.seed} if method.draws else {}),
            "floor": self.floor,
            "known_only": self.known_only,
            "negative": self.negative,
            "dtype": self.dtype,
        }

    @property
    def error_limit(self) -> float:
        """The completeness error above which a prompt's layers are noted."""
        return error_limit(self.quadrature.settings())
