"""Edit objects as bytes: one content, one sequence of bytes; every flaw is found and named."""

import json
import math
import struct

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kndb.editing.objects.diff_file import EditObject, ParameterDiff, decode, encode
from kndb.errors import DiffFileError, EditError
from kndb.records.recipes import OtherRecipe, read_recipe

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def split(content: bytes) -> tuple[dict, bytes]:
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def join(header: dict | str, payload: bytes) -> bytes:
    text = header if isinstance(header, str) else json.dumps(header, separators=(",", ":"), sort_keys=True)
    raw = text.encode() + b" " * (-len(text.encode()) % 8)
    return len(raw).to_bytes(8, "little") + raw + payload


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["row", "column"])
def test_decode_gives_back_what_was_encoded(make_edit, dtype, layout):
    edit = make_edit(torch.randn(6, 6).to(dtype), layout=layout)
    content = encode(edit)
    read = decode(content, "x")
    assert encode(read) == content
    assert (read.fingerprint, read.kind, read.recipe) == (edit.fingerprint, edit.kind, edit.recipe)
    assert (read.layers, read.shapes) == (edit.layers, edit.shapes)
    found, expected = read.parameters[0], edit.parameters[0]
    assert (found.parameter, found.layout) == (expected.parameter, expected.layout)
    for part in ("indices", "old", "new"):
        torch.testing.assert_close(getattr(found, part), getattr(expected, part), rtol=0, atol=0)


def test_order_of_parameters_and_keys_does_not_change_the_bytes(make_edit):
    one, two = make_edit(name="a"), make_edit(name="b", layer=2)
    recipe = {"x": 1, "y": {"p": 1, "q": 2}}
    turned = {"y": {"q": 2, "p": 1}, "x": 1}
    layers, shapes = {"a": 1, "b": 2}, {**one.shapes, **two.shapes}
    first = EditObject("f", read_recipe("erase", recipe), one.parameters + two.parameters, layers, shapes)
    second = EditObject("f", read_recipe("erase", turned), two.parameters + one.parameters, layers, shapes)
    assert encode(first) == encode(second)


def test_safetensors_reads_the_file(make_edit):
    edit = make_edit()
    tensors = safetensors.torch.load(encode(edit))
    name = edit.parameters[0].parameter
    assert set(tensors) == {f"{name}.indices", f"{name}.old", f"{name}.new"}
    assert torch.equal(tensors[f"{name}.new"], edit.parameters[0].new)


def test_the_payload_is_aligned(make_edit):
    content = encode(make_edit(torch.randn(5, 7).to(torch.bfloat16)))
    assert int.from_bytes(content[:8], "little") % 8 == 0


# --- files that must be refused -------------------------------------------------------------------

NAME = "layers.1.down.weight"


def change_metadata(header: dict, **changes) -> None:
    header["__metadata__"].update(changes)


def change_parameter(header: dict, **changes) -> None:
    entries = json.loads(header["__metadata__"]["parameters"])
    entries[0].update(changes)
    header["__metadata__"]["parameters"] = json.dumps(entries, separators=(",", ":"), sort_keys=True)


