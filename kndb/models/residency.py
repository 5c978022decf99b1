"""Which of a model's weights are where it is computed, when not all of them are kept there.

Everything is computed on one device. What is kept elsewhere (in the CPU's memory, on the disk, on another GPU) is
*brought* there when it is needed, one layer at a time: bringing a layer puts the one before it away. A layer that is
asked for again while it is there costs nothing, so that going up through the layers and down again reads the topmost
once.

A parameter that is not there holds not-a-number everywhere (one number, seen at every index), so that whatever is
computed with it by mistake shows, and its shape, dtype and device can be asked as ever.

Always there: norms and biases, and whatever lies outside of the layers (position embeddings, a head's transform), but
for the word embeddings, the head's matrix and an encoder. These are small, and families' adapters read them anywhere.
Of word embeddings, only the rows of the tokens that are asked are read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from .adapter import Adapter
from .paths import resolve
from .stored_values import InMemory, StoredValues

HEAD = "head"
"""The group of the head's matrix."""


@dataclass
class _Kept:
    """A parameter that is brought when it is needed.

    Attributes:
        name: among the model's parameters.
        parameter: the model's own; its data changes.
        values: from where.
        absent: its data while it is not there.
    """

    name: str
    parameter: nn.Parameter
    values: StoredValues
    absent: torch.Tensor

    @property
    def present(self) -> bool:
        return self.parameter.data.data_ptr() != self.absent.data_ptr()


