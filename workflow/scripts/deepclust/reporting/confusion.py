"""Which classes went into which clusters; without labels, how large the clusters are."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from deepclust.reporting.runs import NO_CLASS, Run
from deepclust.reporting.style import ACCENT, INK, MUTED, RULE, new_figure, note, printable

TEXT_LIMIT = 25  # rows or columns with a percentage in every cell
NAME_LIMIT = 60  # rows or columns with names
_NAME_WIDTH = 22  # characters


def run_overview(run: Run) -> Figure:
    """The confusion matrix of the selected seed, or its cluster sizes where there are no labels."""
    return _sizes(run) if run.chosen.confusion is None else _confusion(run)


def _confusion(run: Run) -> Figure:
    chosen = run.chosen
    assert chosen.confusion is not None
    order = chosen.cluster_order()
    counts = chosen.confusion[:, order]
    totals = counts.sum(axis=1, keepdims=True)
    percent = np.divide(100.0 * counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    rows, columns = counts.shape

    figure = new_figure(*_size(rows, columns))
    axes = figure.subplots()
    # Small confusions matter; a square root lifts them. Where cells are smaller than pixels, they are averaged.
    image = axes.imshow(
        percent,
        cmap="Blues",
        norm=PowerNorm(0.5, 0, 100),
        interpolation="nearest" if max(rows, columns) <= 200 else "antialiased",
    )
    axes.set_aspect("equal" if max(rows, columns) <= 3 * min(rows, columns) else "auto")
    _cell_borders(axes, rows, columns)
    _class_names(axes, run.classes, rows)
    _cluster_names(axes, run, order)
    if max(rows, columns) <= TEXT_LIMIT:
        _write_percentages(axes, percent)
    else:
        bar = figure.colorbar(image, ax=axes, shrink=0.6, aspect=30, ticks=[0, 1, 5, 20, 50, 100])
        bar.set_label("percent of the class")
        bar.outline.set_visible(False)
    axes.set_title("Percent of each class in each cluster", pad=18)
    note(axes, _description(run))
    return figure


def _size(rows: int, columns: int) -> tuple[float, float]:
    """Inches that give each cell of a small matrix room for a number, and keep a large one on a page."""
    if max(rows, columns) <= TEXT_LIMIT:
        return max(4.8, 1.9 + 0.42 * columns), max(3.0, 1.5 + 0.36 * rows)
    if max(rows, columns) <= NAME_LIMIT:
        return max(6.0, 2.6 + 0.14 * columns), max(3.5, 1.6 + 0.14 * rows)
    return 8.0, 7.2


def _description(run: Run) -> str:
    accuracy = run.chosen.scores.get("acc")
    score = "" if accuracy is None else f", ACC {100 * accuracy:.1f} %"
    return f"seed {run.selected}{score}; clusters in the order of their matched classes"


def _cell_borders(axes: Axes, rows: int, columns: int) -> None:
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if max(rows, columns) <= NAME_LIMIT:
        axes.set_xticks(np.arange(columns + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(rows + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="white", linewidth=1.2)
        axes.tick_params(which="minor", length=0)


def _class_names(axes: Axes, classes: list[str], rows: int) -> None:
    axes.set_ylabel(f"class ({rows})" if rows > NAME_LIMIT else "class")
    if rows > NAME_LIMIT:
        axes.set_yticks([])
    else:
        axes.set_yticks(range(rows), [printable(name, _NAME_WIDTH) for name in classes], color=INK)


def _cluster_names(axes: Axes, run: Run, order: list[int]) -> None:
    unmatched = sum(run.chosen.matching[cluster] == NO_CLASS for cluster in order)
    label = f"cluster ({len(order)})" if len(order) > NAME_LIMIT else "cluster"
    axes.set_xlabel(f"{label}; the last {unmatched} are matched to no class" if unmatched else label)
    if len(order) > NAME_LIMIT:
        axes.set_xticks([])
    else:
        axes.set_xticks(
            range(len(order)), [str(cluster) for cluster in order], rotation=0 if len(order) <= TEXT_LIMIT else 90
        )


def _write_percentages(axes: Axes, percent: np.ndarray) -> None:
    for (row, column), value in np.ndenumerate(percent):
        if value >= 0.5:
            color = "white" if value > 35 else INK
            axes.text(column, row, f"{value:.0f}", ha="center", va="center", color=color, fontsize=8)


def _sizes(run: Run) -> Figure:
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
    axes.set_xlabel("cluster" if named else f"cluster ({len(sizes)})")
    axes.set_ylabel("images")
    axes.tick_params(length=0)
    axes.grid(axis="y", color=RULE)
    axes.set_xlim(-0.6, len(sizes) - 0.4)
    axes.set_title("Cluster sizes", pad=18)
    empty = int((sizes == 0).sum())
    note(axes, f"seed {run.selected}, no labels" + (f"; {empty} clusters are empty" if empty else ""))
    return figure