def bad_headers():
    """Changes to a sound header, and words that the message must have."""

    def case(identifier, words, change):
        return pytest.param(change, words, id=identifier)

    yield case("no metadata", "no __metadata__", lambda h: h.pop("__metadata__"))
    yield case("metadata is a list", "no __metadata__", lambda h: h.update({"__metadata__": []}))
    for key in ("format", "format_version", "fingerprint", "kind", "recipe", "parameters"):
        yield case(f"no {key}", "the metadata", lambda h, key=key: h["__metadata__"].pop(key))
    yield case("extra metadata", "the metadata", lambda h: change_metadata(h, note="x"))
    yield case("other format", "format 'pt'", lambda h: change_metadata(h, format="pt"))
    yield case("later version", "version '3'", lambda h: change_metadata(h, format_version="3"))
    yield case("tensors without them", "tensors", lambda h: change_metadata(h, format_version="2"))
    yield case("empty fingerprint", "fingerprint", lambda h: change_metadata(h, fingerprint=""))
    yield case("fingerprint is a number", "fingerprint", lambda h: change_metadata(h, fingerprint=3))
    yield case("recipe is no JSON", "the recipe", lambda h: change_metadata(h, recipe="{"))
    yield case("recipe is a list", "the recipe", lambda h: change_metadata(h, recipe="[]"))
    yield case("recipe has NaN", "NaN", lambda h: change_metadata(h, recipe='{"a":NaN}'))
    yield case("recipe with a key twice", "twice", lambda h: change_metadata(h, recipe='{"a":1,"a":2}'))
    yield case("half a surrogate pair", "recipe", lambda h: change_metadata(h, recipe='{"a":"\\ud800"}'))
    yield case("recipe too deep", "recipe", lambda h: change_metadata(h, recipe='{"a":' * 9**5))
    yield case("no parameters", "at least one", lambda h: change_metadata(h, parameters="[]"))
    yield case("parameter is a number", "JSON object", lambda h: change_metadata(h, parameters="[1]"))
    yield case(
        "parameter twice",
        "each once",
        lambda h: change_metadata(h, parameters=json.dumps(json.loads(h["__metadata__"]["parameters"]) * 2)),
    )
    yield case("other name", "list of tensors", lambda h: change_parameter(h, name="other"))
    yield case("unknown layout", "layout 'diagonal'", lambda h: change_parameter(h, layout="diagonal"))
    yield case("negative layer", "layer -1", lambda h: change_parameter(h, layer=-1))
    yield case("layer is true", "layer True", lambda h: change_parameter(h, layer=True))
    yield case("one size", "two sizes", lambda h: change_parameter(h, shape=[4]))
    yield case("four sizes", "two sizes", lambda h: change_parameter(h, shape=[4, 6, 1, 1]))
    yield case("three sizes of other slots", "expected: F32 [3, 6]", lambda h: change_parameter(h, shape=[4, 6, 1]))
    yield case("huge size", "two sizes", lambda h: change_parameter(h, shape=[4, 2**70]))
    yield case("other slot size", "expected: F32 [3, 5]", lambda h: change_parameter(h, shape=[5, 6]))
    yield case("index out of range", "from 1 to 4", lambda h: change_parameter(h, shape=[4, 4]))
    yield case("more indices than slots", "from 1 to 2", lambda h: change_parameter(h, shape=[4, 2]))
    yield case("metadata says F16", "expected: F16", lambda h: change_parameter(h, dtype="F16"))
    yield case("metadata says I32", "dtype 'I32'", lambda h: change_parameter(h, dtype="I32"))
    yield case("extra key of a parameter", "list of parameters", lambda h: change_parameter(h, x=1))
    yield case(
        "another form",
        "canonical form",
        lambda h: change_metadata(h, recipe=h["__metadata__"]["recipe"].replace(",", ", ")),
    )
    yield case("F32 relabelled I32", "as I32", lambda h: h[f"{NAME}.old"].update(dtype="I32"))
    yield case("I64 relabelled F64", "as F64", lambda h: h[f"{NAME}.indices"].update(dtype="F64"))
    yield case("missing tensor", "list of tensors", lambda h: h.pop(f"{NAME}.new"))
    yield case("extra tensor", "list of tensors", lambda h: h.update(more=h[f"{NAME}.new"]))
    yield case("tensor is text", "dtype, shape", lambda h: h.update({f"{NAME}.new": "x"}))
    yield case("tensor without offsets", "description", lambda h: h[f"{NAME}.new"].pop("data_offsets"))
    yield case("transposed", "[4, 3]", lambda h: h[f"{NAME}.new"].update(shape=[4, 3]))
    yield case("shape is text", "[k]", lambda h: h[f"{NAME}.indices"].update(shape="3"))
    yield case("no slots", "[k]", lambda h: h[f"{NAME}.indices"].update(shape=[0]))
    yield case(
        "offsets overlap",
        "safetensors refuses",
        lambda h: h[f"{NAME}.new"].update(data_offsets=h[f"{NAME}.old"]["data_offsets"]),
    )
    yield case("offsets are text", "safetensors refuses", lambda h: h[f"{NAME}.new"].update(data_offsets="x"))


@pytest.mark.fault("a bad edit object")
@pytest.mark.parametrize(("change", "words"), list(bad_headers()))
def test_a_bad_header_is_refused(make_edit, change, words):
    header, payload = split(encode(make_edit()))
    change(header)
    check_refused(join(header, payload), words)


def check_refused(content: bytes, words: str) -> None:
    with pytest.raises(DiffFileError) as caught:
        decode(content, "the-file")
    message = str(caught.value)
    assert words in message
    for part in ("the-file", "it has", "expected", "db.maintenance.check()"):
        assert part in message


def payload_cases():
    """Values put at a byte offset of a sound payload: three indices, then new [3, 4], then old [3, 4]."""
    nan, infinity = struct.pack("<f", math.nan), struct.pack("<f", -math.inf)
    yield pytest.param(0, struct.pack("<q", -1), "from -1 to 4", id="negative index")
    yield pytest.param(16, struct.pack("<q", 6), "from 1 to 6", id="index too large")
    yield pytest.param(0, struct.pack("<qq", 3, 1), "out of order", id="not sorted")
    yield pytest.param(0, struct.pack("<qq", 3, 3), "out of order or twice", id="twice")
    yield pytest.param(24, nan, "NaN or infinity in layers.1.down.weight.new", id="NaN in new")
    yield pytest.param(24 + 48, infinity, "NaN or infinity in layers.1.down.weight.old", id="infinity in old")


@pytest.mark.fault("a bad edit object")
@pytest.mark.parametrize(("offset", "raw", "words"), list(payload_cases()))
def test_a_bad_payload_is_refused(make_edit, offset, raw, words):
    header, payload = split(encode(make_edit()))
    check_refused(join(header, payload[:offset] + raw + payload[offset + len(raw) :]), words)


