"""A checkpoint's own chat template, and prompts wrapped in it.

The text before a prompt's blank is what a user says, and the answer is what the assistant says first. Of a text with a
question in it, what stands between the last question mark and the blank is the assistant's beginning, after which the
answer comes ("What is the capital of France? It is [Y]"). Nothing is added that the template does not add. The template
is rendered once, with a mark in place of the user's text, so that a prompt can never change how it is read.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..advice import option
from ..errors import FingerprintError, ModelError
from .checkpoint_files import TOKENIZER_CONFIGURATION

TEMPLATE = "chat_template.jinja"
MOST_BYTES = 1_000_000
WALL_SECONDS = 60
"""How long a template may take, whatever else the machine does; its processor time is limited beside it."""
_QUESTION = re.compile(r"[?\u061f][\"'\u201d\u2019\u00bb)\]]*(?=\s|$)|\uff1f[\u201d\u2019\u300d\u300f\uff09]*")
"""A question mark with what closes after it: of scripts with spaces, only where one follows."""
_TEXT, _ANSWER = "kndbUSERTEXTkndb", "kndbANSWERkndb"


@dataclass(frozen=True)
class ChatTemplate:
    """A checkpoint's chat template.

    Attributes:
        path: the file that has it.
        text: the template, in Jinja.
    """

    path: Path
    text: str

    @property
    def sha256(self) -> str:
        """Of its text, in hex."""
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True)
class ChatFrame:
    """What a chat template writes around a user's text, up to the assistant's answer."""

    start: str
    middle: str

    def wrap(self, text: str, subject: tuple[int, int] | None = None) -> str:
        """The text before a blank in the frame; see `turns`."""
        user, assistant = turns(text, subject)
        return f"{self.start}{user}{self.middle}{assistant}"


def turns(text: str, subject: tuple[int, int] | None = None) -> tuple[str, str]:
    """What the user says and how the assistant begins, of the text before a blank.

    The whitespace around the user's words, and before the assistant's, goes: the template has its own. That before the
    blank stays.

    Args:
        text: the text before a blank.
        subject: where its subject begins and ends, if that is known: question marks in a name ask nothing.
    """
    start, stop = subject or (0, 0)
    ends = [found.end() for found in _QUESTION.finditer(text) if not start <= found.start() < stop]
    cut = ends[-1] if ends else len(text)
    return text[:cut].strip(), text[cut:].lstrip()


def find_template(folder: Path) -> ChatTemplate:
    """A checkpoint's chat template: `chat_template.jinja`, else the one in `tokenizer_config.json`.

    Raises:
        ModelError: if there is none, or it can't be read.
    """
    alone, configuration = folder / TEMPLATE, folder / TOKENIZER_CONFIGURATION
    try:
        if alone.is_file():
            return ChatTemplate(alone, _read(alone))
        found = json.loads(configuration.read_text(encoding="utf-8")).get("chat_template")
    except FileNotFoundError:
        found = None
    except (OSError, ValueError, RecursionError, AttributeError) as error:
        raise ModelError(f"{folder} has a chat template that can't be read: {error}") from error
    if isinstance(found, list):
        found = {one.get("name"): one.get("template") for one in found if isinstance(one, Mapping)}
    if isinstance(found, Mapping):
        found = found.get("default")
    if not isinstance(found, str) or not found.strip():
        raise ModelError(
            f"{folder} has no chat template (neither {TEMPLATE} nor a chat_template in {TOKENIZER_CONFIGURATION}), "
            f"which {option('chat', True)} wraps prompts in; leave {option('chat', True)} out, or name a checkpoint "
            "that was trained to chat"
        )
    return ChatTemplate(configuration, found)


def require_template(folder: Path, sha256: str) -> ChatTemplate:
    """A checkpoint's chat template, which is to be the one that was registered.

    Raises:
        FingerprintError: if it is another one, or gone.
    """
    try:
        found = find_template(folder)
    except ModelError as error:
        raise FingerprintError(
            f"{folder} no longer has the chat template that was registered ({sha256[:12]}): put it back, or register "
            "the checkpoint as another model"
        ) from error
    if found.sha256 != sha256:
        raise FingerprintError(
            f"{found.path} has another chat template than the one that was registered ({found.sha256[:12]}, not "
            f"{sha256[:12]}): prompts would be fed otherwise. Put the registered one back, or register the checkpoint "
            "as another model"
        )
    return found


def frame_of(template: ChatTemplate, special: Mapping[str, str]) -> ChatFrame:
    """What a template writes around a user's text.

    Args:
        template: the template.
        special: the special tokens that it may name, such as `bos_token`, with their texts.

    Raises:
        ModelError: if it raises an error, takes too long or too much, or does not show the user's text once.
    """
    user, assistant = {"role": "user", "content": _TEXT}, {"role": "assistant", "content": _ANSWER}
    around = {**special, "tools": None, "documents": None}
    asked = {**around, "messages": [user], "add_generation_prompt": True}
    (text,) = _render(template, asked)
    try:
        (answered,) = _render(template, {**around, "messages": [user, assistant], "add_generation_prompt": False})
    except ModelError:
        answered = ""
    # Some templates put a space between what opens the assistant's turn and its words.
    up_to_answer = answered.partition(_ANSWER)[0]
    if _ANSWER in answered and up_to_answer.startswith(text) and not up_to_answer[len(text) :].strip():
        text = up_to_answer
    if text.count(_TEXT) != 1:
        raise ModelError(
            f"{template.path} can't wrap prompts: it writes the user's message as it is {text.count(_TEXT)} times, "
            f"and must write it once; leave {option('chat', True)} out"
        )
    start, _, middle = text.partition(_TEXT)
    return ChatFrame(start, middle)


def _render(template: ChatTemplate, *variables: Mapping[str, Any]) -> list[str]:
    task = {"path": sys.path, "template": template.text, "variables": variables}
    program = [sys.executable, "-I", str(Path(__file__).with_name("chat_renderer.py"))]
    try:
        done = subprocess.run(  # noqa: S603
            program, input=json.dumps(task), capture_output=True, text=True, encoding="utf-8", timeout=WALL_SECONDS
        )
        answer = json.loads(done.stdout) if done.stdout else {}
    except subprocess.TimeoutExpired:
        answer = {}
    except (OSError, ValueError) as error:
        answer = {"error": str(error)}
    if "texts" not in answer:
        reason = answer.get("error", "it does not come to an end")
        raise ModelError(f"{template.path} can't wrap prompts: {reason}; leave {option('chat', True)} out")
    return [str(text) for text in answer["texts"]]


def _read(path: Path) -> str:
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"it is larger than {MOST_BYTES:,} bytes")
    return path.read_text(encoding="utf-8")
