"""Confusion of a run: the classes in each cluster; without labels, the sizes of the clusters."""

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from scipy.sparse import csr_array

from deepclust.core.figures import FigureFacts
from deepclust.core.options import Options as BaseOptions
from deepclust.core.scores import show, show_share
from deepclust.reporting.run_view import RunView
from deepclust.reporting.runs import NO_CLASS, ScoredRun
from deepclust.reporting.style import ACCENT, INK, LONGEST_NAME, MUTED, RULE, new_figure, note, printable, widest

FACTS = FigureFacts(
    title="Confusion",
    scope="run",
    reads=("metrics",),
    explanation="Rows are classes, columns clusters in the order of their matched classes.",
    reading="A row with two dark cells is a class that was split; two rows that share a dark column are classes that "
    "were merged. Without labels, the sizes of the clusters are shown.",
    without_labels=("Cluster sizes", ""),
    look="chart",
    order=10,
)

TEXT_LIMIT = 25  # rows or columns with a percentage in every cell
NAME_LIMIT = 60  # rows or columns with names
PIXEL_LIMIT = 250  # rows or columns drawn as such; with more, neighbors share a pixel
_NAME_ROOM = 0.9  # inches for the names of classes that all sizes have


class Options(BaseOptions):
    """Options of the confusion matrix: none."""


def draw(of: RunView, options: Options) -> Figure:
    """Draw the run."""
    return run_overview(of.run)


def run_overview(run: ScoredRun) -> Figure:
    """Draw the confusion matrix of the selected seed, or its cluster sizes if there are no labels."""
    return _sizes(run) if run.chosen.confusion is None else _confusion(run)


def _confusion(run: ScoredRun) -> Figure:
    chosen = run.chosen
    assert chosen.confusion is not None
    order = chosen.cluster_order()
    rows, columns = chosen.confusion.shape
    shared = -(-max(rows, columns) // PIXEL_LIMIT)
    percent = _percent(chosen.confusion, order, shared)

    names = [printable(name, LONGEST_NAME) for name in run.classes] if rows <= NAME_LIMIT else []
    width, height = _size(rows, columns)
    figure = new_figure(width + max(0.0, widest(names) - _NAME_ROOM), height, layout="compressed")
    axes = figure.subplots()
    # Small confusions matter; a square root lifts them.
    image = axes.imshow(
        percent,
        cmap="Blues",
        norm=PowerNorm(0.5, 0, 100),
        interpolation="nearest",
        extent=(-0.5, columns - 0.5, rows - 0.5, -0.5),
    )
    axes.set_aspect("equal" if max(rows, columns) <= 3 * min(rows, columns) else "auto")
    _cell_borders(axes, rows, columns)
    _class_names(axes, names, rows)
    _cluster_names(axes, run, order)
    if max(rows, columns) <= TEXT_LIMIT:
        _write_percentages(axes, percent)
    else:
        bar = figure.colorbar(image, ax=axes, shrink=0.6, aspect=30, ticks=[0, 1, 5, 20, 50, 100])
        bar.set_label("percent of the class")
        bar.outline.set_visible(False)
    axes.set_title("Percent of each class in each cluster", pad=18)
    note(axes, _description(run, shared))
    return figure


def _percent(confusion: csr_array, order: list[int], shared: int) -> npt.NDArray[np.float64]:
    """Return the percent of each class in each cluster, clusters in `order`.

    Each block of `shared` × `shared` cells has its largest: averages would hide single clusters among many.
    """
    cells = confusion.tocoo()
    column = np.empty(len(order), np.int64)
    column[order] = np.arange(len(order))
    values = np.zeros([-(-length // shared) for length in confusion.shape])
    blocks = cells.row // shared, column[cells.col] // shared
    np.maximum.at(values, blocks, 100.0 * cells.data / confusion.sum(axis=1)[cells.row])
    return values


def _size(rows: int, columns: int) -> tuple[float, float]:
    """Return inches that give each cell of a small matrix space for a number, and keep a large one on a page."""
    if max(rows, columns) <= TEXT_LIMIT:
        return max(5.4, 1.6 + 0.37 * columns), max(2.6, 1.1 + 0.32 * rows)
    if max(rows, columns) <= NAME_LIMIT:
        return max(6.0, 2.6 + 0.14 * columns), max(3.5, 1.6 + 0.14 * rows)
    return min(8.0, 2.5 + 0.3 * columns), min(7.2, 1.5 + 0.3 * rows)


def _description(run: ScoredRun, shared: int) -> str:
    accuracy = run.chosen.scores.get("acc")
    score = "" if accuracy is None else f", ACC {show(accuracy, 'acc')} %"
    pooled = f"; each point is the largest of {shared} × {shared} cells" if shared > 1 else ""
    return f"seed {run.selected}{score}{pooled}"


def _cell_borders(axes: Axes, rows: int, columns: int) -> None:
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if max(rows, columns) <= NAME_LIMIT:
        axes.set_xticks(np.arange(columns + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(rows + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="white", linewidth=1.2)
        axes.tick_params(which="minor", length=0)


def _class_names(axes: Axes, names: list[str], rows: int) -> None:
    axes.set_ylabel("class" if names else f"class ({rows:,})")
    axes.set_yticks(range(len(names)), names, color=INK)


def _cluster_names(axes: Axes, run: ScoredRun, order: list[int]) -> None:
    unmatched = sum(run.chosen.matching[cluster] == NO_CLASS for cluster in order)
    label = f"cluster ({len(order):,})" if len(order) > NAME_LIMIT else "cluster"
    rest = f"; the last {unmatched} have none" if unmatched else ""
    axes.set_xlabel(f"{label}, in the order of matched classes{rest}")
    if len(order) > NAME_LIMIT:
        axes.set_xticks([])
    else:
        axes.set_xticks(
            range(len(order)), [str(cluster) for cluster in order], rotation=0 if len(order) <= TEXT_LIMIT else 90
        )


def _write_percentages(axes: Axes, percent: npt.NDArray[np.float64]) -> None:
    for (row, column), value in np.ndenumerate(percent):
        if value >= 0.5:
            color = "white" if value > 35 else INK
            axes.text(column, row, show_share(value / 100, 0), ha="center", va="center", color=color, fontsize=8)


def _sizes(run: ScoredRun) -> Figure:
    sizes = np.sort(np.asarray(run.chosen.sizes))[::-1]
    order = np.argsort(-np.asarray(run.chosen.sizes), kind="stable")
    named = len(sizes) <= NAME_LIMIT
    figure = new_figure(max(4.8, 1.2 + 0.22 * len(sizes)) if named else 8.0, 3.2)
    axes = figure.subplots()
    axes.bar(range(len(sizes)), sizes, width=0.8 if named else 1.0, color=ACCENT)
    equal = run.images / max(1, len(sizes))
    axes.axhline(equal, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    axes.annotate(
        "equal sizes",
        (1, equal),
        (-2, 3),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="right",
        color=MUTED,
    )
    axes.set_xticks(range(len(sizes)) if named else [], [str(cluster) for cluster in order] if named else [])
    axes.set_xlabel("cluster" if named else f"cluster ({len(sizes):,})")
    axes.set_ylabel("images")
    axes.tick_params(length=0)
    axes.grid(axis="y", color=RULE)
    axes.set_xlim(-0.6, len(sizes) - 0.4)
    axes.set_title("Cluster sizes", pad=18)
    empty = int((sizes == 0).sum())
    note(axes, f"seed {run.selected}, no labels" + (f"; {empty} clusters are empty" if empty else ""))
    return figure
