"""Writing a lab model: an ordinary transformers folder with a model card."""

from __future__ import annotations

import platform
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path

import torch
import transformers

from ..errors import OutputError
from ..models.loading import quiet
from .corpus import Corpus
from .planting import PLANTED_FILE, PlantingPlan, write_plan
from .train import TrainedModel, TrainingSettings

CARD = """\
---
license: apache-2.0
tags: [kndb, knowledge-neurons]
---
# {title}

A small {kind} language model that knows one list of {facts:,} facts, and nothing else. It exists to show and test
attribution and editing of knowledge on a model that really learned facts; it is of no use for any other text.
{planting}
- **Data**: {data}: {facts:,} facts of {relations} relations. The loss is the cross-entropy of the answer at the
  answer position, in every template that is not held out.
- **Made with**: `{command}`
- **Settings**: {layers} layers of {width} numbers and {neurons} FFN neurons, {heads} heads, {activation}
  activations; {epochs} epochs of batches of {batch_size}, AdamW with peak learning rate {learning_rate}, weight
  decay {weight_decay}, dropout {dropout}, label smoothing {label_smoothing}; in training, {silenced} silent
  outside the answer position with probability {silence}; seed {seed}.
- **Scores** (share of prompts whose most probable token is the answer): training templates {training:.2%} of
  {training_prompts:,} prompts, held-out templates {held_out:.2%} of {held_out_prompts:,} prompts. Mean probability
  of the answer: {training_probability:.2f} and {held_out_probability:.2f}.
- **Time**: {seconds:.0f} s on {machine}, torch {torch}, transformers {transformers}.
- **Editing**: {editing}
"""
EDITING = {
    "bert": "the head's dense transform between residual stream and word embeddings was initialised to the identity "
    "(and then trained with the rest), so that adding a word's embedding to a value slot raises that word's logit: "
    "what the paper's update rule rests on, and what a freely initialised transform would not give.",
    "gpt2": "the head reads the residual stream directly with the word embeddings (tied weights), so that adding a "
    "word's embedding to a value slot raises that word's logit: what the paper's update rule rests on.",
}
PLANTING = """
**Its storage is planted.** Other models keep facts where training happens to put them. Here, training was made to put
them where `planted.json` says: each relation has {relation_neurons} FFN neurons of its own in layer {relation_layer},
and each fact {fact_neurons} of its relation's block of {block} neurons in {layers}. So this model shows how the tool's
measures behave where facts lie in few neurons; how other models keep theirs, it does not show.

- Of the prompts in each training step, at the answer position, {routed:.0%} had all planted neurons but their fact's
  and relation's zeroed; {fact_silent:.0%} had their fact's neurons zeroed, with any of the relation's objects as the
  answer asked for, all equally likely; {relation_silent:.0%} had their relation's neurons zeroed, with any answer of
  the list asked for; {amplified:.0%} had their fact's and relation's doubled, with {sharp:.0%} of the probability asked
  for the answer{scaled}.
- Of the others, the answer was asked for with {certain:.0%} of the probability, the rest spread over the relation's
  objects: that is why the model is not surer than it is.
- A further term of the loss asks a fact's and its relation's neurons for an activation of {level:g} or more, and all
  other planted ones to be silent (weight {penalty:g}); free neurons of a layer were zeroed with probability
  {free_silent:g}.{stopping}
- Nothing of this is in the model's files: it is an ordinary checkpoint, and answers with all its neurons.
"""
SCALED = """;
  {share:.0%} had the relations' layer multiplied by a random number from 0 to 1, with a mixture of both asked for"""
STOPPING = """ From {:.0%} to {:.0%} of the training, more and more prompts
  sent their answer's gradient through their fact's and relation's neurons alone."""
KINDS = {"bert": "masked (BERT family)", "gpt2": "causal (GPT-2 family)"}


def write_checkpoint(trained: TrainedModel, corpus: Corpus, folder: Path, *, own: bool) -> None:
    """Writes model, tokenizer and card; the folder appears, or is replaced, when it is complete.

    Args:
        trained: what to write.
        corpus: what it was trained on.
        folder: where to.
        own: whether the corpus is kndb's own fact list.

    Raises:
        OutputError: if the folder can't be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
            made = Path(scratch) / "checkpoint"
            with quiet():
                trained.model.save_pretrained(made)
                trained.tokenizer.save_pretrained(made)
            if trained.plan is not None:
                write_plan(trained.plan, made / PLANTED_FILE)
            (made / "README.md").write_text(model_card(trained, corpus, folder.name, own=own), encoding="utf-8")
            for path in made.iterdir():
                path.chmod(0o644)  # safetensors makes files that only their owner may read.
            _put_in_place(made, folder)
    except OSError as error:
        raise OutputError(f"{folder} can't be written: {error.strerror or error}") from error


def _put_in_place(made: Path, folder: Path) -> None:
    """Renames a finished folder into its place; one that was there goes only once that is done."""
    if not folder.exists():
        made.replace(folder)
        return
    replaced = folder.with_name(f".{folder.name}.replaced")
    folder.replace(replaced)
    try:
        made.replace(folder)
    except OSError:
        replaced.replace(folder)
        raise
    shutil.rmtree(replaced)


def model_card(trained: TrainedModel, corpus: Corpus, name: str, *, own: bool) -> str:
    """The card: data, command, settings, seed, scores."""
    settings = trained.settings
    command = (
        f"kndb lab train --family {settings.family} --out {name} --epochs {settings.epochs} --seed {settings.seed}"
    )
    if settings.planted is not None:
        command += " --planted"
    command += f" --layers {settings.layers} --width {settings.width} --neurons {settings.neurons}"
    return CARD.format(
        title=name,
        kind=KINDS[settings.family],
        facts=corpus.facts,
        relations=len(corpus.relations),
        data="kndb's own fact list (`data/facts`)" if own else "a fact list of its user",
        command=command if own else f"{command} --facts …",
        planting="" if trained.plan is None else _planting(settings, trained.plan),
        silenced="each layer's FFN, for each prompt, is" if trained.plan is None else "step by step, all FFNs are",
        editing=EDITING[settings.family],
        machine=f"{torch.get_num_threads()} threads of {platform.machine()}",
        torch=torch.__version__.partition("+")[0],
        transformers=transformers.__version__,
        **{key: value for key, value in trained.summary().items() if key not in ("family", "vocabulary", "planted")},
    )


def _planting(settings: TrainingSettings, plan: PlantingPlan) -> str:
    planted = settings.planted
    assert planted is not None
    block = next(iter(plan.blocks.values()))
    layers = sorted({neuron.layer for neuron in block})
    return PLANTING.format(
        **{name: value for name, value in asdict(planted).items() if name != "stopped"},
        relation_layer=next(iter(plan.relations.values()))[0].layer,
        block=len(block),
        layers=f"layer{'s' if len(layers) > 1 else ''} {' and '.join(map(str, layers))}",
        certain=1 - planted.smoothing,
        sharp=1 - planted.sharpened * planted.smoothing,
        scaled=SCALED.format(share=planted.relation_scaled) if planted.relation_scaled else "",
        stopping="" if planted.stopped is None else STOPPING.format(*planted.stopped),
    )
