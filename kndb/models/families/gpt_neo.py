"""GPT-Neo: a pre-norm decoder with learned positions; unlike GPT-2, with Linear modules and unscaled attention."""

from __future__ import annotations

from ..adapter import Adapter, Attention, Blank, FeedForward, Norms, limited_by_window
from .gpt2 import embed

GPT_NEO = Adapter(
    family="gpt_neo",
    model_types=("gpt_neo",),
    auto_class="AutoModelForCausalLM",
    blank=Blank.CUT,
    body="transformer",
    layers="transformer.h",
    embed=embed,
    attention=Attention(
        ("attn.attention.q_proj", "attn.attention.k_proj", "attn.attention.v_proj"),
        "attn.attention.out_proj",
        scaling=1.0,
    ),
    ffn=FeedForward("mlp.c_fc", "mlp.act", "mlp.c_proj"),
    norms=Norms(attention_input="ln_1", ffn_input="ln_2"),
    final_norm="transformer.ln_f",
    head=("lm_head",),
    max_tokens=limited_by_window("window_size", kinds="attention_layers", windowed="local"),
)
