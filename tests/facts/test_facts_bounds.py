"""Reading is bounded: a file that holds or unfolds to more than a limit is refused, in memory that does not grow."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import random
import re
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import pytest

from kndb import facts
from kndb.cli.main import exit_code
from kndb.database import open_database
from kndb.errors import InputError
from kndb.exchange import neuron_csv, tables
from kndb.exchange.columns import SCORES
from kndb.exchange.sets import Sizes
from kndb.facts.lines import read_lines

LINE = json.dumps({"relation": "P36", "subject": "France", "object": "Paris", "template": "[X] has [Y]."}) + "\n"

MEASURE = """
import re, sys
from kndb import facts
from kndb.errors import InputError
import pathlib
def peak():
    # Not ru_maxrss: that of a process that was just started is its parent's.
    return int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])
facts.read(pathlib.Path(sys.argv[1]))
before = peak()
try:
    facts.read(pathlib.Path(sys.argv[2]))
    print("read")
except InputError as error:
    print(str(error))
print(peak() - before)
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


def test_a_small_file_that_unfolds_to_half_a_gigabyte(tmp_path):
    path = tmp_path / "facts.jsonl.gz"
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    with path.open("wb") as file:
        for _ in range(128):
            file.write(packer.compress(b"\n" * (1 << 22)))
        file.write(packer.flush())
    assert path.stat().st_size < 750_000
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
        "or allow more with most_bytes=34359738368 (about ten times as much memory is needed)"
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
    path.write_bytes(b"\n" * 1_000_000 + LINE.encode())
    lines = read_lines(path)
    assert len(lines) == 1_000_001
    assert lines[-1].text == LINE.strip()
    said, grown = measured(tmp_path, path)
    assert said == "read"
    assert grown < 40_000_000
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


def test_all_files_of_an_ingest_count_together(tmp_path):
    for name in "abc":
        (tmp_path / f"{name}.jsonl").write_text(LINE * 10)
    size = len(LINE) * 10
    with facts.at_most(3 * size):
        assert len(facts.read(tmp_path)) == 3
    with facts.at_most(3 * size - 1), pytest.raises(InputError) as caught:
        facts.read(tmp_path)
    said = f"with the {2 * size:,} bytes that were read before it, it is more than {3 * size - 1:,} bytes of text"
    assert str(caught.value).startswith(f"{tmp_path / 'c.jsonl'}: {said}")
    with facts.at_most(size):
        for path in sorted(tmp_path.iterdir()):
            with pytest.raises(InputError) if path.name > "a.jsonl" else contextlib.nullcontext():
                facts.read(path)


def test_a_line_without_end(tmp_path):
    path = tmp_path / "facts.jsonl"
    path.write_text("[" + "[]," * 6_000_000 + "[]]\n" + LINE)
    (file,) = facts.read(path, "jsonl", skip_invalid=True)
    assert [line.reason for line in file.rejected] == ["the line has 18,000,004 bytes, and at most 16,777,216 are read"]
    assert len(file.facts) == 1
    _, grown = measured(tmp_path, path)
    assert grown < 120_000_000


def test_a_document_that_is_all_structure(tmp_path):
    path = tmp_path / "facts.json"
    path.write_text("[" + "[]," * 6_000_000 + "[]]")
    said, grown = measured(tmp_path, path)
    assert f"{path}: it has 12,000,002 commas, colons and brackets in 18,000,004 bytes" in said
    assert grown < 120_000_000


def test_a_file_of_which_nothing_can_be_used(tmp_path):
    path = tmp_path / "facts.jsonl"
    path.write_text("x\n" * 3_000_000)
    with pytest.raises(InputError, match=r"has more than 100,000 lines that can't be used, so it is no such list"):
        facts.read(path, skip_invalid=True)
    said, grown = measured(tmp_path, path)
    assert "no such list" in said
    assert grown < 150_000_000


def test_a_table_of_open_quotes_is_not_read_again_and_again(tmp_path):
    """Each line leaves a quote open, whether the line before did or not."""
    path = tmp_path / "facts.csv"
    path.write_text("relation,subject,object\n" + 'a","""\n' * 60_000 + "P36,Peru,Lima\n")
    (file,) = facts.read(path, skip_invalid=True)
    # Of 60,000 lines a hundred are read again with the thousand that follow them; then reading goes on after these.
    assert len(file.rejected) < 200
    left_out = sum(int((re.search(r"the next (\d+)", line.reason) or [0, 0])[1]) for line in file.rejected)
    assert len(file.rejected) + left_out + len(file.facts) == 60_001


