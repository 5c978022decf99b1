"""What all figures share: sizes, colours, type, the caption below the plot, and saving.

Figures are as wide as one or two columns of a paper, their text 7 to 9 points. Colours are those of Okabe and Ito,
which people see apart whatever their colour vision; what colour tells, a hatch or a marker tells too. The same records
give the same bytes: settings start from matplotlib's own defaults, not the user's, and no file holds a date.
"""

from __future__ import annotations

import io
import math
import re
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.font_manager import FontProperties
from matplotlib.text import Text
from matplotlib.textpath import TextToPath

from ..errors import UsageError
from ..files import writing
from ..records.figures import PLAIN, FigureOptions
from ..records.harmless import harmless

SINGLE, DOUBLE = 3.35, 6.9
"""Widths of one column and of two, in inches."""

BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, YELLOW = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#F0E442",
)
"""Colours of Okabe and Ito."""
GREY, LIGHT_GREY, INK = "#8C8C8C", "#CFCFCF", "#222222"

MANY = 10
"""More relations than this are drawn two columns wide."""
_SIDE_BY_SIDE = 5
"""More keys than this are written upright."""

SUFFIXES = (".png", ".svg", ".pdf")
_RESOLUTION = 200
_SMALL, _CAPTION, _TITLE = 7.0, 6.5, 9.0
_LEFT_TO_RIGHT = "\u200e"
"""Names in other directions keep theirs; the line as a whole does not take it over."""
_SHORTEST = 8
"""Letters to a line, whatever the width."""
_STYLE: dict[Any, Any] = {
    "figure.constrained_layout.use": True,
    # The font that comes with matplotlib: other machines have others.
    "font.family": ["DejaVu Sans"],
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.labelsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "legend.handlelength": 1.4,
    "legend.borderaxespad": 0.2,
    "legend.columnspacing": 1.2,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "axes.axisbelow": True,
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.5,
    "patch.linewidth": 0.5,
    "hatch.linewidth": 0.5,
    # Names of facts may hold dollar signs; they are no formulas.
    "text.parse_math": False,
    "pdf.fonttype": 42,
    # Letters as outlines: a viewer without the font shows the same picture.
    "svg.fonttype": "path",
    "svg.hashsalt": "kndb",
}
_METADATA: dict[str, dict[str, None]] = {
    ".png": {"Software": None},
    ".svg": {"Date": None, "Creator": None, "Format": None, "Type": None},
    ".pdf": {"CreationDate": None},
}

Arguments = ParamSpec("Arguments")


@contextmanager
def own_settings() -> Iterator[None]:
    """This style's settings of matplotlib, within the block."""
    with mpl.rc_context(), warnings.catch_warnings():
        # A letter that the font lacks is drawn as a box, and that is all there is to say.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        # A size that leaves no room is an error where the figure is rendered.
        warnings.filterwarnings("ignore", message="constrained_layout not applied")
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def styled(draw: Callable[Arguments, NotebookFigure]) -> Callable[Arguments, NotebookFigure]:
    """Makes a function draw in this style, whatever matplotlib's settings are."""

    @wraps(draw)
    def drawn(*args: Arguments.args, **kwargs: Arguments.kwargs) -> NotebookFigure:
        with own_settings():
            return draw(*args, **kwargs)

    return drawn


class NotebookFigure(Figure):
    """A figure that a notebook shows by itself; pyplot, which would do it for other figures, is not loaded.

    Attributes:
        plots: all between title and caption: panels, and the legends outside of them, which would else cover the title.
    """

    plots: SubFigure

    def _repr_png_(self) -> bytes:
        return render(self, ".png")

    def legend_outside(self, *, place: str = "upper left", **words: Any) -> None:
        """A legend beside the panels.

        Args:
            place: where, as matplotlib says it.
            **words: as of `Figure.legend`: handles, labels, columns.
        """
        chosen: dict[str, Any] = {"loc": f"outside {place}", "alignment": "left", **words}
        self.plots.legend(**chosen)


def new_figure(
    width: float, height: float, caption: str, options: FigureOptions = PLAIN, *, title: str | None = None
) -> NotebookFigure:
    """An empty figure with its title above and its caption below.

    Args:
        width: in inches, one of `SINGLE` and `DOUBLE`.
        height: of the plot, in inches; the lines of title and caption come on top of it.
        caption: settings of what is drawn.
        options: may ask for another title or size, or no caption.
        title: the figure's own.
    """
    if options.size is not None:
        width = options.size[0]
    above = options.title if options.title is not None else title
    titled = fold(above, width - 0.15, _TITLE, most=3) if above else []
    lines = fold(caption, width - 0.1, _CAPTION) if options.caption and caption else []
    whole = height + 0.13 * len(lines) + 0.17 * len(titled)
    figure = NotebookFigure(figsize=(width, whole) if options.size is None else options.size)
    figure.plots = figure.add_subfigure(figure.add_gridspec(1, 1)[0])
    if titled:
        text = "\n".join(_LEFT_TO_RIGHT + line for line in titled)
        figure.suptitle(text, x=0.05 / width, ha="left", fontsize=_TITLE)
    if lines:
        figure.supxlabel("\n".join(lines), x=0.05 / width, ha="left", fontsize=_CAPTION, color="#555555")
    return figure