@pytest.mark.fault("a bad edit object")
def test_no_change_is_refused(make_edit):
    header, payload = split(encode(make_edit()))
    check_refused(join(header, payload[:24] + payload[72:] * 2), "the same bytes before and after")


@pytest.mark.fault("a bad edit object")
def test_bad_lengths_are_refused(make_edit):
    content = encode(make_edit())
    check_refused(b"", "0 bytes")
    check_refused(content[:5], "5 bytes")
    check_refused((100 * 2**20).to_bytes(8, "little") + content[8:], "a header of 104857600 bytes")
    check_refused((2**63).to_bytes(8, "little") + content[8:], "a header of")
    check_refused((len(content)).to_bytes(8, "little") + content[8:], "cut off")
    check_refused(content[:-1], "safetensors refuses")
    check_refused(content + b"\0", "safetensors refuses")


@pytest.mark.fault("a bad edit object")
def test_a_header_that_is_no_json_object_is_refused():
    check_refused(join("[1]", b""), "list as the header")
    check_refused(join("{", b""), "malformed JSON")
    check_refused(join('{"a":' * 10**5, b""), "in one another")
    check_refused(join('{"a":' + "9" * 10**4 + "}", b""), "a number of 10,000 digits")
    check_refused((8).to_bytes(8, "little") + b"\xff" * 8, "not UTF-8")
    check_refused((8).to_bytes(8, "little") + b"{}".ljust(8), "no __metadata__")


@pytest.mark.fault("a bad edit object")
def test_a_key_twice_in_the_header_is_refused(make_edit):
    header, payload = split(encode(make_edit()))
    text = json.dumps(header)
    entry = json.dumps(header[f"{NAME}.new"])
    check_refused(join(f'{text[:-1]}, "{NAME}.new": {entry}}}', payload), "twice in the header")


@pytest.mark.fault("a bad edit object")
def test_spaces_in_the_header_are_refused(make_edit):
    header, payload = split(encode(make_edit()))
    check_refused(join(json.dumps(header), payload), "canonical form")


@pytest.mark.fault("a bad edit object")
def test_tensors_in_another_order_are_refused(make_edit):
    header, payload = split(encode(make_edit()))
    new, old = header[f"{NAME}.new"], header[f"{NAME}.old"]
    new["data_offsets"], old["data_offsets"] = old["data_offsets"], new["data_offsets"]
    check_refused(join(header, payload), "canonical form")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_bytes_give_no_other_error(make_edit, data):
    content = bytearray(encode(make_edit()))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    try:
        read = decode(bytes(content), "x")
    except DiffFileError:
        return
    assert encode(read) == bytes(content)


# --- edits that can't be stored -------------------------------------------------------------------


def with_diff(edit: EditObject, **changes) -> EditObject:
    diff = edit.parameters[0]
    values = {name: getattr(diff, name) for name in ("parameter", "layout", "indices", "old", "new")}
    changed = ParameterDiff(**{**values, **changes})
    return EditObject(edit.fingerprint, edit.recipe, (changed,), edit.layers, edit.shapes)


def with_recipe(edit: EditObject, recipe) -> EditObject:
    return EditObject(edit.fingerprint, OtherRecipe(edit.kind, recipe), edit.parameters, edit.layers, edit.shapes)


@pytest.mark.parametrize(
    "change",
    [
        lambda edit: with_diff(edit, indices=torch.tensor([1, 3, 4], dtype=torch.int32)),
        lambda edit: with_diff(edit, indices=torch.tensor([3, 1, 4])),
        lambda edit: with_diff(edit, indices=torch.tensor([[1, 3, 4]])),
        lambda edit: with_diff(edit, indices=torch.tensor([1, 3, 6])),
        lambda edit: with_diff(edit, new=edit.parameters[0].new.double()),
        lambda edit: with_diff(edit, new=edit.parameters[0].new[:2]),
        lambda edit: with_diff(edit, new=edit.parameters[0].old),
        lambda edit: with_diff(edit, new=edit.parameters[0].new / 0),
        lambda edit: with_diff(edit, new=edit.parameters[0].new.int()),
        lambda edit: with_diff(edit, new=torch.tensor(1.0)),
        lambda edit: with_diff(edit, parameter="unknown"),
        lambda edit: with_recipe(edit, {"a": math.nan}),
        lambda edit: with_recipe(edit, {"a": object()}),
        lambda edit: with_recipe(edit, {"a": "\ud800"}),
        lambda edit: with_recipe(edit, {1: 2, "1": 3}),
        lambda edit: EditObject("", OtherRecipe(edit.kind), edit.parameters, edit.layers, edit.shapes),
        lambda edit: EditObject("f", OtherRecipe(edit.kind), edit.parameters * 2, edit.layers, edit.shapes),
        lambda edit: EditObject("f", OtherRecipe(edit.kind), (), {}, {}),
    ],
)
def test_what_could_not_be_read_back_is_not_encoded(make_edit, change):
    with pytest.raises(EditError, match=r"can't be stored: it has .* \(expected: "):
        encode(change(make_edit()))
