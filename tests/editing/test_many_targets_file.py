"""Plans that were stopped while they looked for targets: they go on, and end in the same bytes."""

from __future__ import annotations

import pytest
import torch
from tiny_models import tiny_model

from kndb.editing.many import covariance as covariances
from kndb.editing.many import targets
from kndb.editing.many.layerwise import change_layers
from kndb.editing.many.sentences import Rewrite, Sentence
from kndb.editing.many.targets import Targets
from kndb.editing.many.targets_file import TargetsFile
from kndb.editing.many.workspace import Workspace
from kndb.editing.objects.diff_file import encode
from kndb.editing.planning.recipes import TRIED
from kndb.errors import EditError
from kndb.models.network import Network
from kndb.models.registry import adapter_for
from kndb.records.many_settings import MemitSettings, TargetSettings

SETTINGS = MemitSettings(rounds=2, target=TargetSettings(steps=6, bound=10.0))


class StoppedError(Exception):
    pass


@pytest.fixture(scope="module")
def network() -> Network:
    model = tiny_model("gpt2", 4).requires_grad_(False).eval()
    return Network(model, adapter_for(model.config))


def facts(count: int = 7) -> list[Rewrite]:
    generator = torch.Generator().manual_seed(2)
    drawn = [tuple(torch.randint(1, 50, (5,), generator=generator).tolist()) for _ in range(count)]
    return [Rewrite((Sentence(ids, 3, (4,), (number + 1,)),)) for number, ids in enumerate(drawn)]


def counted(network: Network) -> dict[int, covariances.Covariance]:
    sentences = [fact.sentences[0] for fact in facts(40)[10:]]
    origin = covariances.Origin("f" * 64, "v1", "texts", "every", 30, "0" * 64)
    return covariances.count_keys(network, sentences, {1: covariances.empty(1, network.neurons, origin)})


def plan(network: Network, saved: TargetsFile | None, stop_after: int | None = None) -> bytes:
    calls = []

    def progress(_done: int, _total: int) -> None:
        calls.append(1)
        if len(calls) == stop_after:
            raise StoppedError

    with Workspace(network) as workspace:
        change_layers(workspace, facts(), [1], SETTINGS, counted(network), None, progress, saved)
        return encode(workspace.edit(fingerprint="f" * 64, recipe=TRIED))


@pytest.mark.parametrize("stop_after", range(1, 8))
def test_a_plan_that_goes_on_ends_in_the_same_bytes(network, tmp_path, monkeypatch, stop_after):
    monkeypatch.setattr(targets, "_REWRITES_AT_ONCE", 2)
    whole = plan(network, None)
    path = tmp_path / "plan.safetensors"
    with pytest.raises(StoppedError):
        plan(network, TargetsFile(path, "a plan"), stop_after)
    assert plan(network, TargetsFile(path, "a plan")) == whole
    done = TargetsFile(path, "a plan").of_round(1)
    assert done is not None
    assert len(done.added) == 7


def test_what_was_found_is_not_looked_for_again(network, tmp_path):
    saved = TargetsFile(tmp_path / "plan", "a plan")
    plan(network, saved)
    with Workspace(network) as workspace:
        told: list[int] = []
        change_layers(workspace, facts(), [1], SETTINGS, counted(network), None, lambda *_: told.append(1), saved)
    assert told == []
    saved.remove()
    assert list(tmp_path.iterdir()) == []
    saved.remove()


def test_a_file_of_another_plan_counts_as_none(tmp_path):
    found = Targets(torch.ones(2, 3).double(), torch.ones(2).double(), torch.ones(2, dtype=torch.int64))
    TargetsFile(tmp_path / "plan", "a plan").keep(0, found)
    again = TargetsFile(tmp_path / "plan", "a plan").of_round(0)
    assert again is not None
    assert torch.equal(again.added, found.added)
    assert TargetsFile(tmp_path / "plan", "another one").of_round(0) is None


@pytest.mark.fault("targets that can't be read")
def test_a_file_of_something_else_is_refused(tmp_path):
    (tmp_path / "plan").write_bytes(b"no safetensors")
    with pytest.raises(EditError, match="can't be read as targets of a plan"):
        TargetsFile(tmp_path / "plan", "a plan")


def test_a_folder_that_is_missing_is_named(tmp_path):
    found = Targets(torch.ones(2, 3).double(), torch.ones(2).double(), torch.ones(2, dtype=torch.int64))
    with pytest.raises(EditError, match="can't be written"):
        TargetsFile(tmp_path / "none" / "plan", "a plan").keep(0, found)
