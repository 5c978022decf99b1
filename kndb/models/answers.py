"""What a model answers: logits at the answer position of prompts of any lengths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import nn

from .adapter import Adapter
from .network import resolve
from .prompting import EncodedPrompt


def answer_logits(model: nn.Module, adapter: Adapter, prompts: Sequence[EncodedPrompt]) -> torch.Tensor:
    """Runs prompts as one padded batch; the head runs at the answer positions alone.

    Args:
        model: a transformers model of the adapter's family.
        adapter: its adapter.
        prompts: B prompts, of any lengths.

    Returns:
        Logits [B, vocabulary] in the model's dtype.
    """
    device = next(model.parameters()).device
    width = max(len(prompt.ids) for prompt in prompts)
    ids = torch.tensor([prompt.ids + (0,) * (width - len(prompt.ids)) for prompt in prompts], device=device)
    lengths = torch.tensor([len(prompt.ids) for prompt in prompts], device=device)
    mask = (torch.arange(width, device=device) < lengths.unsqueeze(1)).long()
    positions = torch.tensor([prompt.position for prompt in prompts], device=device)
    body = cast("nn.Module", cast("Any", model).base_model)
    hidden = body(input_ids=ids, attention_mask=mask).last_hidden_state
    rows = hidden[torch.arange(len(prompts), device=device), positions]
    # The head path's last module: a causal body has applied its final norm already.
    logits: torch.Tensor = resolve(model, adapter.head[-1])(rows)
    return logits


@torch.no_grad()
def batched_log_probabilities(
    model: nn.Module, adapter: Adapter, prompts: Sequence[EncodedPrompt], batch_size: int = 256
) -> Iterator[tuple[list[int], torch.Tensor]]:
    """Log-probabilities over the vocabulary at each prompt's answer position, batch by batch.

    Batches hold prompts of like length. Each comes as the indices of its prompts and a tensor [B, vocabulary] of
    float32 on the CPU.
    """
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index].ids))
    for start in range(0, len(order), batch_size):
        indices = order[start : start + batch_size]
        logits = answer_logits(model, adapter, [prompts[index] for index in indices])
        yield indices, logits.float().log_softmax(-1).cpu()
