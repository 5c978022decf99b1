"""Figures against their records: what is drawn, how it is labelled, and the bytes of the files."""

import itertools
import math
import random
import subprocess
import sys
from types import SimpleNamespace

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import QuadMesh
from matplotlib.colors import to_hex

from kndb.errors import OutputError, UsageError
from kndb.plots import style
from kndb.plots.activation import activation_figure
from kndb.plots.consistency import consistency_figure
from kndb.plots.counts import counts_figure
from kndb.plots.fact import KEPT, LEFT_OUT, fact_figure
from kndb.plots.layers import layers_figure
from kndb.plots.overlap import overlap_figure
from kndb.plots.scaling import scaling_figure
from kndb.records.facts import Fact
from kndb.records.figures import FigureOptions, parse_size
from kndb.records.probes import ARMS, TEXT_KINDS, ActivationSummary, ProbeSummary
from kndb.records.queries import (
    Consistency,
    FactFindings,
    FactScores,
    LayerCount,
    NeuronCounts,
    Overlap,
    RelationOverlap,
    Votes,
)

CAPTION = "tiny v0123456789a · run 1: integrated-gradients · refinement 1: threshold 0.2, share 0.7 · a$b$ · probe 4"
HOSTILE = ("plain", "$x_1$ and $\\frac$", "الجزائر", "ירושלים ⟨ 東京", "a" * 300, "<b>&amp;-->", "one\ntwo\tthree")


def keys(count):
    return [f"P{number}" for number in random.Random(count).sample(range(10, 1999), count)]


def layer_rows(relation=None, layers=6):
    shares = np.random.default_rng(len(relation or "")).dirichlet(np.ones(layers))
    return [LayerCount(relation, layer, 10 * layer, float(share), 3) for layer, share in enumerate(shares)]


def overlap_of(relations):
    chance = random.Random(3)
    cells = [
        RelationOverlap(one, other, 5, chance.uniform(0, 3), 1, 1.0, 4, 0.5)
        for place, one in enumerate(relations)
        for other in relations[place:]
    ]
    cells[1] = RelationOverlap(cells[1].relation, cells[1].other, 0, None, 0, None, 0, None)
    return Overlap(tuple(relations), tuple(cells), ())


def summaries(relations, arms=ARMS):
    chance = random.Random(7)
    return [
        ProbeSummary(relation, arm, asked, 5, 40, 4.0, 0.5, 0.4, chance.uniform(-0.9, 0.6), 0.9, 0.8, chance.random())
        for relation in [*relations, None]
        for arm in arms
        for asked in ("own", "other")
    ]


def count_rows(relations):
    chance = random.Random(9)
    rows = []
    for relation in [*relations, None]:
        low, middle, high, largest = sorted(chance.randint(0, 20) for _ in range(4))
        rows.append(NeuronCounts(relation, 10, 1, 30, chance.uniform(low, high), low, middle, high, largest))
    return rows


def consistency_rows(relations):
    chance = random.Random(11)
    rows = []
    for relation in [*relations, None]:
        low, middle, high = sorted(chance.random() for _ in range(3))
        rows.append(Consistency(relation, 10, (low + high) / 2, low, middle, high))
    return rows


def activations(relations):
    chance = random.Random(13)
    return [
        ActivationSummary(relation, kind, 3, 9, chance.uniform(-0.2, 2))
        for relation in [*relations, None]
        for kind in TEXT_KINDS
    ]


def findings_of(votes, subject="France", needed=4.2, prompts=6):
    rows = tuple(
        Votes(layer, 7, number, needed, number is not None and number >= (needed or 0), 0.5)
        for layer, number in enumerate(votes)
    )
    fact = Fact(1, "P36", subject, "Paris")
    return FactFindings(fact, 0.7, 0.5, 2, (SimpleNamespace(coarse_set=3),) * prompts, rows, ())


def scores_of(findings, more=3):
    """Scores of the neurons with votes, and of others that no coarse set holds."""
    chance = random.Random(17)
    known = {(row.layer, row.neuron): tuple(chance.uniform(0.1, 1) for _ in range(5)) for row in findings.votes}
    return FactScores(0.2, 0.1, {**known, **{(9, number): (0.11, 0.12 + number / 100) for number in range(more)}})


