"""One attribution from its request to its report: choose facts, load, encode, compute and write batch by batch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from ...advice import Placeholder, call, option
from ...attribution.settings import AttributionSettings
from ...errors import AttributionError, UsageError
from ...models.device_maps import as_read
from ...models.devices import device_for
from ...models.prompting import Encoder
from ...records.attribution import AttributionReport
from ...records.facts import Prompt
from ...records.models import StoredSettings
from ...records.progress import Progress
from ...records.skip_reasons import SKIP_REASONS
from ...records.work import FailedItem, WorkEngine
from ...store import runs as store_runs
from ...store.engine import Store
from ...store.free_prompts import add_free_prompts
from ...store.run_errors import run_errors
from ...store.selection import Selection, select_facts
from ..background import BackgroundWriter
from ..models import ModelCommands, question_text
from .computing import Computer, OwnComputer, Workers
from .encoding import encode
from .request import AttributionRequest, example_of
from .saving import RunIdentity, RunSaver


def attribute(
    store: Store,
    models: ModelCommands,
    request: AttributionRequest,
    settings: AttributionSettings,
    progress: Progress | None = None,
    engine: WorkEngine | None = None,
) -> AttributionReport:
    """See `AttributionCommands.run_request`."""
    settings = replace(settings, device_map=as_read(settings.device_map))
    if engine is None or not engine.remote:
        device_for(settings.device, settings.dtype)  # A device that is not here is refused at once.
    stored = {**settings.as_settings(), "held_out": request.held_out, "target": request.target}
    stored |= _prompts_setting(models, request.model)
    facts = _chosen_facts(store, request, settings.seed)
    if request.run is not None:
        _require_same(store, models, request, settings.method, stored)
    computer = _computer(store, models, request, settings, engine)
    if request.prompts:
        facts = [_stored_free_prompts(store, computer.encoder, request)]
    identity = RunIdentity(computer.record.id, computer.version, settings.method, stored)
    work = _open_work(store, identity, facts, held_out=request.held_out)
    encoded, skipped = encode(computer.encoder, work.pending, request.target)
    saver = RunSaver(store, identity, skipped, facts)
    started, done, attributed = time.monotonic(), 0, 0
    with BackgroundWriter(saver.save) as writer, closing(computer.batches(encoded, saver.open)) as batches:
        for computed in batches:
            writer.submit(computed)
            results = computed.batch.results
            done += len(results)
            attributed += sum(result.skipped is None for result in results)
            if progress is not None:
                progress(done, len(encoded))
    texts = {prompt.id: prompt.text for prompt in work.pending}
    run_id = saver.open()
    seconds = time.monotonic() - (computer.began or started)
    with store.writing() as connection:
        finished, unfinished = store_runs.finish_run(connection, run_id, held_out=request.held_out)
    with store.reading() as connection:
        return AttributionReport(
            run=finished,
            resumed=work.run_id is not None,
            attributed=attributed,
            already_done=work.total - len(work.pending) - work.skipped,
            skipped=store_runs.skip_counts(connection, run_id),
            unfinished=unfinished,
            held_out=work.held_out,
            seconds=seconds,
            seconds_writing=writer.waited,
            device=computer.device,
            trust=store_runs.trust(connection, run_id),
            errors=run_errors(connection, finished),
            facts=len(facts),
            free_fact=facts[0] if request.prompts else None,
            workers=computer.workers,
            threads=computer.threads,
            failed=tuple(FailedItem(prompt, texts[prompt], error) for prompt, error in computer.failed),
        )


def _computer(
    store: Store,
    models: ModelCommands,
    request: AttributionRequest,
    settings: AttributionSettings,
    engine: WorkEngine | None,
) -> Computer:
    if engine is not None and engine.remote:
        return Workers(store, models, request.model, request.version, settings, engine)
    return OwnComputer(models, request.model, request.version, settings)


def _prompts_setting(models: ModelCommands, name: str) -> dict[str, str]:
    """The chat template that a model's prompts are wrapped in, which is a setting of its runs; nothing without one."""
    template = models.get(name).chat_template
    return {} if template is None else {"chat_template": template}


