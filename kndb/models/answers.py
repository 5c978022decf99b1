"""What a model answers: logits at the answer position of prompts of any lengths, by the model's own forward pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import nn

from ..advice import option
from ..errors import ModelError
from ..records.models import Answer
from .adapter import Adapter
from .network import Network
from .paths import resolve
from .prompting import EncodedPrompt
from .token_texts import TokenTexts


def answer_logits(network: Network, prompts: Sequence[EncodedPrompt]) -> torch.Tensor:
    """Runs prompts as one padded batch; the head runs at the answer positions alone.

    Args:
        network: a model of the adapter's family.
        prompts: B prompts, of any lengths. Of an answer of several tokens, the first is asked for.

    Returns:
        Logits [B, vocabulary], in float32 at least.
    """
    model, adapter, device = network.model, network.adapter, network.device
    ids, mask = _padded([prompt.ids for prompt in prompts], model, device)
    hidden = _body(model, adapter, ids, mask, [prompt.source for prompt in prompts])
    positions = torch.tensor([prompt.position for prompt in prompts], device=device)
    return network.head(hidden[torch.arange(len(prompts), device=device), positions])


@torch.no_grad()
def batched_log_probabilities(
    network: Network, prompts: Sequence[EncodedPrompt], batch_size: int = 256
) -> Iterator[tuple[list[int], torch.Tensor]]:
    """Log-probabilities over the vocabulary at each prompt's answer position, batch by batch.

    Batches hold prompts of like length. Each comes as the indices of its prompts and a tensor [B, vocabulary] of
    float32 on the CPU.

    Raises:
        ModelError: if probabilities are not numbers.
    """
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index].ids) + len(prompts[index].source))
    for start in range(0, len(order), batch_size):
        indices = order[start : start + batch_size]
        logits = answer_logits(network, [prompts[index] for index in indices]).float()
        require_numbers(network, logits.amax(-1))
        yield indices, logits.log_softmax(-1).cpu()


def most_probable(probabilities: torch.Tensor, texts: TokenTexts, top: int, *, sum_alike: bool = False) -> list[Answer]:
    """The most probable tokens, or spellings of them summed up.

    Args:
        probabilities: of the vocabulary's tokens, [vocabulary], on the CPU.
        texts: of its tokenizer.
        top: how many, at least 1.
        sum_alike: sum up tokens whose texts are the same without the whitespace around them and without case.
    """
    count = min(top, len(probabilities))
    if not sum_alike:
        values, tokens = probabilities.topk(count)
        ids = tuple(tokens.tolist())
        rows = zip(ids, texts.exact(ids), values.tolist(), strict=True)
        return [Answer(text.strip() or text, probability, text, token) for token, text, probability in rows]
    ids = tuple(range(len(probabilities)))
    alike: dict[str, list[tuple[float, int, str]]] = {}
    for token, text, probability in zip(ids, texts.exact(ids), probabilities.double().tolist(), strict=True):
        alike.setdefault(text.strip().casefold() or text, []).append((probability, -token, text))
    sums = sorted(((sum(one[0] for one in some), *max(some), len(some)) for some in alike.values()), reverse=True)
    return [
        Answer(text.strip() or text, total, text, -number, spellings)
        for total, _, number, text, spellings in sums[:count]
    ]


def require_numbers(network: Network, values: torch.Tensor) -> None:
    """Refuses probabilities, or what they are made of, that are not numbers.

    Args:
        network: the model that gave them.
        values: some of what it gave; of logits, the largest of each row is enough: one that is NaN is the largest.

    Raises:
        ModelError: if one is NaN or infinite.
    """
    if not bool(torch.isfinite(values).all()):
        raise ModelError(
            f"{network.name} gives probabilities that are not numbers (NaN or infinity): its weights hold such values, "
            "or are too large for the dtype that is computed in, as an edit can make them. Compare with the version "
            f"before its edits ({option('version', 'base')}); if that does the same, fetch the checkpoint again, or "
            "compute in a wider dtype"
        )


def _body(
    model: nn.Module, adapter: Adapter, ids: torch.Tensor, mask: torch.Tensor, sources: list[tuple[int, ...]]
) -> torch.Tensor:
    body = resolve(model, adapter.body)
    if adapter.encoder is None:
        return cast("torch.Tensor", body(input_ids=ids, attention_mask=mask).last_hidden_state)
    source, source_mask = _padded(sources, model, ids.device)
    encoded = resolve(model, adapter.encoder)(input_ids=source, attention_mask=source_mask).last_hidden_state
    hidden = body(
        input_ids=ids, attention_mask=mask, encoder_hidden_states=encoded, encoder_attention_mask=source_mask
    ).last_hidden_state
    return cast("torch.Tensor", hidden)


def _padded(
    rows: Sequence[tuple[int, ...]], model: nn.Module, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids [B, T] filled up with the padding token, and the mask of those that count."""
    filler = getattr(cast("Any", model.config), "pad_token_id", None) or 0
    width = max(len(row) for row in rows)
    ids = torch.tensor([row + (filler,) * (width - len(row)) for row in rows], device=device)
    lengths = torch.tensor([len(row) for row in rows], device=device)
    return ids, (torch.arange(width, device=device) < lengths.unsqueeze(1)).long()