def every_figure(relations, subject="France", options=FigureOptions()):  # noqa: B008
    """One figure of each kind."""
    findings = findings_of([6, 5, 3, 1], subject)
    return {
        "layers": layers_figure(layer_rows(), CAPTION, options),
        "layers by relation": layers_figure([row for key in relations for row in layer_rows(key)], CAPTION, options),
        "overlap": overlap_figure(overlap_of(relations), CAPTION, options),
        "scaling": scaling_figure(summaries(relations), CAPTION, options),
        "counts": counts_figure(count_rows(relations), CAPTION, options),
        "consistency": consistency_figure(consistency_rows(relations), CAPTION, options),
        "fact": fact_figure(findings, CAPTION, options),
        "fact with scores": fact_figure(findings, CAPTION, options, scores=scores_of(findings)),
        "activation": activation_figure(activations(relations), CAPTION, options),
    }


def bars(axes, labelled=None):
    """For each arm or kind, the heights of its bars by tick label; those of axes that share x may be another's."""
    axes_of_labels = labelled or axes
    names = {
        place: text.get_text()
        for place, text in zip(axes_of_labels.get_xticks(), axes_of_labels.get_xticklabels(), strict=True)
    }
    found = {}
    for container in axes.containers:
        heights = {}
        for patch in container.patches:
            centre = patch.get_x() + patch.get_width() / 2
            nearest = min(names, key=lambda place, centre=centre: abs(place - centre))
            heights[names[nearest]] = patch.get_height()
        found[container.get_label()] = heights
    return found


def texts(figure):
    return [text for text in figure.findobj(mpl.text.Text) if text.get_visible() and text.get_text().strip()]


def drawn(figure):
    """The figure's canvas after one drawing, so that every place is final."""
    canvas = FigureCanvasAgg(figure)
    with style.own_settings():
        canvas.draw()
    return canvas.get_renderer()


def test_layers_are_percentages():
    rows = layer_rows(layers=12)
    (axes,) = layers_figure(rows, CAPTION).axes
    heights = [patch.get_height() for patch in axes.patches]
    assert heights == pytest.approx([100 * row.share for row in rows])
    assert sum(heights) == pytest.approx(100)
    assert [patch.get_x() + patch.get_width() / 2 for patch in axes.patches] == pytest.approx(range(12))
    assert "layer" in axes.get_xlabel()
    assert axes.get_ylabel() == "knowledge neurons (%)"


@pytest.mark.parametrize(("count", "layers"), [(1, 4), (3, 8), (28, 12), (39, 48)])
def test_layers_of_relations_are_a_heat_map(count, layers):
    relations = sorted(keys(count))
    rows = [row for relation in [*relations, None] for row in layer_rows(relation, layers)]
    axes, bar = layers_figure(rows, CAPTION).axes
    (mesh,) = axes.findobj(QuadMesh)
    values = mesh.get_array().reshape(count + 1, layers)
    for row in rows:
        assert values[[None, *relations].index(row.relation), row.layer] == pytest.approx(100 * row.share)
    assert [float(total) for total in values.sum(axis=1)] == pytest.approx([100] * (count + 1))
    assert [label.get_text() for label in axes.get_yticklabels()] == ["all", *relations]
    assert axes.yaxis_inverted()
    for place, label in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True):
        assert place == float(label.get_text()) + 0.5
    assert len(axes.texts) == (values.size if layers <= 16 else 0)
    assert "%" in bar.get_ylabel()


@pytest.mark.parametrize("count", [1, 3, 28])
def test_the_heat_map_is_the_matrix(count):
    relations = keys(max(count, 2))
    overlap = overlap_of(relations)
    figure = overlap_figure(overlap, CAPTION)
    axes, bar = figure.axes
    (mesh,) = axes.findobj(QuadMesh)
    values = mesh.get_array().reshape(len(relations), len(relations))
    for cell in overlap.cells:
        row, column = relations.index(cell.relation), relations.index(cell.other)
        for found in (values[row, column], values[column, row]):
            assert found is np.ma.masked if cell.mean is None else found == pytest.approx(cell.mean)
    assert [label.get_text() for label in axes.get_xticklabels()] == relations
    assert [label.get_text() for label in axes.get_yticklabels()] == relations
    assert axes.yaxis_inverted()
    assert bar.get_ylabel() == "shared neurons per pair of facts"
    assert sum(patch.get_label() == "diagonal" for patch in axes.patches) == len(relations)
    known = sorted(
        f"{cell.mean:.2f}"
        for cell in overlap.cells
        for _ in range(2 - (cell.relation == cell.other))
        if cell.mean is not None
    )
    assert sorted(text.get_text() for text in axes.texts) == (known if len(relations) <= 8 else [])