def test_what_follows_a_gzip_member_is_no_secret(tmp_path):
    """A second member whose beginning is damaged was taken for the end of the file."""
    first, second = gzip.compress(LINE.encode() * 3), gzip.compress(LINE.encode() * 4)
    path = tmp_path / "facts.jsonl.gz"
    path.write_bytes(first + second + b"\0" * 512)
    assert len(facts.read(path)[0].facts) == 7
    path.write_bytes(first + b"\x1e" + second[1:])
    with pytest.raises(InputError, match=r"its gzip data are damaged \(no gzip after a member's end\); fetch"):
        facts.read(path, skip_invalid=True)
    path.write_bytes(first + second[:1])
    (file,) = facts.read(path, skip_invalid=True)
    assert [line.reason for line in file.rejected] == ["the gzip file is cut short here; fetch it again"]


def test_a_pipe_whose_format_is_not_named(tmp_path):
    """Its beginning would be gone once its format is known."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(InputError, match="this is a pipe, which can be read only once; name what"):
        facts.read(path)


def test_a_file_whose_name_is_no_text(tmp_path):
    path = tmp_path / "b\udcff.jsonl"
    path.write_text(LINE)
    with open_database(tmp_path / "kndb.db") as database:
        assert database.facts.ingest([path]).facts_added == 1
    folder = tmp_path / "p/graphs_json"
    folder.mkdir(parents=True)
    (folder / "b\udcff.jsonl").write_text('{"pattern": "[X]: [Y]"}')
    (tmp_path / "p/trex_lms_vocab").mkdir()
    with pytest.raises(InputError, match="file's name can't be a relation's key; give the file another name"):
        facts.read(tmp_path / "p")


def test_more_prompts_than_a_store_should_get(tmp_path, capsys):
    path = tmp_path / "facts.jsonl"
    lines = [{"relation": "P36", "subject": f"s{number}", "object": "o"} for number in range(30)]
    lines += [{"relation": "P36", "template": f"[X] in way {number} [Y]"} for number in range(20)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    location = str(tmp_path / "kndb.db")
    assert exit_code(["ingest", str(path), "--db", location, "--most-prompts", "599"]) == 3
    said = capsys.readouterr().err
    assert (
        "these lists make more than 599 new prompts, the most that are added at a time: of relation P36, each" in said
    )
    assert "each of 30 facts is asked by each of 20 templates" in said
    assert "--relation KEY" in said
    assert "--most-prompts 2396" in said
    with open_database(location) as database:
        assert database.facts.relations() == []
    assert exit_code(["ingest", str(path), "--db", location, "--most-prompts", "600"]) == 0
    assert exit_code(["ingest", str(path), "--db", location, "--most-prompts", "1"]) == 0
    assert exit_code(["ingest", str(path), "--db", location, "--most-prompts", "0"]) == 2
    assert "--most-prompts must be at least 1 (got 0)" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["neurons", "--model-name", "m", "--layers", "1", "--neurons", "1"], ["scores"], ["facts"]]
)
def test_a_20_gb_file_to_import_is_refused_at_once(tmp_path, capsys, words):
    kind, *options = words
    path = tmp_path / "list.csv"
    with path.open("wb") as file:
        file.write(b"fact,layer,neuron\n")
        file.truncate(20_000_000_000)
    with open_database(tmp_path / "kndb.db"):
        pass
    arguments = ["import", kind, str(path), *options, "--db", str(tmp_path / "kndb.db")]
    assert exit_code(arguments) == 3
    assert capsys.readouterr().err.strip() == (
        f"Error: {path}: it holds more than 1,073,741,824 bytes of text, the most that is read at a time; read it in "
        "parts, or allow more with --most-bytes 34359738368"
    )
    assert exit_code([*arguments, "--most-bytes", "0"]) == 2


def test_a_packed_import_is_bounded_by_what_it_unfolds_to(tmp_path):
    path = tmp_path / "n.csv.gz"
    text = "fact,layer,neuron\n" + "u,0,0\n" * 100
    path.write_bytes(gzip.compress(text.encode()))
    with facts.at_most(len(text)):
        assert len(neuron_csv.read_files([path], Sizes(1, 1))) == 1
    with facts.at_most(len(text) - 1), pytest.raises(InputError, match=r"n\.csv\.gz: it holds more than"):
        neuron_csv.read_files([path], Sizes(1, 1))


def test_a_parquet_file_that_unfolds(tmp_path):
    pytest.importorskip("pyarrow")
    path = tmp_path / "s.parquet"
    rows = ({"relation": "P1", "prompt": "x" * 1000, "object": "o", "scores": []} for _ in range(20_000))
    tables.write(path, ".parquet", SCORES, rows)
    assert path.stat().st_size < 200_000
    with facts.at_most(30_000_000):
        assert sum(1 for _ in tables.read(path, SCORES)) == 20_000
    with facts.at_most(10_000_000), pytest.raises(InputError, match=r"s\.parquet: it holds more than 10,000,000 bytes"):
        list(tables.read(path, SCORES))
