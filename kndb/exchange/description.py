"""The description beside an exported file: `neurons.csv.meta.json` says what `neurons.csv` is and how it was made."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from ..advice import call, option
from ..errors import InputError
from ..files import sha256
from ..records.attribution import Refinement, RelationRefinement, Run
from ..records.json_text import read_json
from ..records.models import Model, StoredSettings

SUFFIX = ".meta.json"
MOST_BYTES = 16 * 1024 * 1024
"""No description is longer."""
FORMAT = 1
"""Of the description and of the columns that go with it; raised when an older kndb would misread a file."""
FOR_SPREADSHEETS = 2
"""The format of files that are not read back; see `kndb.records.csv_cells`."""

_EXPECTED = "the description that an export wrote beside the data"
_T = TypeVar("_T")


@dataclass(frozen=True)
class DescribedModel:
    """The model that results are of; the fingerprint is empty if its checkpoint was not registered."""

    name: str
    layers: int
    neurons: int
    fingerprint: str
    family: str


@dataclass(frozen=True)
class DescribedRun:
    """The run that results are of."""

    method: str
    version: str
    settings: StoredSettings
    status: str
    created_at: str
    finished_at: str | None


@dataclass(frozen=True)
class DescribedRefinement:
    """The refinement that neurons are of, with the outcomes of the relations in the file."""

    settings: StoredSettings
    created_at: str
    relations: tuple[RelationRefinement, ...]


@dataclass(frozen=True)
class Description:
    """What a description says."""

    kind: str
    rows: int
    sha256: str
    model: DescribedModel | None = None
    run: DescribedRun | None = None
    refinement: DescribedRefinement | None = None
    safe_csv: bool = False


def description_path(data: Path) -> Path:
    """Where the description of a data file lies."""
    return data.with_name(data.name + SUFFIX)


def described_kind(data: Path) -> str | None:
    """What a data file holds, if a description beside it says so; None where there is none that can be read."""
    kind = _heading(data, "kind")
    return None if kind is None else str(kind)


def _heading(data: Path, name: str) -> object:
    """What the head of the description beside a data file says; None where there is none that can be read."""
    try:
        document: Any = _read(description_path(data))
        return document["kndb"][name]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _read(path: Path) -> object:
    """A description's JSON.

    Raises:
        OSError: if it can't be read.
        ValueError: if it is no JSON, or longer than a description is.
    """
    # A pipe or a device beside the data is no description, and may have no end.
    if not path.is_file() and path.exists():
        raise ValueError("no regular file")
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"more than {MOST_BYTES:,} bytes")
    return read_json(content.decode("utf-8"), finite=False)


def describe_model(model: Model) -> DescribedModel:
    """What a description says of a model."""
    return DescribedModel(model.name, model.layers, model.neurons, model.fingerprint, model.family)


def describe_run(run: Run) -> DescribedRun:
    """What a description says of a run."""
    return DescribedRun(run.method, run.version, run.settings, run.status, run.created_at, run.finished_at)


def describe_refinement(refinement: Refinement, relations: Sequence[str]) -> DescribedRefinement:
    """What a description says of a refinement, of which the file holds some relations."""
    outcomes = tuple(outcome for outcome in refinement.relations if outcome.relation in relations)
    return DescribedRefinement(refinement.settings, refinement.created_at, outcomes)


def text(description: Description, file: str, columns: Sequence[str]) -> str:
    """The description as JSON.

    Args:
        description: what to say.
        file: the data file's name.
        columns: the names of its columns.
    """
    document: dict[str, Any] = {
        "kndb": {"format": FOR_SPREADSHEETS if description.safe_csv else FORMAT, "kind": description.kind},
        "data": {"file": file, "sha256": description.sha256, "rows": description.rows, "columns": list(columns)},
    }
    for name in ("model", "run", "refinement"):
        part = getattr(description, name)
        if part is not None:
            document[name] = asdict(part)
    if description.refinement is not None:
        for outcome in document["refinement"]["relations"]:
            outcome["facts_without_neurons"] = outcome["facts"] - outcome["facts_with_neurons"]
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


def read(data: Path, kind: str, advice: str) -> Description:
    """Reads the description of a data file and checks that the file is as it was written.

    Args:
        data: the data file.
        kind: what it is to hold: `neurons`, `scores` or `facts`.
        advice: what to do with a file that was changed.

    Raises:
        InputError: if there is no such description, or the data file is another than it describes.
    """
    path = description_path(data)
    document = _document(path)
    head = _part(path, document, "kndb")
    if head.get("format") == FOR_SPREADSHEETS:
        raise InputError(_written_for_spreadsheets(data))
    if head.get("format") != FORMAT:
        raise InputError(
            f"{path}: its format is {head.get('format')!r}, and this kndb reads {FORMAT}: another kndb wrote it"
        )
    if head.get("kind") != kind:
        found = head.get("kind")
        raise InputError(f"{path}: it describes {found}, not {kind}{_importing(found, data)}")
    about = _part(path, document, "data")
    description = Description(
        kind=kind,
        rows=_value(path, about, "rows", int),
        sha256=_value(path, about, "sha256", str),
        model=_model(path, document) if kind != "facts" else None,
        run=_run(path, document) if kind != "facts" else None,
        refinement=_refinement(path, document) if kind == "neurons" else None,
    )
    try:
        found_sha256 = sha256(data)
    except OSError as error:
        raise InputError(f"{data}: it can't be read ({error.strerror})") from error
    if found_sha256 != description.sha256:
        raise InputError(
            f"{data}: the file was changed after the export: its sha256 is {found_sha256[:12]}, and {path.name} says "
            f"{description.sha256[:12]}. {advice}"
        )
    return description


def require_exact(data: Path) -> None:
    """Refuses a file whose description says that it was written for spreadsheets.

    Raises:
        InputError: if there is such a description.
    """
    if _heading(data, "format") == FOR_SPREADSHEETS:
        raise InputError(_written_for_spreadsheets(data))


def _written_for_spreadsheets(data: Path) -> str:
    return (
        f"{data}: it was exported with {option('safe_csv', True)}, for spreadsheets: texts that could be formulas have "
        "an apostrophe before them, and are not what the store had. Export it again without that"
    )


def _importing(kind: object, data: Path) -> str:
    """What imports a file of a kind, as advice; nothing if no kind is known."""
    calls = {
        "neurons": call("exchange.import_neurons", [str(data)]),
        "scores": call("exchange.import_scores", str(data)),
        "facts": call("exchange.import_facts", [str(data)]),
    }
    return f". Try: {calls[kind]}" if isinstance(kind, str) and kind in calls else ""


def _document(path: Path) -> Mapping[str, Any]:
    try:
        document = _read(path)
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file; an export writes it beside the data") from None
    except OSError as error:
        raise InputError(f"{path}: it can't be read ({error.strerror}); it must be {_EXPECTED}") from error
    except ValueError as error:
        raise InputError(f"{path}: it is not JSON ({error}); it must be {_EXPECTED}") from error
    if not isinstance(document, dict):
        raise InputError(f"{path}: it is not a JSON object; it must be {_EXPECTED}")
    return document


def _model(path: Path, document: Mapping[str, Any]) -> DescribedModel:
    part = _part(path, document, "model")
    return DescribedModel(
        name=_value(path, part, "name", str),
        layers=_value(path, part, "layers", int),
        neurons=_value(path, part, "neurons", int),
        fingerprint=_value(path, part, "fingerprint", str),
        family=_value(path, part, "family", str),
    )


def _run(path: Path, document: Mapping[str, Any]) -> DescribedRun:
    part = _part(path, document, "run")
    status = _value(path, part, "status", str)
    if status not in ("running", "complete"):
        raise InputError(f"{path}: the run's status must be running or complete (got {status!r})")
    return DescribedRun(
        method=_value(path, part, "method", str),
        version=_value(path, part, "version", str),
        settings=_value(path, part, "settings", dict),
        status=status,
        created_at=_value(path, part, "created_at", str),
        finished_at=None if part.get("finished_at") is None else _value(path, part, "finished_at", str),
    )


def _refinement(path: Path, document: Mapping[str, Any]) -> DescribedRefinement:
    part = _part(path, document, "refinement")
    outcomes = []
    for entry in _value(path, part, "relations", list):
        if not isinstance(entry, dict):
            raise InputError(f"{path}: 'relations' must be a list of objects (got {entry!r})")
        outcomes.append(
            RelationRefinement(
                relation=_value(path, entry, "relation", str),
                share=None if entry.get("share") is None else _value(path, entry, "share", float),
                passes=None if entry.get("passes") is None else _value(path, entry, "passes", int),
                facts=_value(path, entry, "facts", int),
                facts_with_neurons=_value(path, entry, "facts_with_neurons", int),
                mean_size=_value(path, entry, "mean_size", float),
            )
        )
    return DescribedRefinement(
        _value(path, part, "settings", dict), _value(path, part, "created_at", str), tuple(outcomes)
    )


def _part(path: Path, document: Mapping[str, Any], name: str) -> dict[str, Any]:
    return _value(path, document, name, dict)


def _value(path: Path, part: Mapping[str, Any], name: str, kind: type[_T]) -> _T:
    value = part.get(name)
    if type(value) is not kind:
        raise InputError(f"{path}: {name!r} can't be {json.dumps(value)[:60]}; the file must be {_EXPECTED}")
    return value