@pytest.mark.parametrize("count", [1, 5, 39])
def test_scaling_draws_changes_and_flips_of_own_prompts(count):
    relations = keys(count)
    rows = summaries(relations)
    change, flips = scaling_figure(rows, CAPTION).axes
    own = [row for row in rows if row.prompts_of == "own"]
    for axes, value in ((change, lambda row: row.change), (flips, lambda row: row.flips)):
        found = bars(axes, flips)
        assert list(found) == list(ARMS)
        for row in own:
            assert found[row.neurons_from][row.relation or "mean"] == pytest.approx(100 * value(row))
        assert all(len(heights) == count + 1 for heights in found.values())
    effects = {row.relation: abs(row.change) for row in own if row.neurons_from == "knowledge" and row.relation}
    labels = [label.get_text() for label in flips.get_xticklabels()]
    assert labels == ["mean", *sorted(relations, key=lambda relation: (-effects[relation], relation))]
    assert "%" in change.get_ylabel()
    assert "%" in flips.get_ylabel()
    looks = {(to_hex(arm[0].get_facecolor()), arm[0].get_hatch()) for arm in change.containers}
    assert len(looks) == 3
    assert any(hatch for _, hatch in looks)


def test_scaling_without_flips_has_no_empty_panel():
    rows = [ProbeSummary(**{**vars(row), "flips": 0.0}) for row in summaries(keys(4))]
    figure = scaling_figure(rows, CAPTION)
    (axes,) = figure.axes
    assert "flip" in axes.get_title(loc="right")
    assert axes.get_xticklabels()[0].get_text() == "mean"
    assert figure.get_figheight() < scaling_figure(summaries(keys(4)), CAPTION).get_figheight()


def test_scaling_without_a_baseline_or_without_a_number():
    rows = summaries(keys(3), arms=("knowledge", "random"))
    broken = [row if row.relation != keys(3)[0] else ProbeSummary(**{**vars(row), "change": math.nan}) for row in rows]
    figure = scaling_figure(broken, CAPTION)
    assert list(bars(*figure.axes)) == ["knowledge", "random"]
    assert figure.axes[1].get_xticklabels()[-1].get_text() == keys(3)[0]
    drawn(figure)


@pytest.mark.parametrize("count", [0, 4, 28])
def test_boxes_are_quartiles_with_median_and_mean(count):
    relations = keys(count)
    for rows, figure in (
        (count_rows(relations), counts_figure(count_rows(relations), CAPTION)),
        (consistency_rows(relations), consistency_figure(consistency_rows(relations), CAPTION)),
    ):
        (axes,) = figure.axes
        ordered = [rows[-1], *rows[:-1]]
        boxes = axes.containers[0].patches
        assert [box.get_y() for box in boxes] == pytest.approx([row.first_quartile for row in ordered])
        assert [box.get_y() + box.get_height() for box in boxes] == pytest.approx(
            [row.third_quartile for row in ordered]
        )
        lines = {line.get_label(): line for line in axes.lines}
        assert lines["mean"].get_ydata() == pytest.approx([row.mean for row in ordered])
        (medians,) = [one for one in axes.collections if one.get_label() == "median"]
        assert [segment[0][1] for segment in medians.get_segments()] == pytest.approx([row.median for row in ordered])
        assert [label.get_text() for label in axes.get_xticklabels()] == ["all", *relations]
        if isinstance(rows[0], NeuronCounts):
            assert lines["largest"].get_ydata() == pytest.approx([row.largest for row in ordered])
            assert axes.get_ylabel() == "knowledge neurons per fact"
        else:
            assert "Jaccard" in axes.get_ylabel()
            assert axes.get_ylim() == (0, 1)


