"""The families that kndb knows: one line each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..advice import call
from ..errors import UnsupportedModelError
from .adapter import Adapter
from .families.albert import ALBERT
from .families.bert import BERT
from .families.bloom import BLOOM
from .families.cohere import COHERE, COHERE2, COHERE_NORMED_HEADS
from .families.deberta import DEBERTA, DEBERTA_OWN_HEAD
from .families.distilbert import DISTILBERT
from .families.electra import ELECTRA
from .families.falcon import FALCONS
from .families.gemma import GEMMA, GEMMA2, GEMMA3
from .families.gpt2 import GPT2
from .families.gpt_neo import GPT_NEO
from .families.gpt_neox import GPT_NEOX, GPT_NEOX_SERIAL
from .families.gpt_oss import GPT_OSS
from .families.gptj import GPTJ
from .families.granite import GRANITE
from .families.llama import LLAMA, MISTRAL, QWEN2
from .families.mixtral import MIXTRAL, QWEN3_MOE
from .families.modernbert import MODERNBERT
from .families.olmo2 import OLMO2
from .families.opt import OPT
from .families.phi import PHI, PHI_NORMED_HEADS
from .families.phi3 import PHI3
from .families.qwen3 import QWEN3
from .families.roberta import ROBERTA
from .families.smollm3 import SMOLLM3
from .families.starcoder2 import STARCODER2
from .families.t5 import T5, T5_GATED

ADAPTERS: tuple[Adapter, ...] = (
    *(BERT, ROBERTA, DISTILBERT, ALBERT, ELECTRA, MODERNBERT, DEBERTA, DEBERTA_OWN_HEAD),
    *(GPT2, GPT_NEO, GPTJ, GPT_NEOX, GPT_NEOX_SERIAL, OPT, BLOOM, PHI, PHI_NORMED_HEADS),
    *(LLAMA, MISTRAL, QWEN2, QWEN3, GEMMA, GEMMA2, GEMMA3),
    *(PHI3, OLMO2, SMOLLM3, GRANITE, STARCODER2, COHERE, COHERE_NORMED_HEADS, COHERE2, *FALCONS),
    *(MIXTRAL, QWEN3_MOE, GPT_OSS),
    *(T5, T5_GATED),
)


def adapter_for(config: Any) -> Adapter:
    """The adapter of a transformers configuration.

    Raises:
        UnsupportedModelError: if no adapter names the configuration's `model_type`, or those that do are wrong for
            one of its settings.
    """
    require_known(config)
    model_type = config.model_type
    candidates = [adapter for adapter in ADAPTERS if model_type in adapter.model_types]
    for adapter in candidates:
        if all(_setting(config, name) == value for name, value in _required(adapter, config)):
            _refuse_unsupported_settings(adapter, config)
            return adapter
    wanted = " or ".join(
        ", ".join(f"{name}={value!r}" for name, value in _required(adapter, config)) for adapter in candidates
    )
    raise UnsupportedModelError(
        f"kndb has no adapter for a {model_type} configuration without {wanted}. How to add one: "
        f"{call('kndb.page_text', 'architectures')}"
    )


def require_known(config: Any) -> None:
    """Refuses a configuration whose `model_type` no adapter names.

    Raises:
        UnsupportedModelError: if none does.
    """
    model_type = getattr(config, "model_type", None)
    known = sorted({name for adapter in ADAPTERS for name in adapter.model_types})
    if model_type not in known:
        raise UnsupportedModelError(
            f"kndb has no adapter for the architecture {model_type!r}; it has adapters for: {', '.join(known)}. How to "
            f"add one: {call('kndb.page_text', 'architectures')}"
        )


def _required(adapter: Adapter, config: Any) -> list[tuple[str, object]]:
    return [(name, value(config) if callable(value) else value) for name, value in adapter.requires]


def _setting(config: Any, name: str) -> object:
    """A configuration's attribute, or an entry of one that is a mapping; None if there is none."""
    value = config
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else getattr(value, part, None)
    return value


def _refuse_unsupported_settings(adapter: Adapter, config: Any) -> None:
    for name, value in adapter.unsupported:
        if _setting(config, name) == value:
            raise UnsupportedModelError(
                f"the configuration has {name}={value!r}; kndb's adapter for {adapter.family} can't handle that"
            )
