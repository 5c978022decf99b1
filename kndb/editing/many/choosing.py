"""Choosing settings by trying them: plans of some facts, made in memory and taken back, and what each of them does.

Which layers and which token hold facts depends on the model; nothing about it is published for masked models. So
candidates are tried on a share of the facts, asked by prompts that no plan sees, beside other facts' prompts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from ...errors import EditError
from ...models.network import Network
from ...records.many_settings import FinetuneSettings, ManySettings, Token
from ...records.progress import Progress
from .covariance import Covariance
from .finetune import finetune
from .layerwise import change_layers
from .passes import Passes
from .sentences import Rewrite, Sentence
from .workspace import Workspace


@dataclass(frozen=True)
class Tried:
    """What one candidate did.

    Attributes:
        settings: the candidate.
        success: share of the asked sentences to which the new answer's tokens are the most probable ones.
        kept: share of the other sentences whose most probable tokens stayed.
        failed: why there was no plan, in the words of its error; then both are 0.
    """

    settings: ManySettings
    success: float
    kept: float
    failed: str | None = None

    @property
    def score(self) -> float:
        """The harmonic mean of both; 0 if one is."""
        return 2 * self.success * self.kept / (self.success + self.kept) if self.success and self.kept else 0.0


def try_settings(
    network: Network,
    candidates: Sequence[ManySettings],
    rewrites: Mapping[Token, Sequence[Rewrite]],
    asked: Sequence[Sentence],
    others: Sequence[Sentence],
    covariances: Mapping[int, Covariance],
    progress: Progress | None = None,
) -> list[Tried]:
    """Tries settings, each on the model as it is.

    Args:
        network: the model, in the dtype in which it is stored; it is as it was when this returns.
        candidates: with layers and, but for FT-M, a token; at least one.
        rewrites: what is wanted of some facts, for each token that a candidate has; FT-M takes those of `answer`.
        asked: sentences of these facts with their new answers, at least one, that are not among the rewrites'.
        others: sentences of other facts, at least one; their answers' tokens don't matter.
        covariances: of the keys of each layer that a candidate has.
        progress: told how many candidates were tried.

    Returns:
        Best first; of equal scores, in the order of the candidates.

    Raises:
        EditError: if a candidate has no layers or token, or none can be planned; then it is the last one's error.
    """
    found = []
    with Workspace(network) as untouched:
        before = most_probable(untouched.network, others)
    error: EditError | None = None
    for number, settings in enumerate(candidates, start=1):
        if settings.layers is None or (not isinstance(settings, FinetuneSettings) and settings.token is None):
            raise EditError("a candidate needs layers and a token")
        try:
            with Workspace(network) as workspace:
                _change(workspace, settings, rewrites, covariances)
                new, after = (most_probable(workspace.network, some) for some in (asked, others))
        except EditError as raised:
            error = raised
            found.append(Tried(settings, 0.0, 0.0, str(raised)))
        else:
            won = [tokens == sentence.answers for tokens, sentence in zip(new, asked, strict=True)]
            same = [one == other for one, other in zip(before, after, strict=True)]
            found.append(Tried(settings, sum(won) / len(won), sum(same) / len(same)))
        if progress is not None:
            progress(number, len(candidates))
    if error is not None and all(one.failed for one in found):
        raise error
    return sorted(found, key=lambda one: -one.score)


def _change(
    workspace: Workspace,
    settings: ManySettings,
    rewrites: Mapping[Token, Sequence[Rewrite]],
    covariances: Mapping[int, Covariance],
) -> None:
    layers = settings.layers or ()
    if isinstance(settings, FinetuneSettings):
        finetune(workspace, rewrites["answer"], layers[0], settings)
    else:
        assert settings.token is not None
        change_layers(workspace, rewrites[settings.token], layers, settings, covariances)


@torch.no_grad()
def most_probable(network: Network, sentences: Sequence[Sentence]) -> list[tuple[int, ...]]:
    """The most probable token at each of the sentences' places where answers are read."""
    found: list[tuple[int, ...]] = [()] * len(sentences)
    last = len(network.layers) - 1
    for rows in Passes(network, sentences).run(last):
        if rows.layer != last:
            continue
        hidden = network.layers[last].finish(rows.residual, rows.written)
        for number, first in rows.packing.row.items():
            reads = [first + at for at in sentences[number].reads]
            found[number] = tuple(network.logits(hidden[reads]).argmax(-1).tolist())
    return found
