"""The integrals of a pretrained model: layer 0, which no global rule follows, and two that are smooth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from kndb.attribution.base_pass import continue_from, freeze
from kndb.attribution.batches import to_tensors
from kndb.attribution.integrated_gradients import integrated_gradients
from kndb.attribution.log_odds import probability_slope
from kndb.attribution.quadrature import Quadrature
from kndb.models.loading import load
from kndb.models.prompting import EncodedPrompt

CPU = torch.device("cpu")
PANELS = {0: 64, 14: 2, 29: 4}
"""Layers to compare, and the equal panels of ten Gauss nodes that settle their integrals."""


def encoded(encoder, text: str, answer: str) -> EncodedPrompt:
    prompt = encoder.encode(1, text, answer)
    assert isinstance(prompt, EncodedPrompt)
    return prompt


def composite(continuation, layer: int, panels: int) -> torch.Tensor:
    """The scores of one layer, [n], with Gauss's rule of ten nodes on equal panels, in double precision."""
    nodes, weights = np.polynomial.legendre.leggauss(10)
    alphas = np.concatenate([(panel + (nodes + 1) / 2) / panels for panel in range(panels)])
    factors = torch.from_numpy(np.tile(weights / 2 / panels, panels))
    base, module = continuation.base, continuation.network.layers[layer]
    rows = torch.from_numpy(alphas).unsqueeze(1) * (base.outputs[layer] - module.bias) + module.bias
    total = torch.zeros_like(module.bias)
    for some, their in zip(rows.split(80), factors.split(80), strict=True):
        row = some.detach().requires_grad_()
        odds = continuation.log_odds([layer] * len(row), torch.zeros(len(row), dtype=torch.int64), row)
        (gradients,) = torch.autograd.grad(odds, row, probability_slope(odds))
        total += their @ gradients
    return base.activations[layer][0] * (total @ module.down_matrix)


@pytest.mark.real
@pytest.mark.slow
def test_scores_follow_the_integrand_in_every_layer(real_model: Path):
    loaded = load(real_model)
    prompt = encoded(loaded.encoder, "The capital city of Sweden is called [Y].", "Stockholm")
    batch = to_tensors([prompt], CPU)
    network = loaded.moved(CPU, torch.float32)
    freeze(network.model)
    one = torch.zeros(1, dtype=torch.int64)
    found = integrated_gradients(continue_from(network, batch), one, Quadrature.choose(), 128)
    assert float(found.completeness_error.max()) <= 1e-3
    assert int(found.evaluations[0]) <= 300  # 220 are the aim for the mean over prompts
    seventeen = integrated_gradients(continue_from(network, batch), one, Quadrature.choose("lobatto", 17), 128)
    assert float(seventeen.completeness_error[0, 0]) > 1e-2  # what a global rule makes of layer 0

    network.model.double()
    exact = continue_from(network, batch)
    largest = float(found.scores.max())
    for layer, panels in PANELS.items():
        expected = composite(exact, layer, panels)
        finer = composite(exact, layer, 2 * panels) if layer else expected
        assert float((expected - finer).abs().max()) <= 1e-5 * largest
        assert float((found.scores[0, layer] - expected).abs().max()) <= 1e-3 * largest
