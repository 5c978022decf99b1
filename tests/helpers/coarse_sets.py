"""Coarse sets and what follows from them, in plain Python over rows read with sqlite3; nothing here uses kndb."""

import json
import sqlite3
from contextlib import closing
from itertools import combinations


class Rows:
    """A refinement of a database file, as the definitions read it.

    Attributes:
        settings: of the refinement.
        coarse: fact to prompt to {(layer, neuron): score}, for every attributed prompt.
        refined: fact to its set of (layer, neuron).
        relation: fact to its relation's key.
        share: relation to the share that was used.
    """

    def __init__(self, path, refinement):
        with closing(sqlite3.connect(path)) as connection:
            run, settings = connection.execute(
                "SELECT run_id, settings FROM refinement WHERE id = ?", (refinement,)
            ).fetchone()
            self.settings = json.loads(settings)
            fact_of = dict(connection.execute("SELECT id, fact_id FROM prompt"))
            self.relation = dict(
                connection.execute("SELECT fact.id, key FROM fact JOIN relation ON relation.id = relation_id")
            )
            self.share = dict(
                connection.execute(
                    "SELECT key, share FROM refinement_relation JOIN relation ON relation.id = relation_id"
                    " WHERE refinement_id = ?",
                    (refinement,),
                )
            )
            self.refined = {fact: set() for fact in self.relation}
            for fact, layer, neuron in connection.execute(
                "SELECT fact_id, layer, neuron FROM knowledge_neuron WHERE refinement_id = ?", (refinement,)
            ):
                self.refined[fact].add((layer, neuron))
            limits = self._limits(connection, run)
            self.coarse = {}
            for prompt in limits:
                self.coarse.setdefault(fact_of[prompt], {})[prompt] = {}
            for prompt, layer, neuron, score in connection.execute(
                "SELECT prompt_id, layer, neuron, score FROM score WHERE run_id = ?", (run,)
            ):
                if limits[prompt](score):
                    self.coarse[fact_of[prompt]][prompt][layer, neuron] = score

    def _limits(self, connection, run):
        """For each attributed prompt, whether a score reaches its threshold."""
        threshold, negative = self.settings.get("threshold", 2), self.settings.get("negative")

        def reaches(largest, smallest):
            if negative:
                return lambda score: smallest < 0 and score <= threshold * smallest
            return lambda score: largest > 0 and score >= threshold * largest

        rows = connection.execute("SELECT prompt_id, max_score, min_score FROM prompt_result WHERE run_id = ?", (run,))
        return {prompt: reaches(largest, smallest) for prompt, largest, smallest in rows if largest is not None}

    def consistency(self, fact):
        """The mean Jaccard index over all pairs of a fact's coarse sets that are not both empty; None without any."""
        values = []
        for one, other in combinations([set(members) for members in self.coarse.get(fact, {}).values()], 2):
            if one | other:
                values.append(len(one & other) / len(one | other))
        return sum(values) / len(values) if values else None
