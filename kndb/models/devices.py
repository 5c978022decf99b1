"""The device that computes."""

from __future__ import annotations

import torch

from .dtypes import find_dtype
from .loading import choose_device


def device_for(name: str, dtype: str) -> torch.device:
    """The device of a name, for numbers of a dtype.

    Args:
        name: `auto` (CUDA, then MPS, then CPU), `cpu`, `cuda` or `mps`.
        dtype: a name of `kndb.models.dtypes.COMPUTE_DTYPES`.

    Raises:
        UsageError: if there is no such device here, or it can't compute so.
    """
    device = choose_device(name)
    find_dtype(dtype).require(device)
    return device
