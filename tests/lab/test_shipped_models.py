"""The lab models that kndb ships know kndb's own facts."""

from __future__ import annotations

import re
from collections import defaultdict

import pytest
import torch

from kndb.errors import ModelError
from kndb.lab.planting import PLANTED_FILE
from kndb.models.loading import lab_folder, load
from kndb.models.prompting import EncodedPrompt

LARGEST_FOLDER = 10_000_000


@pytest.fixture(params=["lab-bert", "lab-gpt2"])
def folder(request):
    try:
        return lab_folder(request.param)
    except ModelError as error:
        pytest.skip(str(error))


@torch.no_grad()
def measured(model, prompts) -> tuple[float, float]:
    """The share of answers that come first and their mean probability, by the whole model on batches of one length."""
    by_length = defaultdict(list)
    for prompt in prompts:
        by_length[len(prompt.ids)].append(prompt)
    right, probability = 0, 0.0
    for alike in by_length.values():
        for start in range(0, len(alike), 64):
            batch = alike[start : start + 64]
            logits = model(input_ids=torch.tensor([prompt.ids for prompt in batch])).logits
            rows = logits[range(len(batch)), [prompt.position for prompt in batch]]
            answers = [prompt.answer for prompt in batch]
            right += sum(token == answer for token, answer in zip(rows.argmax(-1).tolist(), answers, strict=True))
            probability += float(rows.softmax(-1)[range(len(batch)), answers].sum())
    return right / len(prompts), probability / len(prompts)


@pytest.mark.slow
def test_scores(folder, own_corpus):
    loaded = load(folder)
    examples = own_corpus.usable(loaded.adapter.blank)
    found = {}
    for held_out, every in ((False, 5), (True, 1)):
        chosen = [example for example in examples if example.held_out == held_out][::every]
        prompts = [loaded.encoder.encode(0, example.text, example.answer) for example in chosen]
        assert all(isinstance(prompt, EncodedPrompt) for prompt in prompts)
        assert len(prompts) > 1000
        found[held_out], probability = measured(loaded.model, prompts)
        if (folder / PLANTED_FILE).is_file():
            assert 0.6 <= probability <= 0.9
    assert found[False] >= 0.95
    assert found[True] >= 0.90
    card = (folder / "README.md").read_text(encoding="utf-8")
    stated = re.search(r"training templates ([\d.]+)% .*held-out templates ([\d.]+)% ", card, re.DOTALL)
    assert stated
    assert float(stated[1]) / 100 == pytest.approx(found[False], abs=0.01)  # every fifth prompt
    assert float(stated[2]) / 100 == pytest.approx(found[True], abs=0.002)


def test_size(folder):
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= LARGEST_FOLDER


def test_the_card_says_how_it_was_made(folder):
    card = (folder / "README.md").read_text(encoding="utf-8")
    family = folder.name.removeprefix("lab-")
    assert f"kndb lab train --family {family}" in card
    assert "license: apache-2.0" in card
