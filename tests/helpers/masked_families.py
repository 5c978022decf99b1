"""Tiny random masked and encoder–decoder models, tokenizers of the kinds that go with them, and their checkpoints.

Nothing here uses kndb. Biases and norms are random, and no two sizes are alike, so that no part can be forgotten or
taken for another.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from tiny_models import POSITIONS, VOCABULARY
from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers, processors, trainers
from tokenizers import models as tokenizer_models
from transformers import AutoConfig, AutoModelForMaskedLM, AutoModelForSeq2SeqLM, PreTrainedTokenizerFast

WIDTH = 24
NEURONS = 40
SENTINEL = "<extra_id_0>"


@dataclass(frozen=True)
class Variant:
    """One kind of model to test.

    Attributes:
        model_type: of its configuration.
        settings: of its configuration, beside the vocabulary's size.
        layers: the number of its layers.
        tokenizer: the kind of tokenizer that goes with it, a key of `TOKENIZERS`.
        embedding: the width of its word embeddings.
    """

    model_type: str
    settings: dict[str, Any] = field(default_factory=dict)
    layers: int = 3
    tokenizer: str = "word-piece"
    embedding: int = WIDTH


BERT_LIKE = {
    "hidden_size": WIDTH,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": NEURONS,
    "max_position_embeddings": POSITIONS,
    "initializer_range": 0.2,
}
DISTILBERT = {
    "dim": WIDTH,
    "n_layers": 3,
    "n_heads": 4,
    "hidden_dim": NEURONS,
    "max_position_embeddings": POSITIONS,
    "initializer_range": 0.2,
}
T5 = {
    "d_model": WIDTH,
    "d_kv": 5,
    "d_ff": NEURONS,
    "num_layers": 2,
    "num_decoder_layers": 3,
    "num_heads": 4,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 12,
    "decoder_start_token_id": 0,
}
MODERNBERT = {
    "local_attention": 24,
    "global_attn_every_n_layers": 2,
    "rope_parameters": {
        "sliding_attention": {"rope_type": "default", "rope_theta": 50.0},
        "full_attention": {"rope_type": "default", "rope_theta": 200.0},
    },
}
DISTANCES = {"relative_attention": True, "pos_att_type": "p2c|c2p"}
SPECIAL_TOKENS = {"pad_token_id": 0, "cls_token_id": 2, "bos_token_id": 2, "sep_token_id": 3, "eos_token_id": 3}

VARIANTS = {
    "roberta": Variant("roberta", {**BERT_LIKE, "type_vocab_size": 1}, tokenizer="byte-level"),
    "xlm-roberta": Variant("xlm-roberta", {**BERT_LIKE, "pad_token_id": 4}, tokenizer="metaspace"),
    "distilbert": Variant("distilbert", DISTILBERT),
    "distilbert-sinusoidal": Variant("distilbert", {**DISTILBERT, "sinusoidal_pos_embds": True, "activation": "relu"}),
    "albert": Variant("albert", {**BERT_LIKE, "embedding_size": 10}, tokenizer="metaspace", embedding=10),
    "albert-groups": Variant(
        "albert",
        {**BERT_LIKE, "embedding_size": 10, "num_hidden_groups": 2, "inner_group_num": 2},
        layers=6,
        tokenizer="metaspace",
        embedding=10,
    ),
    "electra": Variant("electra", {**BERT_LIKE, "embedding_size": 10, "hidden_act": "gelu_new"}, embedding=10),
    "electra-wide": Variant("electra", {**BERT_LIKE, "embedding_size": WIDTH}),
    "modernbert": Variant("modernbert", {**BERT_LIKE, **MODERNBERT, **SPECIAL_TOKENS}),
    "modernbert-biases": Variant(
        "modernbert",
        {
            **BERT_LIKE,
            **MODERNBERT,
            **SPECIAL_TOKENS,
            **dict.fromkeys(("norm_bias", "attention_bias", "mlp_bias", "classifier_bias"), True),
            "layer_types": ["full_attention"] * 3,
            "tie_word_embeddings": False,
        },
    ),
    "deberta-v2": Variant(
        "deberta-v2",
        {**BERT_LIKE, **DISTANCES, "pos_att_type": "c2p", "embedding_size": 10, "type_vocab_size": 2, "legacy": True},
        embedding=10,
    ),
    "deberta-v2-buckets": Variant(
        "deberta-v2",
        {
            **BERT_LIKE,
            **DISTANCES,
            "position_buckets": 8,
            "share_att_key": True,
            "norm_rel_ebd": "layer_norm",
            "position_biased_input": False,
            "legacy": False,
        },
    ),
    "deberta-v2-queries": Variant(
        "deberta-v2", {**BERT_LIKE, **DISTANCES, "max_relative_positions": 5, "legacy": False}
    ),
    "t5": Variant("t5", {**T5, "feed_forward_proj": "gelu"}, tokenizer="sentinels"),
    "t5-relu": Variant("t5", T5, tokenizer="sentinels"),
    "t5-gated": Variant(
        "t5",
        {**T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
        tokenizer="sentinels",
    ),
}
"""By name: a model type, or a model type and what is special, joined by a dash."""


def masked_config(name: str, **settings: Any) -> Any:
    """The configuration of a variant, with some settings changed."""
    variant = VARIANTS[name]
    return AutoConfig.for_model(variant.model_type, **{"vocab_size": VOCABULARY, **variant.settings, **settings})


def masked_model(name: str, seed: int = 0, **settings: Any) -> Any:
    """A random model of a variant, in evaluation mode."""
    torch.manual_seed(seed)
    kind = AutoModelForSeq2SeqLM if VARIANTS[name].model_type == "t5" else AutoModelForMaskedLM
    model = kind.from_config(masked_config(name, **settings))
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter += 0.1 * torch.randn_like(parameter)
            elif "DenseReluDense" in key:
                parameter *= 2  # T5 begins with neurons that hardly matter,
        if not getattr(model.config, "scale_decoder_outputs", True):
            model.shared.weight *= 0.3  # and with a head that is far too sure where it is not scaled.
    return model.eval()


# --- tokenizers ----------------------------------------------------------------------------------------------

WORDS = ["Paris", "Rome", "Oslo", "is", "the", "The", "capital", "of", "France", "Italy", "in", "a", "new", "city"]
MARKS = [".", ",", "(", ")", "!"]
SENTENCES = ["The capital of France is Paris.", "The capital of Italy is Rome.", "Paris is in France"] * 20


def word_piece() -> Any:
    """WordPiece over a few words, as BERT has it."""
    pieces = ["Par", "##is", "S", "##o", "##f", "##ia"]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *MARKS, *pieces]
    tokenizer = Tokenizer(
        tokenizer_models.WordPiece({word: index for index, word in enumerate(vocabulary)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = _template("[CLS]", "[SEP]", tokenizer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def byte_level(mask: AddedToken | None = None) -> Any:
    """A byte-level BPE trained here; its mask takes the space on its left, as RoBERTa's, unless another is given."""
    tokenizer = Tokenizer(tokenizer_models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=340,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.post_processor = _template("<s>", "</s>", tokenizer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        mask_token=mask or AddedToken("<mask>", lstrip=True, special=True),
    )


def metaspace(mask: AddedToken | None = None) -> Any:
    """A unigram model over marked pieces, as XLM-RoBERTa and ALBERT have it; its mask takes the space on its left."""
    tokenizer = _unigram(["<s>", "</s>", "<unk>", "<mask>", "<pad>"])
    tokenizer.post_processor = _template("<s>", "</s>", tokenizer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        mask_token=mask or AddedToken("<mask>", lstrip=True, special=True),
    )


def sentinels(sentinel: AddedToken | None = None) -> Any:
    """The same model with T5's special tokens, two of them sentinels."""
    tokenizer = _unigram(["<pad>", "</s>", "<unk>"])
    tokenizer.post_processor = _template(None, "</s>", tokenizer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=[sentinel or SENTINEL, "<extra_id_1>"],
    )


TOKENIZERS = {"word-piece": word_piece, "byte-level": byte_level, "metaspace": metaspace, "sentinels": sentinels}
"""Each kind of tokenizer."""


def _unigram(special: list[str]) -> Tokenizer:
    """Words have a mark for the space before them, and cost less than their parts; marks cost less without it."""
    pieces = [
        *((token, 0.0) for token in special),
        *((f"▁{word}", -2.0) for word in WORDS),
        *((mark, -3.0) for mark in MARKS),
        *((f"▁{part}", -6.0) for part in ("Par", "S")),
        *((part, -6.0) for part in ("Paris", "is", "of", "ia")),
        ("▁", -5.0),
    ]
    tokenizer = Tokenizer(tokenizer_models.Unigram(pieces, unk_id=special.index("<unk>"), byte_fallback=False))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    return tokenizer


def _template(first: str | None, last: str, tokenizer: Tokenizer) -> Any:
    special = [token for token in (first, last) if token is not None]
    return processors.TemplateProcessing(
        single=" ".join([*([first] if first else []), "$A", last]),
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in special],
    )
