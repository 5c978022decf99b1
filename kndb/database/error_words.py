"""What commands and reports say of completeness errors above the tolerance."""

from __future__ import annotations

import math

from ..advice import Placeholder, option
from ..records.attribution import RunErrors
from ..records.models import StoredSettings

LISTED = 5
"""Layers that a sentence lists."""


def errors_in_words(errors: RunErrors) -> str | None:
    """How many prompts are above the limit, in which layers, and the worst; None if none is.

    Of fixed rules it is information: nobody asked for a tolerance.
    """
    if not errors.above:
        return None
    share = 100 * errors.above / errors.prompts
    which = f"{errors.above:,} of {errors.prompts:,} prompts ({share:.1f} %)"
    if errors.asked:
        head = f"{which} stay above the tolerance of {errors.limit:g}"
    else:
        head = f"{which} have a completeness error over {errors.limit:g} (fixed rule; no tolerance was asked)"
    return f"{head}, at worst {errors.worst:.2g}: in {layers_in_words(errors)}"


def verdict_in_words(errors: RunErrors) -> str:
    """What the errors of a run that has some come down to: those above the limit, or that all are within it."""
    limit = f"the tolerance of {errors.limit:g}" if errors.asked else f"{errors.limit:g}"
    within = f"All {errors.prompts:,} prompts are within {limit}, at worst {errors.worst or 0.0:.2g}"
    return errors_in_words(errors) or within


def layers_in_words(errors: RunErrors) -> str:
    """The layers above the limit, the one with most prompts first."""
    listed = [
        f"layer {one.layer} ({one.prompts:,} {'prompt' if one.prompts == 1 else 'prompts'}, at worst {one.worst:.2g})"
        for one in errors.layers[:LISTED]
    ]
    more = len(errors.layers) - len(listed)
    if more:
        listed.append(f"{more} more {'layer' if more == 1 else 'layers'}")
    if errors.unrecorded:
        prompts = f"{errors.unrecorded:,} {'prompt' if errors.unrecorded == 1 else 'prompts'}"
        listed.append(f"layers not recorded ({prompts}, stored by an earlier kndb)")
    return ", ".join(listed)


def remedies(errors: RunErrors, settings: StoredSettings) -> str:
    """What to do about errors above the tolerance that was asked for."""
    most = settings.get("most_evaluations")
    number = 4 * most if isinstance(most, int) and not isinstance(most, bool) else Placeholder("N")
    ways = [f"allow more evaluations ({option('most_evaluations', number)})"]
    if settings.get("dtype") != "float64":
        ways.append(f"where rounding is the cause, compute in float64 ({option('dtype', 'float64')})")
    tolerance = _round_up(errors.worst or errors.limit)
    ways.append(
        f"or ask for what can be had ({option('tolerance', int(tolerance) if tolerance.is_integer() else tolerance)})"
    )
    return f"Scores of these prompts are less exact than was asked for. To change that, {', '.join(ways)}"


def _round_up(error: float) -> float:
    """The next number of 1, 2 or 5 times a power of ten that is not below an error."""
    power = 10.0 ** math.floor(math.log10(error))
    return float(f"{next((step * power for step in (1, 2, 5) if step * power >= error), 10 * power):g}")
