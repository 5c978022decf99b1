"""A store with something of everything in it, made by hand: no model computes."""

import json
import random

from kndb.records.attribution import KnowledgeNeuron, PromptResult, RelationRefinement, ResultBatch, ScoreColumns
from kndb.records.edits import SlotChange, TrialResult
from kndb.records.probes import ARMS, TEXT_KINDS, ExtremeText, FactActivation, ProbeFact
from kndb.records.recipes import read_recipe
from kndb.store import models, probes, refinements, runs, versions
from kndb.store.edits import edit as edits
from kndb.store.edits import evaluations, trials
from kndb.versions import version_id

NAME = "ti<b>ny&"
FINGERPRINT = "f" * 64
BASE = version_id(FINGERPRINT, {})
HOSTILE = "</script><script src=//evil.example/x.js>&amp;\"'$x_1$ –→ 東京 الجزائر"
RELATIONS = {"P36": "capital of", "P37": None, HOSTILE: f"label {HOSTILE}"}
FACTS_EACH, PROMPTS_EACH, LAYERS, NEURONS = 5, 4, 3, 9


def fill(database, *, experiments=True):
    """Fills an empty database: 15 facts of 60 prompts, a run and refinement, and with `experiments` all else."""
    chance = random.Random(17)
    with database.store.writing() as connection:
        model = models.add_model(
            connection, name=NAME, source="folder", fingerprint=FINGERPRINT, family="bert", layers=LAYERS,
            neurons=NEURONS, version=BASE,
        )  # fmt: skip
        versions.register_base(connection, model.id, BASE)
        facts = _add_facts(connection)
        _refine(connection, chance, facts, model.id, "integrated-gradients")
        if experiments:
            _refine(connection, chance, facts, model.id, "activation")
            _probe(connection, chance, facts, model.id)
            _edit(connection, model.id)


def _add_facts(connection):
    """Fact number to relation number; prompts are numbered on from 1, four to a fact."""
    execute, facts = connection.exec_driver_sql, {}
    for relation, (key, label) in enumerate(RELATIONS.items(), 1):
        execute("INSERT INTO relation VALUES (?, ?, ?)", (relation, key, label))
        for _ in range(FACTS_EACH):
            fact = len(facts) + 1
            facts[fact] = relation
            subject = f"{HOSTILE} {fact}" if relation == 3 else f"subject {fact}"
            execute("INSERT INTO fact VALUES (?, ?, ?, ?, NULL, 's')", (fact, relation, subject, f"o{fact % 2}"))
            for prompt in _prompts(fact):
                execute("INSERT INTO prompt VALUES (?, ?, NULL, ?)", (prompt, fact, f"{prompt} is [Y]."))
    return facts


def _prompts(fact):
    return range((fact - 1) * PROMPTS_EACH + 1, fact * PROMPTS_EACH + 1)


def _refine(connection, chance, facts, model, method):
    settings = {"floor": 0.1, "target": "gold", "held_out": False, "tolerance": 0.001}
    run, _ = runs.start_run(connection, model, BASE, method, settings)
    results, scores = [], []
    for fact in facts:
        for prompt in _prompts(fact):
            error = chance.random() / 1000 if method != "activation" else None
            results.append(
                PromptResult(prompt, 0.5, "o1", 0.5, chance.random() < 0.8, error, error, 1.0, 0.0, 12, 5, 1)
            )
            places = [(layer, neuron) for layer in range(LAYERS) for neuron in range(NEURONS)]
            scores += [(prompt, *place, chance.uniform(0.1, 1.0)) for place in sorted(chance.sample(places, 6))]
    runs.save_results(connection, run.id, ResultBatch(tuple(results), ScoreColumns(*zip(*scores, strict=True))))
    runs.finish_run(connection, run.id, held_out=False)
    outcomes = []
    for relation, key in enumerate(RELATIONS, 1):
        kept = []
        own = [fact for fact in facts if facts[fact] == relation]
        for fact in own[1:]:
            places = {(chance.randrange(LAYERS), chance.choice((0, 1, 2, 7))) for _ in range(chance.randint(1, 5))}
            kept += [KnowledgeNeuron(fact, *place, 3, 0.5) for place in sorted(places)]
        outcome = RelationRefinement(key, 0.7, 0, len(own), len(own) - 1, len(kept) / len(own))
        outcomes.append((relation, outcome, kept))
    refinements.add_refinement(connection, run.id, {"threshold": 0.2, "share": 0.7, "adapt": True}, outcomes)


def _probe(connection, chance, facts, model):
    keys = list(RELATIONS)
    common = {"model_id": model, "version": BASE, "refinement_id": 1, "settings": {"seed": 3, "facts": 2}}
    for kind in ("suppress", "amplify"):
        rows = [
            ProbeFact(fact, keys[relation - 1], arm, asked, 3, 4, 0.5, chance.random(), 1.0, 0.75, chance.random())
            for fact, relation in facts.items()
            for arm in ARMS
            for asked in ("own", "other")
        ]
        probes.add_probe(connection, kind=kind, facts=rows, **common)
    active = [
        FactActivation(fact, keys[relation - 1], kind, 2, chance.uniform(-0.5, 3))
        for fact, relation in facts.items()
        for kind in TEXT_KINDS
    ]
    texts = [
        ExtremeText(fact, rank, "head", f"{HOSTILE} {rank}", chance.random()) for fact in facts for rank in (1, 2, -1)
    ]
    probes.add_probe(connection, kind="activation", activations=active, texts=texts, **common)


def _edit(connection, model):
    fact = {"id": 2, "relation": "P36", "subject": HOSTILE, "object": "o0"}
    recipe = {"fact": fact, "old_answer": "o0", "to": HOSTILE, "neurons": ["L1.N2"]}
    recipe |= {"old_token": 3, "new_token": 4, "lambda_old": 1.0, "lambda_new": 8.0}
    changes = [SlotChange("down.1", 1, 2, "a", "b")]
    number = edits.add_edit(
        connection, model, read_recipe("update", recipe), "0" * 64, "x.safetensors", "base", changes, fact_id=2
    )
    evaluations.add_evaluation(
        connection,
        edit_id=number,
        version_before=BASE,
        version_after="v2",
        settings={"sample": 10, "seed": 4},
        measures={
            "edited": {"summary": {"ES": 0.75, "S": 0.5}, "own": {"prompts": 4, "change_rate": 0.75}},
            "control": {"summary": {"ES": 0.25}, "own": {"prompts": 4, "change_rate": 0.125}},
            "intervals": {"edited": {"summary": {"ES": [0.5, 0.875]}}, "control": {}},
        },
    )
    _compared(connection, model)


def _compared(connection, model):
    """A comparison of two methods."""
    settings = {"seed": 0, "facts": 10, "refinement": None, "sizes": [1, 10], "seeds": [0]}
    settings |= {"methods": [{"method": "together"}, {"method": "memit"}]}
    trial = trials.begin(connection, model, BASE, "bench", settings).id
    for method, size, success in (("together", 1, 1.0), ("together", 10, 0.75), ("memit", 10, 0.5)):
        found = {"edited": {"success": [success, 0.25, 1.0], "perplexity_others": [1.5, None, None]}, "control": {}}
        found |= {"facts": size, "planned": size, "neurons": 3, "seconds": 2.5, "memory": 0.5}
        part = json.dumps({"method": method, "seed": 0}, sort_keys=True)
        trials.add_result(connection, trial, TrialResult(part, size, None, found))
