"""The logarithm of the answer's odds, log(P / (1 − P)), and what follows from it without loss of digits."""

from __future__ import annotations

from typing import Any

import torch


def answer_log_odds(logits: torch.Tensor, answer: torch.Tensor) -> torch.Tensor:
    """log(P / (1 − P)) of the answer token: its logit against the log-sum-exp of all others.

    Unlike P itself, it loses no digits where P is close to 1. It can be differentiated once.

    Args:
        logits: [R, V].
        answer: token ids, [R].

    Returns:
        [R].
    """
    odds: torch.Tensor = _LogOdds.apply(logits, answer)  # type: ignore[no-untyped-call]
    return odds


class _LogOdds(torch.autograd.Function):
    """`answer_log_odds` with its gradient written out: ∂x/∂z is 1 for the answer's logit z, −softmax for the others.

    The vocabulary is the widest dimension of all; what automatic differentiation would keep and read of it costs a
    causal model more time than its layers do.
    """

    @staticmethod
    def forward(context: Any, logits: torch.Tensor, answer: torch.Tensor) -> torch.Tensor:
        """See `answer_log_odds`."""
        wide = logits if logits.dtype == torch.float64 else logits.float()
        index = answer.unsqueeze(-1)
        chosen = wide.gather(-1, index)
        others = wide.scatter(-1, index, -torch.inf)
        largest = others.amax(-1, keepdim=True)
        others = others.sub_(largest).exp_()
        total = others.sum(-1, keepdim=True)
        context.dtype = logits.dtype
        context.save_for_backward(others, total, index)
        return (chosen - largest - total.log()).squeeze(-1)

    @staticmethod
    def backward(context: Any, *slopes: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Gradient of the logits."""
        others, total, index = context.saved_tensors
        slope = slopes[0].unsqueeze(-1)
        gradient = others.mul_(-slope / total).scatter_(-1, index, slope)
        return gradient.to(context.dtype), None


def probability_slope(odds: torch.Tensor) -> torch.Tensor:
    """dP/d(log odds) = P·(1 − P), with both factors to full precision. Outside the graph."""
    return odds.detach().sigmoid() * (-odds.detach()).sigmoid()


def probability_change(odds: torch.Tensor, odds_before: torch.Tensor) -> torch.Tensor:
    """P − P_before from log odds, without the cancellation that two probabilities close to 1 would suffer."""
    low, high = torch.minimum(odds, odds_before), torch.maximum(odds, odds_before)
    size = -high.sigmoid() * (-low).sigmoid() * torch.expm1(low - high)
    return torch.where(odds >= odds_before, size, -size)
