"""Checkpoint folders of tiny random models, with tokenizers made on the spot."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_models import VOCABULARY, tiny_model
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors, trainers
from tokenizers import models as tokenizer_models
from transformers import PreTrainedTokenizerFast

WORDS = [
    *("Paris", "Rome", "Oslo", "is", "the", "capital", "of", "France", "Italy", "Norway", ".", "!", "?"),
    *("and", "a", "new", "city", "in", "Par", "##is", "S", "##o", "##f", "##ia"),
]
SENTENCES = ["The capital of France is Paris.", "The capital of Italy is Rome.", "Paris is in France"] * 20


@pytest.fixture(scope="session")
def word_tokenizer() -> Any:
    """WordPiece over a few words, as BERT has it."""
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    assert len(vocabulary) <= VOCABULARY
    tokenizer = Tokenizer(
        tokenizer_models.WordPiece({word: index for index, word in enumerate(vocabulary)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


@pytest.fixture(scope="session")
def byte_tokenizer() -> Any:
    """A byte-level BPE trained here, as GPT-2 has it."""
    tokenizer = Tokenizer(tokenizer_models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=340,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|endoftext|>", eos_token="<|endoftext|>", unk_token="<|endoftext|>"
    )


@pytest.fixture(scope="session")
def saved(tmp_path_factory, word_tokenizer, byte_tokenizer) -> dict[str, Path]:
    """For each family a checkpoint folder, never to be written to."""
    folders = {}
    for family, tokenizer in (("bert", word_tokenizer), ("gpt2", byte_tokenizer)):
        folders[family] = tmp_path_factory.mktemp("saved") / family
        tiny_model(family).save_pretrained(folders[family])
        tokenizer.save_pretrained(folders[family])
    return folders


@pytest.fixture
def checkpoint(tmp_path, saved) -> Callable[[str], Path]:
    """Makes a copy of a family's checkpoint folder that a test may spoil."""

    def copy(family: str) -> Path:
        folder = tmp_path / f"copy-{len(list(tmp_path.iterdir()))}-{family}"
        shutil.copytree(saved[family], folder)
        return folder

    return copy


@pytest.fixture
def configure() -> Callable[..., None]:
    """Changes values of a checkpoint's config.json."""

    def change(folder: Path, **values: object) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return change
