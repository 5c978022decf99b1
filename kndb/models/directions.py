"""Where a value slot has to point so that a token becomes more probable.

What a neuron writes is added to the residual stream, which the final norm and the head turn into logits. The direction
of token y is the gradient of its logit with respect to the written vector, at an empty residual stream (all zeros):

    d_y = J_writeᵀ · J_normᵀ · J_headᵀ · u_y

with u_y the token's row of the output embedding, J_head the derivative at zero of what the head does before the output
embedding, J_norm that of the final norm, and J_write that of the layer's own norms behind its down projection (Gemma 2
norms the feed-forward block's output, a post-norm block the sum). At zero a norm is exactly linear: it multiplies by
its scale γ, and LayerNorm takes the mean away. So no prompt is needed, and in a decoder d_y is γ ⊙ u_y, centred where
the norm centres. A masked-LM head has a dense transform before the output embedding: it is turned back, its
activations as steep as at zero. That also bridges output embeddings narrower than the residual stream (ALBERT,
ELECTRA).

What later layers make of a written vector is not counted: these are directions of the direct path. Only directions
matter; lengths carry a norm's factor 1/√ε. Where prompts are at hand, `gradient_directions` counts all of it: what the
model makes of a vector written at their answer positions, in the residual streams that they have.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial, reduce
from typing import Any, cast

import torch
from torch import nn

from ..advice import Placeholder, call, option
from ..errors import EditError
from .answers import answer_logits
from .network import Network
from .prompting import EncodedPrompt

RowFunction = Callable[[torch.Tensor], torch.Tensor]
_AT_ONCE = 64
"""Prompts in one pass with gradients."""
OPTIMIZE = call("edits.plan_optimize", model=Placeholder("NAME"), fact=Placeholder("FACT"), to=Placeholder("ANSWER"))
"""What plans without directions."""


def output_directions(network: Network, layer: int, tokens: Sequence[int]) -> torch.Tensor:
    """The unit vector for each token along which a value slot of a layer raises the token's logit most.

    The slot's neuron is taken to be positive; for a negative one the opposite vector does.

    Args:
        network: the model; nothing in it changes.
        layer: whose value slots; it matters only where the layer has norms behind its down projection.
        tokens: k token ids.

    Returns:
        Directions [k, d] of length 1, in double precision, on the CPU.

    Raises:
        EditError: if the head gives a token no direction, as one whose units are all dead at zero would.
    """
    found = network.output_embeddings.detach()[list(tokens)].double().cpu()
    norms = (*network.layers[layer].write_norms, *network.final_norms)
    for step in reversed([*map(_in_double, norms), _head_before_output_embeddings(network)]):
        found = _turned_back(step, found, network.hidden_size)
    lengths = found.norm(dim=1, keepdim=True)
    if not bool((lengths > 0).all() and lengths.isfinite().all()):
        raise EditError(
            f"the head of this {network.adapter.family} model gives a token no direction in the residual stream: its "
            f"derivative at zero is zero or infinite. Use {option('rule', 'paper')}, or {OPTIMIZE}"
        )
    units: torch.Tensor = found / lengths
    return units


def gradient_directions(
    network: Network, prompts: Sequence[EncodedPrompt], token: int, layers: Collection[int]
) -> dict[int, torch.Tensor]:
    """The unit vector for each layer along which what it writes raises a token's log-probability most.

    It is the gradient of the mean of log p(token) over the prompts, with respect to the output of the layer's down
    projection at the answer position. Where layers share a parameter, it is the sum of their gradients.

    Args:
        network: the model; nothing in it changes.
        prompts: at least one, of any lengths; their own answers don't matter.
        token: the token.
        layers: which, each the lowest with its parameter.

    Returns:
        By layer [d], of length 1, in double precision, on the CPU.

    Raises:
        EditError: if there is no prompt, or a gradient is zero or not a number.
    """
    if not prompts:
        raise EditError("there is no prompt to take gradients on; at least one is needed")
    found = {layer: torch.zeros(network.hidden_size, dtype=torch.float64) for layer in layers}
    for start in range(0, len(prompts), _AT_ONCE):
        batch = prompts[start : start + _AT_ONCE]
        positions = torch.tensor([prompt.position for prompt in batch], device=network.device)
        with network.frozen(), torch.enable_grad(), _outputs_kept(network, found) as kept:
            logits = answer_logits(network, batch)
            wide = logits if logits.dtype == torch.float64 else logits.float()
            gained = wide.log_softmax(-1)[:, token].sum()
            gradients = torch.autograd.grad(gained, [output for _, output in kept])
        for (layer, _), gradient in zip(kept, gradients, strict=True):
            # Some families flatten rows and positions.
            rows = gradient.reshape(len(batch), -1, gradient.shape[-1])[torch.arange(len(batch)), positions]
            found[layer] += rows.double().sum(0).cpu()
    for layer, total in found.items():
        length = total.norm()
        if not bool(length.isfinite() and length > 0):
            raise EditError(
                f"the gradient of the new answer's probability at layer {layer} is "
                f"{'zero' if length == 0 else 'not a number'} on this model; use {OPTIMIZE}"
            )
        found[layer] = total / length
    return found


@contextmanager
def _outputs_kept(network: Network, layers: Collection[int]) -> Iterator[list[tuple[int, torch.Tensor]]]:
    """While open, one forward pass notes what down projections write: (layer, output), one for each call.

    A layer stands for all that share its parameter.
    """
    kept: list[tuple[int, torch.Tensor]] = []

    def keep(layer: int, _module: nn.Module, _inputs: object, output: torch.Tensor) -> torch.Tensor:
        if not output.requires_grad:
            output = output.detach().requires_grad_()
        kept.append((layer, output))
        return output.clone()  # Falcon adds to what it is given in place.

    modules = {
        id(layer.down): (layer.down, network.canonical_layer(number)) for number, layer in enumerate(network.layers)
    }
    with ExitStack() as stack:
        for module, layer in modules.values():
            if layer in layers:
                stack.callback(module.register_forward_hook(partial(keep, layer)).remove)
        yield kept


def input_directions(network: Network, tokens: Sequence[int]) -> torch.Tensor:
    """The tokens' word embeddings, scaled to length 1: [k, e] in double precision, on the CPU.

    Where the model widens its word embeddings, e is less than d.
    """
    found = network.word_embeddings.detach()[list(tokens)].cpu().double()
    return torch.stack([row / row.norm() for row in found])


def _head_before_output_embeddings(network: Network) -> RowFunction:
    """The head up to the output embedding; that itself, and a cap behind it, left out."""
    last = network.output_module
    steps: list[RowFunction] = []
    for step in network.head_steps:
        if not isinstance(step, nn.Module):
            steps.append(step)
            continue
        # The copy has nothing in the output embedding's place: the largest matrix is neither copied nor multiplied by.
        steps.append(_in_double(step, {id(last): nn.Identity()}))
        if any(part is last for part in step.modules()):
            break
    return lambda rows: reduce(lambda made, step: step(made), steps, rows)


def _in_double(module: nn.Module, instead: dict[int, Any] | None = None) -> RowFunction:
    return cast("RowFunction", copy.deepcopy(module, instead or {}).double().cpu().requires_grad_(False))


def _turned_back(step: RowFunction, found: torch.Tensor, width: int) -> torch.Tensor:
    """Rows [k, e] times the derivative of a step at zero: [k, width or e]."""
    zero = torch.zeros(len(found), width, dtype=torch.float64, requires_grad=True)
    with torch.enable_grad():
        (turned,) = torch.autograd.grad(step(zero), zero, found)
    return turned