def fold(text: str, width: float, points: float, most: int | None = None) -> list[str]:
    """Breaks a text into lines that fit.

    Args:
        text: what to break.
        width: in inches.
        points: size of the letters.
        most: at most so many lines; what is left over becomes `…`.
    """
    letters = math.floor(width * 72 / (points * 0.5))
    while True:
        lines = textwrap.wrap(harmless(text), letters, max_lines=most, placeholder=" …") or [""]
        if letters <= _SHORTEST or max(_width(line, points) for line in lines) <= width:
            return lines
        letters -= 1


def _width(line: str, points: float) -> float:
    """How long a line comes out, in inches."""
    long, _, _ = TextToPath().get_text_width_height_descent(line, FontProperties(size=points), ismath=False)
    return float(long) / 72


def label_relations(axes: Axes, positions: Sequence[float], labels: Sequence[str]) -> None:
    """Writes the relations' keys below their positions; a strong one stands for all of them."""
    many = len(labels) > _SIDE_BY_SIDE or max(map(len, labels), default=0) > 8
    axes.set_xticks(positions, [shorten(label) for label in labels])
    axes.tick_params(axis="x", length=0, labelsize=_SMALL if many else 8, labelrotation=90 if many else 0)
    for tick, label in zip(axes.get_xticklabels(), labels, strict=True):
        if label in ("all", "mean"):
            tick.set_fontweight("bold")
    axes.set_xlim(positions[0] - 0.7, positions[-1] + 0.7)


def shorten(label: str, letters: int = 18) -> str:
    """A relation's key, cut if it is no mere key."""
    label = harmless(label)
    return label if len(label) <= letters else label[: letters - 1] + "…"


def width_for(relations: int) -> float:
    """How wide a figure of so many relations is, in inches."""
    return DOUBLE if relations > MANY else SINGLE


def check_target(path: str | Path) -> Path:
    """The path of a figure's file.

    Raises:
        UsageError: if its name does not end in a format that there is.
    """
    target = Path(path)
    if target.suffix.lower() not in SUFFIXES:
        found = f"got {target.suffix!r}" if target.suffix else "it has no suffix"
        raise UsageError(f"{str(path)!r} must end in .png, .svg or .pdf ({found})")
    return target


def save(figure: Figure, path: str | Path) -> Path:
    """Writes a figure; the file appears, or is replaced, when it is complete.

    Args:
        figure: the figure.
        path: a file name that ends in `.png` (200 dots per inch), `.svg` or `.pdf`.

    Raises:
        UsageError: for another suffix.
        OutputError: if it can't be written.
    """
    target = check_target(path)
    content = render(figure, target.suffix.lower())
    with writing(target, "name a file in a folder that is there") as scratch:
        scratch.write_bytes(content)
    return target


def render(figure: Figure, suffix: str) -> bytes:
    """A figure as the bytes of a file of one of `SUFFIXES`.

    Raises:
        UsageError: if its size leaves no room for the plot.
    """
    content = io.BytesIO()
    with own_settings():
        _write_out(figure)
        warnings.filterwarnings("error", message="constrained_layout not applied")
        try:
            figure.savefig(content, format=suffix[1:], dpi=_RESOLUTION, metadata=_METADATA[suffix])
        except UserWarning as warning:
            if "constrained_layout" not in str(warning):
                raise
            width, height = figure.get_size_inches()
            raise UsageError(
                f"a size of {width:g} by {height:g} inches leaves no room for this plot; ask for a larger one"
            ) from None
    return content.getvalue()


def _write_out(figure: Figure) -> None:
    """Writes out the control characters in a figure's texts: no XML may hold them, and no name turns a line around."""
    for text in figure.findobj(Text):
        parts = text.get_text().split(_LEFT_TO_RIGHT)
        text.set_text(_LEFT_TO_RIGHT.join(map(harmless, parts)))


def inline_svg(figure: Figure, prefix: str) -> str:
    """A figure as an `svg` element for an HTML page.

    Args:
        figure: the figure.
        prefix: goes before all identifiers, as those of a page's figures must differ; it is the element's own.
    """
    text = render(figure, ".svg").decode("utf-8")
    text = re.sub(r"<!--.*?-->\s*", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r'\b(id="|href="#)|(url\(#)', rf"\g<0>{prefix}-", text)
    # In a page a style is everybody's, and the names of the formats are known.
    text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text).replace("<svg", f'<svg id="{prefix}"', 1)
    text = text.replace('<style type="text/css">*{', f"<style>#{prefix} *{{")
    # Hundredths of a point are finer than any screen.
    text = re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path[0]), text)
    return re.sub(r"\n\s*", "\n", text).strip()