def test_votes_against_the_number_needed():
    votes = [1, 6, 3, 5, None, 2]
    figure = fact_figure(findings_of(votes), CAPTION)
    (axes,) = figure.axes
    assert [patch.get_width() for patch in axes.patches] == [6, 5, 3, 2, 1]
    assert [bool(patch.get_hatch()) for patch in axes.patches] == [False, False, True, True, True]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["L1.N7", "L3.N7", "L2.N7", "L5.N7", "L0.N7"]
    (line,) = axes.lines
    assert list(line.get_xdata()) == [4.2, 4.2]
    assert [text.get_text() for text in axes.texts] == ["kept: 2", "left out: 3"]
    assert "⟨France, P36, Paris⟩" in figure.get_suptitle()
    assert "prompts" in axes.get_xlabel()
    (many,) = fact_figure(findings_of([1] * 50 + [6] * 40), CAPTION).axes
    assert len(many.patches) == KEPT + LEFT_OUT
    assert [text.get_text() for text in many.texts] == [
        f"kept: {KEPT} of 40, most votes first",
        f"left out: {LEFT_OUT} of 50, nearest first",
    ]
    assert not fact_figure(findings_of([1, 2], needed=None), CAPTION).axes[0].lines


def test_neurons_that_no_coarse_set_holds_are_drawn_with_their_scores():
    findings = findings_of([6, 5, 3])
    scores = scores_of(findings, more=4)
    figure = fact_figure(findings, CAPTION, scores=scores)
    votes, dots = figure.axes
    names = [label.get_text() for label in votes.get_yticklabels()]
    assert names == ["L0.N7", "L1.N7", "L2.N7", "L9.N3", "L9.N2", "L9.N1", "L9.N0"]
    assert [patch.get_width() for patch in votes.patches] == [6, 5, 3, 0, 0, 0, 0]
    places = {text.get_text(): place for text, place in zip(votes.get_yticklabels(), votes.get_yticks(), strict=True)}
    drawn_at = {line.get_ydata()[0]: tuple(line.get_xdata()) for line in dots.lines if line.get_marker() == "o"}
    for (layer, neuron), shares in scores.shares.items():
        assert drawn_at[places[f"L{layer}.N{neuron}"]] == pytest.approx(shares)
    filled = {line.get_ydata()[0]: line.get_markerfacecolor() for line in dots.lines if line.get_marker() == "o"}
    assert {filled[places[name]] for name in names[:2]} == {style.BLUE}
    assert {filled[places[name]] for name in names[2:]} == {"white"}
    (threshold,) = [line for line in dots.lines if line.get_linestyle() == "--"]
    assert list(threshold.get_xdata()) == [0.2, 0.2]
    (legend,) = figure.plots.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "kept",
        "left out",
        "prompts needed: 4.2",
        "coarse set from 0.2 on",
        "not stored: below 0.1",
    ]


def test_activation_by_kind_of_text():
    relations = sorted(keys(4))
    rows = activations(relations)
    (axes,) = activation_figure(rows, CAPTION).axes
    names = dict(zip(TEXT_KINDS, ("head and tail", "head alone", "neither"), strict=True))
    found = bars(axes)
    for row in rows:
        assert found[names[row.kind]][row.relation or "all"] == pytest.approx(row.mean_activation)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["all", *relations]
    assert axes.get_ylabel() == "mean activation"


@pytest.mark.parametrize("relations", [keys(39), [f"{name}-{place}" for place, name in enumerate(HOSTILE)]])
def test_all_text_lies_within_the_figure_and_apart(relations):
    for name, figure in every_figure(relations).items():
        renderer = drawn(figure)
        width, height = figure.get_size_inches()
        assert figure.get_figwidth() in (style.SINGLE, style.DOUBLE)
        for text in texts(figure):
            assert text.get_fontsize() >= 6.5
        box = figure.get_tightbbox(renderer)
        assert min(box.x0, box.y0) > -0.01, name
        assert box.x1 < width + 0.01, name
        assert box.y1 < height + 0.01, name
        for axes in figure.axes:
            boxes = [label.get_window_extent(renderer) for label in axes.get_xticklabels() if label.get_text()]
            boxes.sort(key=lambda box: box.x0)
            assert all(one.x1 <= other.x0 + 0.5 for one, other in itertools.pairwise(boxes)), name


def test_the_caption_is_there_word_for_word():
    for figure in every_figure(keys(3)).values():
        assert figure.get_supxlabel().split() == CAPTION.split()


