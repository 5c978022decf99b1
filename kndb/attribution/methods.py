"""The methods of attribution that kndb knows: one entry each."""

from __future__ import annotations

import torch

from ..advice import call, option
from ..errors import UsageError
from .activation import activation
from .continuation import Continuation
from .gradient_activation import gradient_x_activation
from .integrated_gradients import integrated_gradients
from .log_probability_increase import log_probability_increase
from .method import AttributionMethod, PromptScores, ScoringOptions
from .random_scores import random_scores


def _integrated_gradients(continuation: Continuation, selected: torch.Tensor, options: ScoringOptions) -> PromptScores:
    return integrated_gradients(continuation, selected, options.quadrature, options.most_rows, options.unit)


METHODS: dict[str, AttributionMethod] = {
    method.name: method
    for method in (
        AttributionMethod(
            "integrated-gradients",
            _integrated_gradients,
            "per layer 1 gradient or more (3 or 4 as a rule); 1 gradient for all layers together",
            "Dai et al. 2022, equations 2 and 3",
            integrates=True,
        ),
        AttributionMethod(
            "activation",
            activation,
            "1 forward and backward pass",
            "Dai et al. 2022, section 4.2 (baseline)",
            threshold=0.5,
        ),
        AttributionMethod(
            "gradient-x-activation",
            gradient_x_activation,
            "1 forward and backward pass",
            "the integrated gradient's integrand at the unmodified network",
        ),
        AttributionMethod(
            "log-probability-increase",
            log_probability_increase,
            "1 forward and backward pass, and the head once per neuron",
            "Yu and Ananiadou 2024",
        ),
        AttributionMethod("random", random_scores, "1 forward and backward pass", "control", draws=True),
    )
}


def find_method(name: str) -> AttributionMethod:
    """The method of a name.

    Raises:
        UsageError: if there is none.
    """
    if name not in METHODS:
        raise UsageError(
            f"{option('method')} must be one of {', '.join(METHODS)} (got {name!r}). "
            f"See: {call('kndb.attribution_methods')}"
        )
    return METHODS[name]
