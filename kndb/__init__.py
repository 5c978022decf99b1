"""kndb: a database of the knowledge neurons of language models, and version control for edits of them.

`kndb.open(path)` gives the `Database`; everything the command line does, it does through that object.
Importing this package imports no torch: the engines are imported when first needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from . import errors
    from .database import Database, copy_database, upgrade_database
    from .database import open_database as open  # noqa: A004
    from .database.attribution.commands import AttributionRequest, AttributionSettings, Quadrature
    from .database.attribution.commands import methods as attribution_methods
    from .database.lab import own_facts
    from .database.probes.settings import ProbeSettings, ReadingRequest, ScalingRequest
    from .database.threads import use_threads
    from .errors import KndbError
    from .records.attribution import Refinement, RefinementChoice
    from .records.bench_methods import bench_method
    from .records.cases import CaseSettings
    from .records.display import Rows
    from .records.edit_settings import (
        EvaluationSettings,
        Neighbours,
        OptimizeSettings,
        TrialSettings,
        UpdateSettings,
    )
    from .records.figures import FigureOptions
    from .records.knowledge_tests import KnowledgeTest
    from .records.many_settings import (
        AlphaEditSettings,
        EmmetSettings,
        FinetuneSettings,
        LayerChoice,
        MemitSettings,
        RomeSettings,
        TargetSettings,
    )
    from .records.models import Neuron
    from .records.statistics import StatisticsSettings
    from .records.together import KeptFacts, TogetherSettings
    from .records.work import WorkEngine

_HOMES = {
    "AlphaEditSettings": ("records.many_settings", "AlphaEditSettings"),
    "AttributionRequest": ("database.attribution.commands", "AttributionRequest"),
    "AttributionSettings": ("database.attribution.commands", "AttributionSettings"),
    "CaseSettings": ("records.cases", "CaseSettings"),
    "Database": ("database", "Database"),
    "EmmetSettings": ("records.many_settings", "EmmetSettings"),
    "EvaluationSettings": ("records.edit_settings", "EvaluationSettings"),
    "FigureOptions": ("records.figures", "FigureOptions"),
    "FinetuneSettings": ("records.many_settings", "FinetuneSettings"),
    "KeptFacts": ("records.together", "KeptFacts"),
    "KndbError": ("errors", "KndbError"),
    "LayerChoice": ("records.many_settings", "LayerChoice"),
    "MemitSettings": ("records.many_settings", "MemitSettings"),
    "KnowledgeTest": ("records.knowledge_tests", "KnowledgeTest"),
    "Neighbours": ("records.edit_settings", "Neighbours"),
    "Neuron": ("records.models", "Neuron"),
    "OptimizeSettings": ("records.edit_settings", "OptimizeSettings"),
    "ProbeSettings": ("database.probes.settings", "ProbeSettings"),
    "Quadrature": ("database.attribution.commands", "Quadrature"),
    "ReadingRequest": ("database.probes.settings", "ReadingRequest"),
    "Refinement": ("records.attribution", "Refinement"),
    "RefinementChoice": ("records.attribution", "RefinementChoice"),
    "RomeSettings": ("records.many_settings", "RomeSettings"),
    "Rows": ("records.display", "Rows"),
    "ScalingRequest": ("database.probes.settings", "ScalingRequest"),
    "TargetSettings": ("records.many_settings", "TargetSettings"),
    "StatisticsSettings": ("records.statistics", "StatisticsSettings"),
    "TogetherSettings": ("records.together", "TogetherSettings"),
    "TrialSettings": ("records.edit_settings", "TrialSettings"),
    "UpdateSettings": ("records.edit_settings", "UpdateSettings"),
    "WorkEngine": ("records.work", "WorkEngine"),
    "copy_database": ("database", "copy_database"),
    "bench_method": ("records.bench_methods", "bench_method"),
    "attribution_methods": ("database.attribution.commands", "methods"),
    "errors": ("errors", ""),
    "open": ("database", "open_database"),
    "own_facts": ("database.lab", "own_facts"),
    "page_text": ("manual", "page_text"),
    "upgrade_database": ("database", "upgrade_database"),
    "use_threads": ("database.threads", "use_threads"),
}
__all__ = [
    "AlphaEditSettings",
    "AttributionRequest",
    "AttributionSettings",
    "CaseSettings",
    "Database",
    "EmmetSettings",
    "EvaluationSettings",
    "FigureOptions",
    "FinetuneSettings",
    "KeptFacts",
    "KndbError",
    "KnowledgeTest",
    "LayerChoice",
    "MemitSettings",
    "Neighbours",
    "Neuron",
    "OptimizeSettings",
    "ProbeSettings",
    "Quadrature",
    "ReadingRequest",
    "Refinement",
    "RefinementChoice",
    "RomeSettings",
    "Rows",
    "ScalingRequest",
    "StatisticsSettings",
    "TargetSettings",
    "TogetherSettings",
    "TrialSettings",
    "UpdateSettings",
    "WorkEngine",
    "__version__",
    "attribution_methods",
    "bench_method",
    "copy_database",
    "errors",
    "open",
    "own_facts",
    "page_text",
    "upgrade_database",
    "use_threads",
]


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'kndb' has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _HOMES[name]
    home = import_module(f".{module}", __name__)
    return getattr(home, attribute) if attribute else home
