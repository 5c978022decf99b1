"""The methods of attribution that kndb knows: one entry each. What computes them is imported when they do."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from ..advice import call, option
from ..errors import UsageError
from .method import AttributionMethod, PromptScores, ScoreFunction, ScoringOptions

if TYPE_CHECKING:
    import torch

    from .continuation import Continuation


def _integrated_gradients(continuation: Continuation, selected: torch.Tensor, options: ScoringOptions) -> PromptScores:
    from .integrated_gradients import integrated_gradients

    return integrated_gradients(continuation, selected, options.quadrature, options.most_rows, options.unit)


def _of(module: str, name: str) -> ScoreFunction:
    """The function of a module of this folder, which is imported when it is first called."""

    def compute(continuation: Continuation, selected: torch.Tensor, options: ScoringOptions) -> PromptScores:
        function: ScoreFunction = getattr(import_module(f"{__package__}.{module}"), name)
        return function(continuation, selected, options)

    return compute


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
            _of("activation", "activation"),
            "1 forward and backward pass",
            "Dai et al. 2022, section 4.2 (baseline)",
            threshold=0.5,
        ),
        AttributionMethod(
            "gradient-x-activation",
            _of("gradient_activation", "gradient_x_activation"),
            "1 forward and backward pass",
            "the integrated gradient's integrand at the unmodified network",
        ),
        AttributionMethod(
            "log-probability-increase",
            _of("log_probability_increase", "log_probability_increase"),
            "1 forward and backward pass, and the head once per neuron",
            "Yu and Ananiadou 2024",
        ),
        AttributionMethod(
            "random", _of("random_scores", "random_scores"), "1 forward and backward pass", "control", draws=True
        ),
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