@dataclass(frozen=True)
class _Work:
    """What there is to do.

    Attributes:
        run_id: the run, if it is there already.
        pending: the prompts without a result in it.
        total: all prompts of the chosen facts.
        skipped: those of them that were skipped before.
        held_out: prompts of held-out templates that are left out.
    """

    run_id: int | None
    pending: list[Prompt]
    total: int
    skipped: int
    held_out: int


def _open_work(store: Store, identity: RunIdentity, facts: Sequence[int], *, held_out: bool) -> _Work:
    with store.reading() as connection:
        total = store_runs.count_prompts(connection, facts, held_out=held_out)
        everything = store_runs.count_prompts(connection, facts, held_out=True)
        one = identity
        run_id = store_runs.find_run(connection, one.model_id, one.version, one.method, one.settings)
        pending = store_runs.pending_prompts(connection, run_id, facts, held_out=held_out)
        skipped = 0 if run_id is None else store_runs.count_skipped(connection, run_id, facts, held_out=held_out)
    return _Work(run_id, pending, total, skipped, 0 if held_out else everything - total)


def _chosen_facts(store: Store, request: AttributionRequest, seed: int) -> list[int]:
    """The facts of the store that are asked for; none for free prompts, which are not there yet."""
    if request.prompts:
        return []
    selection = request.selection(seed)
    with store.reading() as connection:
        found = select_facts(connection, selection, held_out=request.held_out)
    if not found:
        raise AttributionError(_nothing_to_attribute(selection))
    return list(found)


def _nothing_to_attribute(selection: Selection) -> str:
    if selection.narrowed or selection.relations:
        return (
            "none of the chosen facts has prompts to attribute; those of held-out templates count with "
            f"{option('held_out', True)}. See: {call('facts.find')}"
        )
    return f"the store has no prompts to attribute; add some with: {call('facts.ingest', [Placeholder('PATH')])}"


def _stored_free_prompts(store: Store, encoder: Encoder, request: AttributionRequest) -> int:
    """Stores free prompts that this model can be asked, and gives their fact's number."""
    assert request.answer is not None, "a request with prompts has an answer"
    answer, texts = request.answer.strip(), []
    for prompt in request.free_prompts:
        text = question_text(prompt, encoder.blank, example_of(request.model))
        _, skipped = encode(encoder, [Prompt(0, 0, text, answer)], request.target)
        if skipped:
            raise UsageError(f"the prompt {prompt!r} can't be asked: {SKIP_REASONS[skipped[0].reason]}")
        texts.append(text)
    with store.writing() as connection:
        return add_free_prompts(connection, texts, answer)


def _require_same(
    store: Store, models: ModelCommands, request: AttributionRequest, method: str, settings: StoredSettings
) -> None:
    """Refuses to go on with a run that saw another model, version or settings: its results must not be mixed."""
    assert request.run is not None
    with store.reading() as connection:
        present = store_runs.run(connection, request.run)
    if present.model != request.model:
        raise AttributionError(
            f"run {present.id} attributed {present.model}, not {request.model}; results of two models are never mixed "
            f"in one run. Name its model with {option('model', present.model)}, or leave out {option('run')} for a run "
            "of its own"
        )
    resolved = models.resolve_version(request.model, request.version)
    if present.version != resolved:
        raise AttributionError(
            f"run {present.id} attributed version {present.version} of {present.model}, not version {resolved}; "
            f"results of two versions are never mixed in one run. Leave out {option('run')} for a run of its own, or "
            f"name the run's version with {option('version', present.version)}"
        )
    wanted = {"method": method, **settings}
    have = {"method": present.method, **present.settings}
    differing = [name for name in {**have, **wanted} if have.get(name) != wanted.get(name)]
    if differing:
        # These two decide which other settings there are.
        name = next((one for one in ("method", "quadrature") if one in differing), differing[0])
        raise AttributionError(
            f"run {present.id} has {name}={have.get(name)!r}, not {name}={wanted.get(name)!r}; results of different "
            f"settings are never mixed in one run. Leave out {option('run')} for a run of its own, or give the run's "
            f"settings, which are listed by: {call('query.runs', model=present.model)}"
        )
