"""Edit objects with parameters as a whole or as factors: every flaw of their description is found and named."""

import json
from dataclasses import replace

import pytest
import torch

from kndb.editing.objects import slots
from kndb.editing.objects.diff_file import EditObject, decode, encode
from kndb.editing.objects.diff_tensors import TensorDiff
from kndb.errors import DiffFileError

NAME = "v"


def split(content: bytes) -> tuple[dict, bytes]:
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def join(header: dict, payload: bytes) -> bytes:
    raw = json.dumps(header, separators=(",", ":"), sort_keys=True).encode()
    raw += b" " * (-len(raw) % 8)
    return len(raw).to_bytes(8, "little") + raw + payload


@pytest.fixture
def captured(make_edit) -> bytes:
    """An edit of some slots of one parameter, and of the whole of another."""
    old = torch.tensor([1.0, 2.0])
    hashes = slots.region_hash(old), slots.region_hash(old + 1)
    whole = TensorDiff(NAME, (2,), "F32", None, *hashes, slots.raw(old), slots.raw(old + 1))
    return encode(replace(make_edit(), tensors=(whole,)))


def test_decode_gives_back_what_was_encoded(captured):
    read = decode(captured, "x")
    assert isinstance(read, EditObject)
    assert encode(read) == captured
    assert [(tensor.parameter, tensor.shape) for tensor in read.tensors] == [(NAME, (2,))]


def test_a_whole_parameter_alone_is_an_edit(captured):
    read = replace(decode(captured, "x"), parameters=(), layers={}, shapes={})
    assert encode(decode(encode(read), "x")) == encode(read)


def refused(content: bytes, change) -> str:
    """What is said of a file in which the list of tensors was changed."""
    header, payload = split(content)
    entries = json.loads(header["__metadata__"]["tensors"])
    changed = change(entries)
    text = json.dumps(entries if changed is None else changed, separators=(",", ":"), sort_keys=True)
    header["__metadata__"]["tensors"] = text
    with pytest.raises(DiffFileError) as caught:
        decode(join(header, payload), "the-file")
    return str(caught.value)


FACTORS = {"encoding": "factors", "shape": [2, 1]}


@pytest.mark.fault("a bad edit object")
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": ""}, "'' as a parameter's name"),
        ({"name": 3}, "3 as a parameter's name"),
        ({"encoding": "sparse"}, "encoding 'sparse'"),
        ({"layout": "row"}, "encoding 'whole' with layout 'row'"),
        ({"layout": "column"}, "encoding 'whole' with layout 'column'"),
        ({**FACTORS, "layout": "diagonal"}, "layout 'diagonal'"),
        ({"layer": 0}, "layer 0 of v"),
        ({"layer": True}, "layer True of v"),
        ({**FACTORS, "layout": "row", "layer": -1}, "layer -1 of v"),
        ({**FACTORS, "layout": "row", "layer": 2**31}, "layer 2147483648 of v"),
        ({"shape": 2}, "shape 2 of v"),
        ({"shape": [0]}, "shape [0] of v"),
        ({"shape": [2**31]}, "shape [2147483648] of v"),
        ({"shape": [True]}, "shape [True] of v"),
        ({"encoding": "factors"}, "shape [2] of v"),
        ({**FACTORS, "dtype": "F64"}, "factors of v in F64"),
        ({"dtype": "I64"}, "dtype 'I64' of v"),
        ({"old_sha256": 3}, "3 as old_sha256 of v"),
        ({"old_sha256": "0" * 63}, "as old_sha256 of v"),
        ({"new_sha256": "G" * 64}, "as new_sha256 of v"),
        ({"new_sha256": "0" * 64, "old_sha256": "0" * 64}, "the same bytes of v before and after"),
        ({"more": 1}, "in the list of tensors"),
    ],
)
def test_a_bad_description_is_refused(captured, changes, words):
    message = refused(captured, lambda entries: entries[0].update(changes))
    assert words in message
    assert "expected" in message


@pytest.mark.fault("a bad edit object")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda entries: [], "[] as the list of tensors"),
        (lambda entries: {"v": entries[0]}, "as the list of tensors"),
        (lambda entries: "v", "'v' as the list of tensors"),
        (lambda entries: [1], "in the list of tensors"),
        (lambda entries: entries * 2, "tensors in the order ['v', 'v']"),
        (lambda entries: [{**entries[0], "name": "w"}, entries[0]], "tensors in the order ['w', 'v']"),
    ],
)
def test_a_bad_list_is_refused(captured, change, words):
    assert words in refused(captured, change)
