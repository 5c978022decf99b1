"""From files to lines and CSV records: gzip, encodings, damage."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from ..errors import InputError

_GZIP = b"\x1f\x8b"
_LARGEST_CELL = 2**31 - 1
"""A prompt's scores are one cell; with a floor of 0 it holds every neuron of the model."""


@contextmanager
def opened(path: Path) -> Iterator[TextIO]:
    """Opens a text file in UTF-8, gzipped or not, with its line ends as they are.

    Raises:
        InputError: if it can't be read, or turns out damaged while the block reads it.
    """
    try:
        with path.open("rb") as raw:
            packed = raw.peek(2).startswith(_GZIP)
            unpacked = gzip.GzipFile(fileobj=raw) if packed else raw
            with io.TextIOWrapper(unpacked, encoding="utf-8-sig", newline="") as text:
                yield text
    except EOFError as error:
        raise InputError(f"{path}: the gzip file is cut short; fetch it again") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path}: the gzip data are damaged ({error}); fetch it again") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: it is not UTF-8 text; save it as UTF-8") from error
    except OSError as error:
        raise InputError(f"{path}: it can't be read ({error.strerror or error})") from error


def csv_records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yields the records of a CSV file, blank lines left out, each with the line on which it begins.

    Raises:
        InputError: if the file can't be read, or is no CSV.
    """
    limit = csv.field_size_limit(_LARGEST_CELL)
    try:
        with opened(path) as text:
            reader = csv.reader(text, strict=True)
            line = 1
            try:
                for cells in reader:
                    if cells:
                        yield line, cells
                    line = reader.line_num + 1
            except csv.Error as error:
                raise InputError(
                    f"{path}:{line}: not valid CSV ({error}): fields are separated by commas, and quoted with double "
                    "quotes"
                ) from error
    finally:
        csv.field_size_limit(limit)
