"""Tables as Parquet, by pyarrow. Numbers are 64 bits wide, scores a list of structs, lists of objects a JSON text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from ..content import most_bytes, too_large
from ..errors import InputError, UsageError
from .columns import Column, Kind, Row, fits

_BATCH = 1000
"""Rows that are in memory at a time: of scores, a row may hold thousands."""

_PARTS = {Kind.SCORES: ("layer", "neuron", "score"), Kind.ERRORS: ("layer", "error")}
"""What the items of lists of structs are made of."""


def write(path: Path, columns: Sequence[Column], rows: Iterable[Row]) -> int:
    """Writes a table to a file, and gives the number of its rows.

    Raises:
        UsageError: if pyarrow is not installed.
    """
    arrow, parquet = _pyarrow()
    schema = arrow.schema([(column.name, _type(arrow, column.kind)) for column in columns])
    count, rest = 0, iter(rows)
    with parquet.ParquetWriter(path, schema) as writer:
        while batch := list(islice(rest, _BATCH)):
            records = [{column.name: _packed(column.kind, row.get(column.name)) for column in columns} for row in batch]
            writer.write_batch(arrow.RecordBatch.from_pylist(records, schema))
            count += len(batch)
    return count


def read(path: Path, columns: Sequence[Column]) -> Iterator[tuple[int, Row]]:
    """Yields a table's rows with their numbers, from 1.

    Raises:
        UsageError: if pyarrow is not installed.
        InputError: if the file is no Parquet, or lacks one of the columns or holds something else in it.
    """
    arrow, parquet = _pyarrow()
    try:
        with parquet.ParquetFile(path) as file:
            there = [
                column
                for column in columns
                if not column.optional or file.schema_arrow.get_field_index(column.name) >= 0
            ]
            for column in there:
                place = file.schema_arrow.get_field_index(column.name)
                wanted = _type(arrow, column.kind)
                if place < 0:
                    raise InputError(f"{path}: the column {column.name!r} is missing; it must be {wanted}")
                if not (found := file.schema_arrow.field(place).type).equals(wanted):
                    raise InputError(f"{path}: the column {column.name!r} must be {wanted} (got {found})")
            number = size = 0
            for batch in file.iter_batches(_BATCH, columns=[column.name for column in there]):
                # What the footer says of sizes is the sender's word; this is what was unpacked.
                size += batch.nbytes
                if size > most_bytes():
                    raise too_large(path)
                for record in batch.to_pylist():
                    number += 1
                    yield number, _row(path, number, columns, record)
    # A broken file makes pyarrow raise its own errors, and Python's for text that is no UTF-8.
    except (arrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: it can't be read as Parquet ({error})") from error


def _row(path: Path, number: int, columns: Sequence[Column], record: Row) -> Row:
    row = {column.name: _unpacked(path, column, record.get(column.name)) for column in columns}
    for column in columns:
        value = row[column.name]
        if value is not None and not fits(column.kind, value):
            raise InputError(f"{path}:{number}: {column.name!r} must be {column.kind.value} (got {str(value)[:60]!r})")
    return row


def _type(arrow: Any, kind: Kind) -> Any:
    score = arrow.struct([("layer", arrow.int32()), ("neuron", arrow.int32()), ("score", arrow.float64())])
    return {
        Kind.TEXT: arrow.string(),
        Kind.WHOLE: arrow.int64(),
        Kind.NUMBER: arrow.float64(),
        Kind.FLAG: arrow.bool_(),
        Kind.OBJECTS: arrow.string(),
        Kind.TEXTS: arrow.list_(arrow.string()),
        Kind.SCORES: arrow.list_(score),
        Kind.ERRORS: arrow.list_(arrow.struct([("layer", arrow.int32()), ("error", arrow.float64())])),
    }[kind]


def _packed(kind: Kind, value: Any) -> Any:
    if kind is Kind.OBJECTS and value is not None:
        return json.dumps(value, ensure_ascii=False)
    if kind not in _PARTS or value is None:
        return value
    return [dict(zip(_PARTS[kind], item, strict=True)) for item in value]


def _unpacked(path: Path, column: Column, value: Any) -> Any:
    kind = column.kind
    if kind is Kind.OBJECTS and value is not None:
        return _objects(path, column, value)
    if kind not in _PARTS or value is None:
        return value
    return [None if item is None else [item[name] for name in _PARTS[kind]] for item in value]


def _objects(path: Path, column: Column, text: str) -> Any:
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if value is None or not fits(column.kind, value):
        raise InputError(f"{path}: {column.name!r} must be {column.kind.value}, as JSON (got {text[:60]!r})")
    return value


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow  # type: ignore[import-untyped]
        import pyarrow.parquet  # type: ignore[import-untyped]
    except ImportError as error:
        raise UsageError(
            "Parquet files need pyarrow, which is not installed; install it with: pip install 'kndb[parquet]'. "
            "CSV and JSON lines need nothing"
        ) from error
    return pyarrow, pyarrow.parquet
