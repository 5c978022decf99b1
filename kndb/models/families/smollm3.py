"""SmolLM3: Qwen2's parts, but some layers turn neither queries nor keys (NoPE)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .llama import QWEN2


def turning(config: Any) -> list[int | None]:
    """None for the layers that turn nothing."""
    return [0 if turns else None for turns in config.no_rope_layers[: config.num_hidden_layers]]


SMOLLM3 = replace(QWEN2, family="smollm3", model_types=("smollm3",), rotary_kinds=turning)
