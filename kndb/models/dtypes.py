"""What numbers are stored and computed in: dtypes, and how matrix products round."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from ..advice import option
from ..errors import UsageError

DTYPE_NAMES = {torch.float16: "F16", torch.bfloat16: "BF16", torch.float32: "F32", torch.float64: "F64"}
"""The dtypes that parameters are stored in, as safetensors writes them."""


@contextmanager
def _attention_without_plans() -> Iterator[None]:
    """Passes over cuDNN's attention, which plans each new shape for tens of milliseconds: rows never come in one shape.

    On an H100 (torch 2.11) that was 98 % of an attribution's time.
    """
    before: bool = torch.backends.cuda.cudnn_sdp_enabled()  # type: ignore[no-untyped-call]
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)


@dataclass(frozen=True)
class ComputeDtype:
    """One choice of `--dtype`.

    Attributes:
        name: what the option takes.
        dtype: of parameters and activations.
        unit: the unit of rounding that log odds show.
        agreement: how far a probability may be from the model's own forward pass, relative.
        tensor_float: whether float32 products are computed with 10 bits of mantissa.
    """

    name: str
    dtype: torch.dtype
    unit: float
    agreement: float
    tensor_float: bool = False

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Sets how float32 products round and which attention a GPU runs, and sets both back."""
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high" if self.tensor_float else "highest")
        try:
            with _attention_without_plans():
                yield
        finally:
            torch.set_float32_matmul_precision(before)

    def require(self, device: torch.device) -> None:
        """Refuses a device that can't compute so.

        Raises:
            UsageError: if it can't.
        """
        if self.tensor_float and device.type != "cuda":
            raise UsageError(
                f"{option('dtype', self.name)} needs a CUDA device (this is {device.type}); use "
                f"{option('dtype', 'float32')}"
            )
        if self.dtype == torch.float64 and device.type == "mps":
            raise UsageError(
                f"{option('dtype', self.name)} can't be computed on mps; use {option('dtype', 'float32')} or "
                f"{option('device', 'cpu')}"
            )


COMPUTE_DTYPES = {
    dtype.name: dtype
    for dtype in (
        ComputeDtype("float32", torch.float32, 2.0**-24, 1e-3),
        # Some families compute attention in single precision even where the parameters are double.
        ComputeDtype("float64", torch.float64, 2.0**-53, 1e-4),
        ComputeDtype("tf32", torch.float32, 2.0**-11, 2e-2, tensor_float=True),
        # Logits, log odds, sums and integrals are float32, and the roundings of a residual stream average out: log odds
        # along a path are smoother than the dtypes' own 2^-8 and 2^-11, measured by `benchmarks/precision.py`.
        ComputeDtype("bfloat16", torch.bfloat16, 2.0**-12, 0.3),
        ComputeDtype("float16", torch.float16, 2.0**-14, 0.05),
    )
}


def find_dtype(name: str) -> ComputeDtype:
    """The dtype of a name.

    Raises:
        UsageError: if there is none.
    """
    if name not in COMPUTE_DTYPES:
        raise UsageError(f"{option('dtype')} must be one of {', '.join(COMPUTE_DTYPES)} (got {name!r})")
    return COMPUTE_DTYPES[name]