def test_title_size_and_no_caption():
    title = "A title that says what the figure is to show, in more words than one line of a column holds"
    for name, figure in every_figure(keys(3), options=FigureOptions(title, caption=False)).items():
        assert figure.get_suptitle().replace("\u200e", "").split() == title.split()
        assert figure.get_supxlabel() == "", name
        renderer = drawn(figure)
        (heading,) = [text for text in texts(figure) if text.get_text() == figure.get_suptitle()]
        lowest = heading.get_window_extent(renderer).y0
        others = [*figure.plots.legends, *figure.axes]
        assert all(one.get_tightbbox(renderer).y1 <= lowest + 0.5 for one in others), name
        box = figure.get_tightbbox(renderer)
        assert min(box.x0, box.y0) > -0.01, name
        assert box.x1 < figure.get_figwidth() + 0.01, name
    for figure in every_figure(keys(3), options=FigureOptions(size=(6, 4.5))).values():
        assert tuple(figure.get_size_inches()) == (6, 4.5)
        assert figure.get_supxlabel().split() == CAPTION.split()


def test_sizes_are_read_and_bounded():
    assert parse_size("6x4") == (6, 4)
    assert parse_size(" 3.35 × .5e".rstrip("e")) == (3.35, 0.5)
    for wrong in ("6", "6x", "x4", "6x4x2", "6 by 4", "-6x4", "nanx4", "6in x 4in"):
        with pytest.raises(UsageError, match="such as 6x4"):
            parse_size(wrong)
    for size in ((0.5, 4), (6, 51)):
        with pytest.raises(UsageError, match="from 1 to 50 inches"):
            FigureOptions(size=size)


def test_a_notebook_shows_a_figure():
    figure = layers_figure(layer_rows(), CAPTION)
    assert figure._repr_png_() == style.render(figure, ".png")


@pytest.mark.parametrize("subject", HOSTILE)
def test_names_are_drawn_as_they_are(subject):
    figure = fact_figure(findings_of([3, 2], subject), CAPTION)
    assert "<svg" in style.inline_svg(figure, "one")
    assert not any(text.get_parse_math() for text in texts(figure))
    if len(subject) < 20:
        assert " ".join(subject.split()) in " ".join(figure.get_suptitle().replace("\u200e", "").split())


@pytest.mark.parametrize("suffix", style.SUFFIXES)
def test_the_same_records_give_the_same_bytes(suffix, monkeypatch):
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    before = dict(mpl.rcParams)

    chosen = {".svg": ("overlap", "scaling", "counts"), ".png": ("overlap",), ".pdf": ("fact",)}[suffix]

    def files():
        figures = every_figure(keys(2))
        return {name: style.render(figures[name], suffix) for name in chosen}

    first = files()
    with mpl.rc_context({"font.size": 30, "svg.hashsalt": None, "axes.grid": True, "savefig.dpi": 11}):
        assert files() == first
    assert dict(mpl.rcParams) == before


def test_what_the_files_hold(tmp_path):
    figure = layers_figure(layer_rows(), CAPTION)
    png = style.save(figure, tmp_path / "a.PNG").read_bytes()
    assert png.startswith(b"\x89PNG")
    assert int.from_bytes(png[16:20], "big") == round(style.SINGLE * 200)
    svg = style.save(figure, tmp_path / "a.svg").read_text(encoding="utf-8")
    assert "<text" not in svg
    pdf = style.save(figure, tmp_path / "a.pdf").read_bytes()
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf
    assert b"CreationDate" not in pdf
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.PNG", "a.pdf", "a.svg"]


def test_identifiers_of_an_inline_figure_are_its_own():
    figure = layers_figure(layer_rows(), CAPTION)
    one, other = style.inline_svg(figure, "one"), style.inline_svg(figure, "other")
    assert one.startswith('<svg id="one"')
    assert one.replace('"one', '"other').replace("#one", "#other") == other
    assert "http" not in one
    assert "<!--" not in one


@pytest.mark.parametrize("name", ["figure", "figure.jpg", "figure.svg.gz", ".png"])
def test_another_suffix_is_refused(name, tmp_path):
    with pytest.raises(UsageError, match=r"\.png, \.svg or \.pdf"):
        style.save(layers_figure(layer_rows(), CAPTION), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(OutputError, match="No such file or directory"):
        style.save(layers_figure(layer_rows(), CAPTION), tmp_path / "none" / "a.png")


def test_a_figure_that_fails_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    target = tmp_path / "a.png"
    target.write_bytes(b"old")
    monkeypatch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OutputError, match="No space left"):
        style.save(layers_figure(layer_rows(), CAPTION), target)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_without_matplotlib_the_extra_is_named():
    program = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from kndb.plots import require_matplotlib\n"
        "from kndb.errors import UsageError\n"
        "try: require_matplotlib()\n"
        "except UsageError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip().endswith("pip install 'kndb[plot]'")
