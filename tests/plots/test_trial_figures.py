"""Figures of trials: the marks stand where the measures are, with their intervals."""

import pytest

from kndb.plots import style
from kndb.plots.decay import decay_figure
from kndb.plots.methods import methods_figure
from kndb.plots.sweep import sweep_figure
from kndb.records.edits import TrialSummary


def row(part, edits, weights, settings=None, **measures):
    return TrialSummary(part, edits, settings or {}, weights, 10, 10, 4.0, measures)


def marks(axes):
    """The places of the marks of an axes, by colour: those of error bars, not of the lines between them."""
    found = {}
    for container in axes.containers:
        line = container.lines[0]
        found.setdefault(line.get_color(), []).extend(zip(line.get_xdata(), line.get_ydata(), strict=True))
    return found


def test_decay():
    rows = [
        row("single", 1, "edit", success=(0.9, 0.8, 0.95), paraphrase=(0.7, 0.5, 0.8), inter_locality=(0.99, 0.9, 1.0)),
        row("single", 1, "random neurons", success=(0.1, 0.0, 0.2)),
        row("cumulative", 1, "edit", success=(1.0, 0.2, 1.0), paraphrase=(1.0, 0.2, 1.0)),
        row("cumulative", 10, "edit", success=(0.4, 0.2, 0.7), paraphrase=(0.3, None, None)),
    ]
    figure = decay_figure(rows, "caption")
    left, right = figure.axes
    assert [label.get_text() for label in left.get_xticklabels()] == ["alone", "1", "10"]
    values = sorted(y for places in marks(left).values() for _, y in places)
    assert values == pytest.approx(sorted([0.9, 1.0, 0.4, 0.7, 1.0, 0.3, 0.1]))
    assert [y for places in marks(right).values() for _, y in places] == pytest.approx([0.99])
    for places in marks(left).values():
        for x, y in places:
            assert abs(x - {0.9: 0, 0.7: 0, 0.1: 0, 1.0: 1, 0.4: 2, 0.3: 2}[round(float(y), 6)]) < 0.2
    assert [text.get_text() for text in left.get_legend().get_texts()] == [
        "success",
        "on held-out templates",
        "the same, random neurons",
        "95 % interval over facts",
    ]
    assert "other relations: as unedited" in [text.get_text() for text in right.get_legend().get_texts()]


def test_methods():
    def measured(success, perplexity):
        others = dict.fromkeys(("PS", "NS", "S", "flips_others"), (0.5, 0.4, 0.6))
        return {
            "success": (success, success - 0.1, success + 0.1),
            "perplexity_others": (perplexity, 0.9 * perplexity, 2 * perplexity),
            **others,
        }

    rows = [
        row("compared", size, weights, {"method": method}, **measured(success, 1.5 * size))
        for method, start in (("together", 0.9), ("memit", 0.7))
        for size, success in ((1, start), (10, start - 0.2))
        for weights in ("edit", "random neurons")
    ]
    figure = methods_figure(rows, "caption")
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "success",
        "paraphrase score (PS)",
        "neighbourhood score (NS)",
        "score S of ES, PS, NS",
        "others: perplexity ×",
        "others: answers that flip",
    ]
    first, perplexity = figure.axes[0], figure.axes[4]
    assert [label.get_text() for label in figure.axes[3].get_xticklabels()] == ["1", "10"]
    found = marks(first)
    assert len(found) == 2
    heights = [[float(y) for _, y in places] for places in found.values()]
    assert heights == [pytest.approx([0.9, 0.7]), pytest.approx([0.7, 0.5])]
    for places in found.values():
        assert [round(float(x)) for x, _ in places] == [0, 1]
    assert perplexity.get_yscale() == "log"
    (legend,) = figure.plots.legends
    assert [text.get_text() for text in legend.get_texts()] == ["together", "memit", "95 % interval over facts"]
    assert style.render(figure, ".svg") == style.render(methods_figure(rows, "caption"), ".svg")


def test_sweep():
    rows = [
        row("cell", 1, "edit", {"neurons": size, "lambda_new": factor, "method": "update"},
            success=(factor / 10, 0.0, 1.0), intra_locality=(1 - factor / 20, 0.2, 1.0),
            inter_locality=(1.0, None, None))
        for size in (1, None) for factor in (2.0, 8.0)
    ]  # fmt: skip
    figure = sweep_figure([*rows, row("cell", 1, "random neurons", {"neurons": 1, "lambda_new": 2.0})], "caption")
    left, right = figure.axes
    found = marks(left)
    assert len(found) == 2, "a colour for each number of neurons"
    for places in found.values():
        assert places == [pytest.approx((0.1, 0.2)), pytest.approx((0.4, 0.8))]
    assert all(x == pytest.approx(0) for places in marks(right).values() for x, _ in places)
    (legend,) = figure.plots.legends
    expected = ["1 neuron", "all neurons", "λ₂ 2", "λ₂ 8", "95 % intervals"]
    assert [text.get_text() for text in legend.get_texts()] == expected


def test_marks_of_a_sweep_that_coincide_stand_side_by_side():
    same = {"success": (0.5, 0.4, 0.6), "intra_locality": (0.9, 0.8, 1.0), "inter_locality": (1.0, 0.9, 1.0)}
    apart = {**same, "success": (0.9, 0.8, 1.0)}
    rows = [row("cell", 1, "edit", {"neurons": size}, **same) for size in (1, 2, 4)]
    rows.append(row("cell", 1, "edit", {"neurons": None}, **apart))
    figure = sweep_figure(rows, "caption")
    with style.own_settings():
        figure.draw_without_rendering()
    for axes in figure.axes:
        places = [
            container.lines[0].get_transform().transform(container.lines[0].get_xydata())[0]
            for container in axes.containers
        ]
        right = axes.transData.transform((0.1 if axes is figure.axes[0] else 0.0, 0.5))
        steps = [(x - right[0]) / figure.dpi * 72 for x, _ in places]
        assert sorted(steps[:3]) == pytest.approx([-6, 0, 6]), "points to the left and to the right of their place"
        assert steps[3] == pytest.approx(0), "what stands alone stays"
        assert "side by side" in axes.get_xlabel()
    assert "side by side" not in sweep_figure(rows[2:], "caption").axes[0].get_xlabel()