class Residency:
    """Brings parameters to where they are computed.

    Args:
        model: the model; its parameters have no values yet.
        adapter: of its family.
        layers: the path of each layer.
        homes: the device on which each parameter is kept.
        values: each parameter's values, by name.

    Attributes:
        reads: how often each parameter was brought, by name.
        most_bytes: bytes of parameters that were there at once at most, those that always are included.
    """

    def __init__(
        self,
        model: nn.Module,
        adapter: Adapter,
        layers: Sequence[str],
        homes: Mapping[str, str],
        values: Mapping[str, StoredValues],
    ) -> None:
        self._model, self._layers, self._homes = model, list(layers), homes
        self._values = dict(values)
        self._parameters = dict(model.named_parameters())
        self._words = cast("Any", model).get_input_embeddings().weight
        self._group_of = _groups(model, adapter, layers, self._words)
        self._groups: dict[str, list[_Kept]] = {}
        self._brought: list[_Kept] = []
        self._spare: dict[tuple[tuple[int, ...], torch.dtype], list[torch.Tensor]] = {}
        self.reads: Counter[str] = Counter()
        self._always = 0
        self.most_bytes = 0
        self._hook()

    def hold(self, names: Iterable[str]) -> dict[str, torch.Tensor]:
        """Parameters that are to be written to, in the dtype in which they are stored: kept in memory from now on.

        Names that the model lacks are left out. Before `settle`.
        """
        found = {}
        for name in names:
            if name in self._values:
                values = self._values[name]
                if not isinstance(values, InMemory):
                    values = InMemory(values.read())
                self._values[name] = values
                found[name] = values.values
        return found

    def settle(self, device: torch.device, dtype: torch.dtype) -> None:
        """Chooses what computes, and in what; brings there what is to be there always."""
        self._groups, self._brought, self._spare, self._always = {}, [], {}, 0
        for name, parameter in self._parameters.items():
            group, home = self._group_of.get(name), self._homes[name]
            if group is None or _same(home, device):
                values = torch.empty(parameter.shape, dtype=dtype, device=device)
                self._values[name].fill(values)
                parameter.data = values
                self._always += parameter.nbytes
                continue
            values_there = self._values[name]
            if home not in ("cpu", "disk") or (home == "cpu" and not isinstance(values_there, InMemory)):
                values_there = InMemory(values_there.read().to(home))
            absent = torch.full((1,), torch.nan, dtype=dtype, device=device).expand(parameter.shape)
            parameter.data = absent
            self._groups.setdefault(group, []).append(_Kept(name, parameter, values_there, absent))
        for name, buffer in list(self._model.named_buffers()):
            owner, _, own = name.rpartition(".")
            setattr(resolve_module(self._model, owner), own, buffer.to(device))
        self._note()

    def bring_layer(self, number: int, name: str | None = None) -> None:
        """Brings a layer, or of it one parameter alone, unless it is there; other layers are put away."""
        self._bring(self._layers[number], name)

    @contextmanager
    def head(self) -> Iterator[None]:
        """Brings the head's matrix while the block lasts."""
        mine = [one for one in self._groups.get(HEAD, ()) if not one.present]
        try:
            for one in mine:
                data = torch.empty(one.parameter.shape, dtype=one.absent.dtype, device=one.absent.device)
                self._fill(one, data)
            self._note()
            yield
        finally:
            for one in mine:
                one.parameter.data = one.absent

    def layer_reads(self, number: int) -> int:
        """How often the weights of a layer were brought: of its parameters, the one that was brought most often."""
        return max((self.reads[one.name] for one in self._groups.get(self._layers[number], ())), default=0)

    @property
    def bytes_needed(self) -> int:
        """Bytes of parameters that must be there at once: those that always are, the head and the largest layer."""
        sizes = {group: sum(one.parameter.nbytes for one in some) for group, some in self._groups.items()}
        return self._always + sizes.pop(HEAD, 0) + max(sizes.values(), default=0)

    def _bring(self, group: str, name: str | None = None) -> None:
        every = self._groups.get(group, [])
        wanted = [one for one in every if name is None or one.name == name]
        belonging = {one.name for one in every}
        for one in self._brought:
            if one.name not in belonging:
                self._spare.setdefault((one.parameter.shape, one.absent.dtype), []).append(one.parameter.data)
                one.parameter.data = one.absent
        self._brought = [one for one in self._brought if one.name in belonging]
        for one in wanted:
            if not one.present:
                self._fill(one, self._memory_for(one))
                self._brought.append(one)
        self._spare.clear()
        self._note()

    def _memory_for(self, one: _Kept) -> torch.Tensor:
        spare = self._spare.get((one.parameter.shape, one.absent.dtype))
        return spare.pop() if spare else torch.empty(one.absent.shape, dtype=one.absent.dtype, device=one.absent.device)

    def _fill(self, one: _Kept, data: torch.Tensor) -> None:
        one.values.fill(data)
        one.parameter.data = data
        self.reads[one.name] += 1

    def _note(self) -> None:
        there = sum(one.parameter.nbytes for one in self._brought)
        there += sum(one.parameter.nbytes for one in self._groups.get(HEAD, ()) if one.present)
        self.most_bytes = max(self.most_bytes, self._always + there)

    # --- the model's own forward passes ---------------------------------------------------------------------

    def _hook(self) -> None:
        """Brings modules as the model itself calls them."""
        hooked = set(self._group_of.values()) - {HEAD}
        for path in hooked:
            resolve_module(self._model, path).register_forward_pre_hook(self._before(path))
        for module in self._model.modules():
            if isinstance(module, nn.Embedding) and module.weight is self._words:
                module.padding_idx = None  # It matters for gradients of the weights only, and bounds the rows' number.
                cast("Any", module).forward = self._of_rows_asked(module.forward)

    def _before(self, path: str) -> Any:
        def bring(_module: nn.Module, _inputs: object) -> None:
            self._bring(path)

        return bring

    def _of_rows_asked(self, forward: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        """Word embeddings with the rows of the tokens that are asked in the place of all."""

        def embed(tokens: torch.Tensor) -> torch.Tensor:
            one = self._absent_words()
            if one is None:
                return forward(tokens)
            asked, place = torch.unique(tokens, return_inverse=True)
            try:
                one.parameter.data = one.values.rows(asked).to(one.absent.device, one.absent.dtype)
                return forward(place)
            finally:
                one.parameter.data = one.absent

        return embed

    def _absent_words(self) -> _Kept | None:
        kept = [one for one in self._groups.get(HEAD, ()) if one.parameter is self._words and not one.present]
        return kept[0] if kept else None


def _groups(model: nn.Module, adapter: Adapter, layers: Sequence[str], words: nn.Parameter) -> dict[str, str]:
    """With which others each parameter is brought, by its name; what is always there is left out."""
    output = cast("Any", model).get_output_embeddings()
    matrices = {id(words)} | ({id(output.weight)} if output is not None and hasattr(output, "weight") else set())
    small = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    found = {}
    for name, parameter in model.named_parameters():
        owner = name.rpartition(".")[0]
        if id(parameter) in matrices:
            found[name] = HEAD
        elif parameter.ndim < 2 or id(parameter) in small:
            continue
        elif layer := next((path for path in layers if name.startswith(f"{path}.")), None):
            found[name] = layer
        elif adapter.encoder is not None and name.startswith(f"{adapter.encoder}."):
            found[name] = owner
    return found


def resolve_module(model: nn.Module, path: str) -> nn.Module:
    """The module at a path; the model at the empty one."""
    return cast("nn.Module", resolve(model, path)) if path else model


def _same(home: str, device: torch.device) -> bool:
    """Whether a home is the device that computes."""
    if home == "disk":
        return False
    named = torch.device(home)
    return named.type == device.type and (named.index or 0) == (device.index or 0)
