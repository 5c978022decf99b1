"""Use cases of lab models: train one on a fact list, and write it with its card."""

from __future__ import annotations

import importlib.resources
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..advice import option
from ..errors import UsageError
from ..lab.card import write_checkpoint
from ..lab.corpus import build_corpus
from ..lab.train import TrainingSettings, planted_settings, train
from ..records.progress import Progress
from .facts import read_files


def own_facts() -> Path:
    """The folder of kndb's own fact list."""
    return Path(str(importlib.resources.files("kndb.data"))) / "facts"


def train_lab_model(
    family: str,
    out: Path,
    facts: Sequence[str | Path] = (),
    *,
    epochs: int | None = None,
    layers: int = 4,
    width: int = 128,
    neurons: int = 512,
    planted: bool = False,
    seed: int = 0,
    force: bool = False,
    progress: Progress | None = None,
) -> dict[str, object]:
    """Trains a lab model and writes it as a checkpoint folder with a model card.

    Args:
        family: `bert` or `gpt2`.
        out: the folder to write; it appears when it is complete.
        facts: fact lists in any format; none takes kndb's own.
        epochs: passes over the training prompts; None takes 16, or as many as planting needs.
        layers: transformer layers.
        width: hidden size.
        neurons: FFN neurons per layer.
        planted: give each relation and each fact neurons of its own, and write which they are beside the weights.
        seed: for everything random.
        force: replace a checkpoint that is there.
        progress: told of each step.

    Returns:
        Settings and scores.

    Raises:
        InputError: if a fact list can't be read.
        UsageError: if a setting makes no sense, or `out` is there already.
    """
    _require_free(out, force)
    plain = TrainingSettings(family=family, layers=layers, width=width, neurons=neurons, heads=_heads(width), seed=seed)
    settings = planted_settings(plain) if planted else plain
    if epochs is not None:
        settings = replace(settings, epochs=epochs)
    corpus = build_corpus(read_files(facts or [own_facts()]))

    def report(step: int, steps: int, _loss: float) -> None:
        if progress is not None:
            progress(step, steps)

    trained = train(corpus, settings, report)
    write_checkpoint(trained, corpus, out, own=not facts)
    return trained.summary()


def _require_free(out: Path, force: bool) -> None:
    """Lets nothing be replaced but a checkpoint, and that only if it is asked for."""
    if not out.exists():
        return
    if not force:
        raise UsageError(
            f"{out} exists already; replace it with {option('force', True)}, or choose another {option('out')}"
        )
    if not (out / "config.json").is_file():
        raise UsageError(
            f"there is no checkpoint in {out}; {option('force')} replaces a checkpoint folder only. Choose another "
            f"{option('out')}"
        )


def _heads(width: int) -> int:
    """Heads of about 32 numbers each."""
    return max(heads for heads in range(1, max(1, width // 32) + 1) if width % heads == 0)
