"""What a file's bytes can be: marks, line ends, gzip, and what is broken in them."""

from __future__ import annotations

import gzip
import json

import pytest

from kndb import facts
from kndb.errors import InputError

FACTS = [{"relation": "P36", "subject": f"Land {number}", "object": f"City {number}"} for number in range(40)]
TEXT = "".join(json.dumps(fact) + "\n" for fact in FACTS)
SUBJECTS = [fact["subject"] for fact in FACTS]


def subjects(files):
    return [fact.subject for file in files for fact in file.facts]


@pytest.mark.parametrize(
    "data",
    [
        TEXT.encode(),
        b"\xef\xbb\xbf" + TEXT.encode(),
        TEXT.replace("\n", "\r\n").encode(),
        TEXT.replace("\n", "\n\n  \n").encode(),
        TEXT.rstrip("\n").encode(),
        gzip.compress(TEXT.encode(), mtime=0),
        gzip.compress(b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode(), mtime=0),
        gzip.compress(TEXT[:1000].encode(), mtime=0) + gzip.compress(TEXT[1000:].encode()),
        gzip.compress(TEXT.encode(), mtime=0) + b"\0" * 512,
    ],
    ids=[
        "plain",
        "mark",
        "crlf",
        "blank lines",
        "no last line end",
        "gzip",
        "gzip, mark, crlf",
        "gzip of two members",
        "gzip with padding",
    ],
)
@pytest.mark.parametrize("name", ["facts.jsonl", "facts.jsonl.gz"])
def test_all_encodings_give_the_same_facts(write, name, data):
    files = facts.read(write(name, data))
    assert subjects(files) == SUBJECTS
    assert files[0].rejected == ()


def test_line_numbers_count_blank_lines(write):
    path = write("facts.jsonl", '\n{"relation": "P1", "subject": "a", "object": "b"}\r\n\r\n[1]\r\n')
    with pytest.raises(InputError) as caught:
        facts.read(path, "jsonl")
    assert [line.line for line in caught.value.rejected] == [4]


def test_separators_inside_labels_are_no_line_ends(write):
    subject = "a\u2028b\u0085c\x0bd"
    line = json.dumps({"relation": "P1", "subject": subject, "object": "x"}, ensure_ascii=False)
    # json.dumps escapes \x0b only; the other two stand in the file as they are.
    assert subjects(facts.read(write("facts.jsonl", line + "\n"))) == [subject]


def test_invalid_utf8_rejects_its_line_only(write):
    lines = TEXT.encode().splitlines(keepends=True)
    lines[4] = lines[4].replace(b"Land", b"L\xffnd")
    path = write("facts.jsonl", b"".join(lines))
    with pytest.raises(InputError) as caught:
        facts.read(path)
    message = str(caught.value)
    position = lines[4].index(b"\xff") + 1
    assert message.startswith(f"{path}:5: the byte 0xff at position {position} is not UTF-8: save")
    (file,) = facts.read(path, skip_invalid=True)
    assert subjects([file]) == SUBJECTS[:4] + SUBJECTS[5:]
    assert [line.line for line in file.rejected] == [5]


def test_truncated_last_line_is_rejected(write):
    path = write("facts.jsonl", TEXT[:-20])
    with pytest.raises(
        InputError, match=r":40: not valid JSON .* where the file ends: .* cut short: each line must be"
    ):
        facts.read(path)
    (file,) = facts.read(path, skip_invalid=True)
    assert subjects([file]) == SUBJECTS[:-1]


@pytest.mark.parametrize("name", ["facts.jsonl.gz", "facts.csv.gz"])
def test_truncated_gzip_keeps_the_whole_lines_before_the_cut(write, name):
    rows = [f"P36,Land {number},City {number * 7919}\n" for number in range(5000)]
    if "csv" in name:
        text = "relation,subject,object\n" + "".join(rows)
    else:
        text = "".join(json.dumps(dict(FACTS[0], subject=f"Land {number}")) + "\n" for number in range(5000))
    packed = gzip.compress(text.encode())
    path = write(name, packed[: len(packed) // 2])
    with pytest.raises(InputError, match="the gzip file is cut short here; fetch it again"):
        facts.read(path)
    (file,) = facts.read(path, skip_invalid=True)
    got = subjects([file])
    assert 100 < len(got) < 5000
    assert got == [f"Land {number}" for number in range(len(got))]
    first_lost = len(got) + (2 if "csv" in name else 1)
    assert [line.line for line in file.rejected] == [first_lost]


def test_gzip_cut_within_its_checksum_is_noticed(write):
    path = write("facts.jsonl.gz", gzip.compress(TEXT.encode())[:-3])
    (file,) = facts.read(path, skip_invalid=True)
    assert subjects([file]) == SUBJECTS
    assert len(file.rejected) == 1


def test_damaged_gzip_cannot_be_skipped_over(write):
    packed = bytearray(gzip.compress(TEXT.encode()))
    packed[-6] ^= 0xFF
    path = write("facts.jsonl.gz", bytes(packed))
    with pytest.raises(InputError, match="its gzip data are damaged"):
        facts.read(path, skip_invalid=True)


def test_utf16_is_named(write):
    path = write("facts.jsonl", TEXT.encode("utf-16"))
    with pytest.raises(InputError, match="the text is UTF-16; save it as UTF-8"):
        facts.read(path, skip_invalid=True)


def test_document_errors_name_the_line(write):
    path = write("bags.json", '[\n [["a [MASK]", "b", "P1(x)"]],\n [["a [MASK]" "b"]]\n]')
    with pytest.raises(InputError) as caught:
        facts.read(path, skip_invalid=True)
    assert str(caught.value).startswith(f"{path}:3: not valid JSON (Expecting ',' delimiter, column 15): the file")
    assert caught.value.rejected[0].line == 3


def test_document_with_invalid_utf8_names_the_line(write):
    path = write("bags.json", b'[\n [["a [MASK]", "\xe9", "P1(x)"]]\n]')
    with pytest.raises(InputError, match=r":2: the byte 0xe9 at position 17 is not UTF-8: the file must be"):
        facts.read(path)


@pytest.mark.parametrize("cut", [3, 30])
def test_document_in_truncated_gzip_is_refused(write, cut):
    document = json.dumps([[["Rome is in [MASK].", "Italy", "P17(country)"]]])
    path = write("bags.json.gz", gzip.compress(document.encode())[:-cut])
    with pytest.raises(InputError, match="the gzip file is cut short here; fetch it again: it must be a JSON list"):
        facts.read(path, "bags", skip_invalid=True)
