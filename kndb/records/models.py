"""Models, their neurons, and what they answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import UsageError
from .display import Record, quoted

LAB_MODELS = ("lab-bert", "lab-gpt2")
"""The models that kndb ships; they can be named without being registered."""


UNKNOWN = "unknown"
"""Family and version of a model of which only results were imported."""


StoredSettings = Mapping[str, object]
"""Settings that are stored as JSON with a result."""


@dataclass(frozen=True, order=True)
class Neuron(Record):
    """An FFN neuron: entry `index` of the vector that enters the down projection of layer `layer`."""

    layer: int
    index: int

    def __str__(self) -> str:
        return f"L{self.layer}.N{self.index}"

    @classmethod
    def parse(cls, text: str) -> Neuron:
        """Reads the text form, for example `L9.N2827`, in upper or lower case.

        Raises:
            UsageError: if the text has another form; if two numbers can be read in it, the message says the right one.
        """
        match = re.fullmatch(r"[Ll](\d+)\.[Nn](\d+)", text.strip())
        if match is not None:
            return cls(int(match[1]), int(match[2]))
        parts = re.findall(r"\d+", text)
        meant = f"; did you mean {cls(int(parts[0]), int(parts[1]))}?" if len(parts) == 2 else ""
        raise UsageError(f"{text!r} is not a neuron's name; write L9.N2827 (layer and neuron, both from 0){meant}")

    def _line(self) -> str:
        return str(self)


@dataclass(frozen=True)
class Model(Record):
    """A registered checkpoint; or a model of which only results were imported: see `has_checkpoint`.

    Attributes:
        source: a folder or a hub name; empty without a checkpoint, as is the fingerprint.
        fingerprint: sha256 over weights, tokenizer and configuration, in hex.
        family: the adapter's name.
        layers: number of transformer layers.
        neurons: FFN neurons per layer.
        version: the current version's id.
        chat_template: the sha256, in hex, of the chat template that prompts are wrapped in; None if they are fed as
            they are.
    """

    id: int
    name: str
    source: str
    fingerprint: str
    family: str
    layers: int
    neurons: int
    version: str
    created_at: str = ""
    chat_template: str | None = None

    @property
    def has_checkpoint(self) -> bool:
        """Whether weights are registered, or only results were imported."""
        return bool(self.fingerprint)

    def _line(self) -> str:
        return f"{self.name}, {self.family}, {self.layers} layers of {self.neurons:,} neurons, version {self.version}"


@dataclass(frozen=True)
class Answer(Record):
    """One answer of the model to a question: a row of `kndb ask`.

    Attributes:
        token: the token's text, without the space that it may begin with.
        probability: 0 to 1; the sum over `spellings`, if they were summed up.
        text: the token's text, exactly; the most probable one of `spellings`.
        id: its number in the vocabulary.
        spellings: how many tokens were summed up.
    """

    token: str
    probability: float
    text: str = ""
    id: int = -1
    spellings: int = 1

    def _line(self) -> str:
        return f"{quoted(self.text or self.token)}, {self.probability:.4g}"


@dataclass(frozen=True)
class FedToken(Record):
    """One token of what a model is fed for a prompt, or of the answer that it is asked for.

    Attributes:
        part: `text`, what a causal or masked model is fed; `encoder` and `decoder`, of an encoder–decoder; `answer`.
        position: its place in that part, from 0; of the answer's tokens, the place at whose output they are read.
        id: its number in the vocabulary.
        token: how the vocabulary writes it.
        text: its text, exactly, with the space that it may begin with.
        kind: `added` by the tokenizer; `chat`, of the chat template; `special`, of the text's own words; `blank`;
            `text`; `answer`.
        reads: the answer's token, from 1, that is read at the output of this position; None elsewhere.
    """

    part: str
    position: int
    id: int
    token: str
    text: str
    kind: str
    reads: int | None = None

    def _line(self) -> str:
        reads = "" if self.reads is None else f", reads token {self.reads} of the answer"
        return f"{self.part} {self.position}, {self.id}, {quoted(self.text)}, {self.kind}{reads}"


@dataclass(frozen=True)
class TokenEffect(Record):
    """What a value slot does to a token through the model's head: head(slot) − head(0), in logits."""

    token: str
    effect: float

    def _line(self) -> str:
        return f"{quoted(self.token)}, {self.effect:+.4g}"


@dataclass(frozen=True)
class ActivatingPrompt(Record):
    """A prompt and what it makes of a neuron.

    Attributes:
        text: the prompt, its blank as `[Y]`.
        activation: the neuron's, at the answer position.
        holds: whether the prompt's fact holds the neuron in the refinement that was asked.
    """

    text: str
    activation: float
    fact: int
    relation: str
    subject: str | None
    object: str
    holds: bool

    def _line(self) -> str:
        return f"{quoted(self.text)}, {self.activation:.4g}"
