"""The project's own facts, and a fact list that a tiny model learns in seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from kndb import facts
from kndb.lab.corpus import Corpus, build_corpus
from kndb.lab.train import TrainingSettings
from kndb.records.facts import FactFile, FactRecord, TemplateRecord

PEOPLE = ("Ana", "Ben", "Cem", "Dan", "Eva", "Fay", "Gus", "Hal")
CITIES = ("Rome", "Oslo", "Lima", "Cairo", "Paris", "Quito", "Seoul", "Delhi")


@pytest.fixture(scope="session")
def tiny_list() -> FactFile:
    """Eight facts of one relation with three templates to learn from and one held out."""
    templates = [("[X] lives in [Y].", False), ("The city of [X] is [Y].", False), ("[X] moved to [Y].", False)]
    return FactFile(
        source="tiny",
        relations={"P1": "city"},
        templates=tuple(TemplateRecord("P1", text, held) for text, held in [*templates, ("[X] stays in [Y].", True)]),
        facts=tuple(FactRecord("P1", person, city) for person, city in zip(PEOPLE, CITIES, strict=True)),
    )


@pytest.fixture(scope="session")
def tiny_corpus(tiny_list) -> Corpus:
    return build_corpus([tiny_list])


@pytest.fixture(scope="session")
def own_facts_folder() -> Path:
    """The folder of kndb's own facts."""
    return Path(__file__).parents[2] / "data" / "facts"


@pytest.fixture(scope="session")
def own_corpus(own_facts_folder) -> Corpus:
    """All of kndb's own facts."""
    return build_corpus(facts.read(own_facts_folder))


@pytest.fixture(scope="session")
def tiny_settings():
    """Settings of a model that learns the tiny list."""

    def make(family: str, epochs: int = 3, seed: int = 0) -> TrainingSettings:
        return TrainingSettings(
            family=family, layers=2, width=32, neurons=64, heads=2, vocabulary=400, epochs=epochs, seed=seed
        )

    return make
