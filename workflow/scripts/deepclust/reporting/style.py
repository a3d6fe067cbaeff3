"""One look for all figures: colours that colour-blind readers can tell apart, quiet axes, reproducible files."""

import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler

from deepclust.core.files import atomic_path
from deepclust.reporting.fonts import drawable, families, text_width

DPI = 200  # twice the resolution of a page at 100 pixels per inch, for sharp displays

INK = "#1f2328"
MUTED = "#656d76"
RULE = "#d8dee4"
ACCENT = "#0b62b0"
ERROR = "#d55e00"

# Matthew A. Petroff, "Accessible Color Sequences for Data Visualization", 2021 (arXiv 2107.02270), ten colours.
CATEGORIES = (
    "#3f90da",
    "#ffa90e",
    "#bd1f01",
    "#94a4a2",
    "#832db6",
    "#a96b59",
    "#e76300",
    "#b9ac70",
    "#717581",
    "#92dadd",
)
MARKERS = ("o", "^", "s", "D", "v", "P", "X", "<", ">", "*")

LONGEST_NAME = 60  # characters; figures have space for so many

_LEGEND_HANDLE = 0.65  # inches beside the text of an entry
LEGEND_ROW = 0.17  # inches

_SETTINGS: Any = {
    "axes.axisbelow": True,
    "axes.edgecolor": RULE,
    "axes.grid": False,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 8,
    "axes.linewidth": 0.8,
    "axes.prop_cycle": cycler(color=CATEGORIES),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "figure.constrained_layout.h_pad": 0.08,
    "figure.constrained_layout.w_pad": 0.08,
    "figure.facecolor": "white",
    "font.size": 8,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "savefig.dpi": DPI,
    "text.color": INK,
    "text.parse_math": False,  # names may contain $
    "xtick.color": RULE,
    "xtick.labelcolor": MUTED,
    "xtick.labelsize": 8,
    "ytick.color": RULE,
    "ytick.labelcolor": MUTED,
    "ytick.labelsize": 8,
}


def new_figure(width: float, height: float, layout: str | None = "constrained") -> Figure:
    """Return an empty figure of `width` × `height` inches in the common style, which is set for the whole process."""
    matplotlib.rcParams.update(_SETTINGS)
    matplotlib.rcParams["font.family"] = list(families())
    return Figure(figsize=(width, height), layout=layout)  # type: ignore[arg-type]


def save_figure(figure: Figure, path: Path) -> None:
    """Write `figure` as PNG, atomically; the same figure gives the same bytes."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})


def printable(name: str, width: int = 0) -> str:
    """Return `name` on one line without control characters, shortened in the middle to `width` characters; 0: in full.

    Characters that no font has are told by their number, `U+20000`.
    """
    line = " ".join("".join(" " if unicodedata.category(c) in {"Cc", "Zl", "Zp"} else c for c in name).split())
    text = drawable(line)
    if width and len(text) > width:
        head = (width - 1 + 1) // 2
        text = f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"
    return text


def widest(names: Iterable[str], size: float = 8, weight: str = "normal") -> float:
    """Return the inches that the widest of `names` takes; 0 without any."""
    return max((text_width(name, size, weight) for name in names), default=0.0)


def legend_below(figure: Figure, axes: Axes, columns: int = 4) -> None:
    """Add a legend of the lines in `axes` below the figure, which grows as far as it lacks the space.

    Args:
        columns: at most so many; fewer if names are long.
    """
    handles, names = axes.get_legend_handles_labels()
    if not names:
        return
    column = widest(names) + _LEGEND_HANDLE
    figure.set_figwidth(max(figure.get_figwidth(), column))
    columns = max(1, min(columns, len(names), int(figure.get_figwidth() / column)))
    figure.set_figheight(figure.get_figheight() + LEGEND_ROW * (-(-len(names) // columns) - 1))
    figure.legend(handles, names, loc="outside lower left", ncols=columns)


def category_style(index: int) -> tuple[str, str]:
    """Return colour and marker of a category: ten colours, then the same colours with another marker, and so on."""
    return CATEGORIES[index % len(CATEGORIES)], MARKERS[index // len(CATEGORIES) % len(MARKERS)]


def note(axes: Axes, text: str) -> None:
    """Add a muted line of explanation below the axes' title, which needs `pad=18` to leave space for it."""
    annotation = axes.annotate(
        text,
        (0, 1),
        (0, 4),
        xycoords="axes fraction",
        textcoords="offset points",
        color=MUTED,
        fontsize=8,
        va="bottom",
        annotation_clip=False,
    )
    annotation.set_in_layout(False)  # a long line must not shrink the axes
