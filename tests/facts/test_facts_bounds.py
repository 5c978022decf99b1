"""Reading is bounded: a file that holds or unfolds to more than a limit is refused, in memory that does not grow."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import pytest

from kndb import facts
from kndb.cli.main import exit_code
from kndb.errors import InputError
from kndb.facts.lines import read_lines

LINE = json.dumps({"relation": "P36", "subject": "France", "object": "Paris", "template": "[X] has [Y]."}) + "\n"

MEASURE = """
import resource, sys
from kndb import facts
from kndb.errors import InputError
import pathlib
facts.read(pathlib.Path(sys.argv[1]))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    facts.read(pathlib.Path(sys.argv[2]))
    print("read")
except InputError as error:
    print(str(error))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def measured(tmp_path: Path, path: Path) -> tuple[str, int]:
    """What reading a file says, and by how many bytes the process's peak grew beside reading a small one."""
    small = tmp_path / "small.jsonl"
    small.write_text(LINE)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(small), str(path)], capture_output=True, text=True, check=True, timeout=300
    )
    *said, grown = done.stdout.splitlines()
    return "\n".join(said), int(grown) * 1024


def test_a_small_file_that_unfolds_to_gigabytes(tmp_path):
    path = tmp_path / "facts.jsonl.gz"
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    with path.open("wb") as file:
        for _ in range(512):
            file.write(packer.compress(b"\n" * (1 << 22)))
        file.write(packer.flush())
    assert path.stat().st_size < 3_000_000
    said, grown = measured(tmp_path, path)
    assert "unfold to more than 250 times as many" in said
    assert said.startswith(str(path))
    assert grown < 100_000_000


def test_a_device_without_end(tmp_path):
    said, grown = measured(tmp_path, Path("/dev/zero"))
    assert said == "/dev/zero: it begins with binary data (NUL bytes); a fact list is UTF-8 text"
    assert grown < 20_000_000


def test_a_file_larger_than_the_limit_is_not_read(tmp_path):
    path = tmp_path / "facts.jsonl"
    with path.open("wb") as file:
        file.write(LINE.encode())
        file.truncate(20_000_000_000)
    said, grown = measured(tmp_path, path)
    assert said == (
        f"{path}: it holds more than 1,073,741,824 bytes of text, the most that is read at a time; read it in parts, "
        "or allow more with most_bytes=4294967296 (about eight times as much memory is needed)"
    )
    assert grown < 20_000_000


def test_the_command_line_names_its_option(tmp_path, capsys):
    path = tmp_path / "facts.jsonl"
    path.write_text(LINE * 3)
    database = str(tmp_path / "kndb.db")
    assert exit_code(["ingest", str(path), "--db", database, "--most-bytes", str(len(LINE) * 3 - 1)]) == 3
    assert f"allow more with --most-bytes {(len(LINE) * 3 - 1) * 4}" in capsys.readouterr().err
    assert not Path(database).exists()
    assert exit_code(["ingest", str(path), "--db", database, "--most-bytes", str(len(LINE) * 3)]) == 0
    assert exit_code(["ingest", str(path), "--db", database, "--most-bytes", "-1"]) == 2
    assert "--most-bytes must be at least 1 (got -1)" in capsys.readouterr().err


def test_the_limit_counts_unpacked_bytes(tmp_path):
    path = tmp_path / "facts.jsonl.gz"
    path.write_bytes(gzip.compress(LINE.encode() * 50))
    size = len(LINE) * 50
    with facts.at_most(size):
        assert len(facts.read(path)[0].facts) == 50
    with facts.at_most(size - 1), pytest.raises(InputError, match=f"more than {size - 1:,} bytes"):
        facts.read(path)


def test_millions_of_blank_lines(tmp_path):
    path = tmp_path / "facts.jsonl"
    path.write_bytes(b"\n" * 4_000_000 + LINE.encode())
    lines = read_lines(path)
    assert len(lines) == 4_000_001
    assert lines[-1].text == LINE.strip()
    said, grown = measured(tmp_path, path)
    assert said == "read"
    assert grown < 150_000_000
    with path.open("ab") as file:
        file.write(b"\n" * 20_000_000)
    said, _ = measured(tmp_path, path)
    assert said == f"{path}: it has more than 20,000,000 lines, the most that are read; read it in parts"


def test_a_hundred_thousand_members(tmp_path):
    """Time is that of the bytes, not of members times bytes: ten times as many members are no trouble."""
    path = tmp_path / "facts.jsonl.gz"
    path.write_bytes(gzip.compress(b"\n") * 100_000 + gzip.compress(LINE.encode()))
    assert [len(file.facts) for file in facts.read(path)] == [1]


@pytest.mark.parametrize("cut", [0, 1, 5, 17, 18, 19])
@pytest.mark.parametrize("size", [1, 100, (1 << 16) - 3, (1 << 16) - 1, 1 << 16, (1 << 16) + 1, 200_000])
def test_members_of_any_size_are_unpacked_as_gzip_does(tmp_path, size, cut):
    draw = random.Random(size)
    text = "".join(draw.choice("abcdefghij \n") for _ in range(3 * size)).encode()
    parts = [text[:size], text[size : 2 * size], b"", text[2 * size :]]
    packed = b"".join(gzip.compress(part) for part in parts)
    path = tmp_path / "text.gz"
    path.write_bytes(packed)
    assert "\n".join(line.text for line in read_lines(path)).rstrip("\n") == text.decode().rstrip("\n")
    path.write_bytes(packed[: len(packed) - cut])
    problems = [line.problem for line in read_lines(path) if line.problem]
    assert len(problems) == (cut > 0)


def test_lines_are_those_of_a_split(tmp_path):
    path = tmp_path / "text"
    for text in ("", "\n", "a", "a\n", "a\nb", "\n\na\r\n\n", "é\u2028x\n"):
        path.write_bytes(text.encode())
        whole = text.split("\n")
        expected = whole if whole[-1] else whole[:-1]
        lines = read_lines(path)
        assert [line.text for line in lines] == [one.removesuffix("\r") for one in expected]
        assert [line.number for line in lines] == list(range(1, len(expected) + 1))
        assert [line.finished for line in lines] == [number < len(whole) for number in range(1, len(expected) + 1)]
        assert lines[:2] == list(lines)[:2]
        with pytest.raises(IndexError):
            lines[len(lines)]


def test_a_pipe_is_read_to_its_end(tmp_path):
    path = tmp_path / "pipe.jsonl"
    os.mkfifo(path)

    def write() -> None:
        with path.open("w") as file:
            file.write(LINE * 2)

    writer = threading.Thread(target=write)
    writer.start()
    lines = list(read_lines(path))
    writer.join()
    assert [line.text for line in lines] == [LINE.strip()] * 2


def test_text_with_a_few_nul_bytes_is_text(tmp_path):
    path = tmp_path / "facts.jsonl"
    path.write_bytes(b'{"relation": "\0"}\n' + LINE.encode())
    (file,) = facts.read(path, "jsonl", skip_invalid=True)
    assert len(file.facts) == 1
    assert len(file.rejected) == 1


def test_what_unfolds_much_and_is_small_is_read(tmp_path):
    path = tmp_path / "facts.jsonl.gz"
    out = io.BytesIO()
    with gzip.open(out, "wb") as file:
        file.write(LINE.encode() + b" " * 8_000_000 + b"\n")
    path.write_bytes(out.getvalue())
    assert len(facts.read(path)[0].facts) == 1
