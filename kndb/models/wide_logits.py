"""Logits in single precision where a model computes in half precision.

A logit of 20 in bfloat16 is off by up to 0.06, and its probability by as much as 6 %. The matrix stays in half
precision: blocks of it are widened one after the other, on the way back too, so that nothing of its size is made.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch.nn import functional

BLOCK = 2**13
"""Rows of the matrix that are widened at once."""


def wide_linear(rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """Rows [..., e] times a matrix [V, e] plus a bias [V]: [..., V], in float32 at least.

    Rows are differentiated; the matrix is not, or else the product is computed as torch does.
    """
    if weight.element_size() >= 4 or weight.requires_grad:
        return functional.linear(rows, weight, bias)
    return cast("torch.Tensor", _WideLinear.apply(rows, weight, bias))  # type: ignore[no-untyped-call]


class _WideLinear(torch.autograd.Function):
    """See `wide_linear`."""

    @staticmethod
    def forward(context: Any, rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """The product, block by block."""
        context.save_for_backward(weight)
        context.dtype = rows.dtype
        wide = rows.float()
        logits = torch.cat([wide @ block.float().T for block in torch.split(weight, BLOCK)], dim=-1)
        return logits if bias is None else logits.add_(bias.float())

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """The rows' gradient, summed in single precision."""
        (weight,) = context.saved_tensors
        blocks = zip(torch.split(gradients[0], BLOCK, dim=-1), torch.split(weight, BLOCK), strict=True)
        found = torch.stack([part.float() @ block.float() for part, block in blocks]).sum(0)
        return found.to(context.dtype), None, None
