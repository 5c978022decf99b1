"""Logits of half-precision models: float32, with the exact product of the half-precision numbers, and its gradient."""

from __future__ import annotations

import pytest
import torch
from causal_families import causal_model
from masked_families import masked_model
from tiny_models import tiny_model

from kndb.models import wide_logits
from kndb.models.network import Network
from kndb.models.registry import adapter_for
from kndb.models.wide_logits import wide_linear


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_product_and_gradient(dtype, monkeypatch):
    monkeypatch.setattr(wide_logits, "BLOCK", 7)  # The last block is shorter.
    torch.manual_seed(0)
    weight, bias = torch.randn(50, 16).to(dtype), torch.randn(50).to(dtype)
    rows = torch.randn(2, 3, 16).to(dtype).requires_grad_()
    logits, factor = wide_linear(rows, weight, bias), torch.randn(2, 3, 50)
    exact = rows.detach().double() @ weight.double().T + bias.double()
    torch.testing.assert_close(logits.double(), exact, rtol=1e-5, atol=1e-5)
    (gradient,) = torch.autograd.grad(logits, rows, factor)
    assert (logits.dtype, gradient.dtype) == (torch.float32, dtype)
    torch.testing.assert_close(gradient.double(), factor.double() @ weight.double(), rtol=1e-2, atol=1e-1)


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama", "deberta-v2-buckets", "cohere"])
def test_every_kind_of_head_gives_them(name):
    made = {"bert": tiny_model, "gpt2": tiny_model, "deberta-v2-buckets": masked_model}.get(name, causal_model)
    model = made(name).requires_grad_(False)
    network = Network(model.bfloat16(), adapter_for(model.config))
    rows = torch.randn(2, network.hidden_size).bfloat16()
    found = network.logits(rows)
    assert found.dtype == torch.float32
    assert (found != found.bfloat16()).any()
    assert "forward" not in vars(network.output_module)
    torch.testing.assert_close(found, Network(model.float(), network.adapter).logits(rows.float()), rtol=0.1, atol=0.1)
