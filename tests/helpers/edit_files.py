"""Files of edits and edit objects taken apart, and put together again with anything in them, as kndb writes them."""

from __future__ import annotations

import io
import json
import zipfile

from fuzzing import as_text

from kndb.exchange import edit_bundle


def archive(manifest: bytes, objects: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as file:
        for name, data in (
            ("manifest.json", manifest),
            *((f"objects/{key}.safetensors", objects[key]) for key in objects),
        ):
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            file.writestr(entry, data)
    return content.getvalue()


def manifest_of(bundle):
    with zipfile.ZipFile(io.BytesIO(edit_bundle.encode(bundle))) as file:
        return json.loads(file.read("manifest.json"))


def written(manifest, objects) -> bytes:
    text = as_text(manifest, ensure_ascii=False, indent=1, sort_keys=True) + "\n"
    return archive(text.encode("utf-8", "surrogatepass"), objects)


def header_of(content: bytes):
    """An object's header, with the JSON texts in it as values, and its payload."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    for key in {"recipe", "parameters", "tensors"} & header["__metadata__"].keys():
        header["__metadata__"][key] = json.loads(header["__metadata__"][key])
    return header, content[8 + length :]


def object_of(header, payload: bytes) -> bytes:
    header = json.loads(json.dumps(header))
    about = header.get("__metadata__")
    if isinstance(about, dict):
        for key in {"recipe", "parameters", "tensors"} & about.keys():
            about[key] = as_text(about[key], sort_keys=True, separators=(",", ":"))
    text = as_text(header, sort_keys=True, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + payload
