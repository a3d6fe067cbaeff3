"""Map of a run: its features in two dimensions, coloured by cluster and, if there are labels, by class."""

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from deepclust.core.errors import DeepclustError
from deepclust.core.figures import FigureFacts
from deepclust.core.options import Options as BaseOptions
from deepclust.reporting.run_view import RunView
from deepclust.reporting.runs import NO_CLASS, ScoredRun
from deepclust.reporting.scored import Scored
from deepclust.reporting.style import (
    INK,
    LEGEND_ROW,
    LONGEST_NAME,
    RULE,
    category_style,
    new_figure,
    note,
    printable,
    widest,
)

FACTS = FigureFacts(
    title="Map",
    scope="run",
    reads=("metrics", "clusters", "images", "manifests", "labels", "map"),
    explanation="t-SNE of a fixed sample of the features: nearby points are similar images.",
    reading="They are coloured by cluster, and by class where there are labels. Islands are groups of similar images: "
    "an island of two classes is a limit of the features, a class of two clusters is a choice of the head. Distances "
    "between islands mean nothing.",
    order=11,
)

LEGEND_LIMIT = 30  # categories; more cannot be told apart by colour and marker anyway
_LEGEND_ROOM = 1.6  # inches that all sizes have
_HANDLE = 0.4  # inches beside the text of an entry
_WIDE = 2.2  # inches of a column that has none beside it
RING_LIMIT = 1 / 3  # of the images; more rings hide what they mark


class Options(BaseOptions):
    """Options of the map, whose points are those of `project_map`: none."""


def draw(of: RunView, options: Options) -> Figure:
    """Draw the run."""
    return map_figure(of.run, of.scored, *of.map)


def map_figure(
    run: ScoredRun, scored: Scored, ids: npt.NDArray[np.int64], coordinates: npt.NDArray[np.float32]
) -> Figure:
    """Draw two maps side by side: clusters of the selected seed and true classes; without labels the clusters alone.

    A cluster has the colour and marker of the class that it is matched to, so errors look different on both sides.
    Unless there are too many, they have a ring on the right.

    Args:
        ids: numbers of the images on the map, [n].
        coordinates: their places, [n, 2].
    """
    if len(ids) and ids[-1] >= len(scored.assignments):
        raise DeepclustError("the map is of other images than those that are scored: make it again")
    clusters, labels = scored.assignments[ids], scored.labels[ids]
    look = _cluster_looks(run)
    both = scored.labelled and bool(run.chosen.matching)
    total = len(run.chosen.sizes)
    names = run.classes if both else [f"cluster {cluster}" for cluster in range(total)]
    names = [printable(name, LONGEST_NAME) for name in names] if len(names) <= LEGEND_LIMIT else []

    figure = new_figure((7.8 if both else 4.0) + (1.3 if names else 0), 4.4)
    panels = figure.subplots(1, 2 if both else 1, squeeze=False)[0]
    _scatter(panels[0], coordinates, np.asarray([look[cluster] for cluster in clusters]))
    panels[0].set_title("Clusters", pad=18)
    shown = f"{len(ids):,} of {run.images:,}" if len(ids) < run.images else f"all {run.images:,}"
    note(panels[0], f"seed {run.selected}, {shown} images")
    if both:
        _scatter(panels[1], coordinates, labels)
        errors = (labels >= 0) & (np.asarray(run.chosen.matching)[clusters] != labels)
        ringed = errors.mean() <= RING_LIMIT
        if ringed:
            _ring(panels[1], coordinates[errors], len(coordinates))
        panels[1].set_title("Classes", pad=18)
        same = "a cluster looks like its class"
        note(panels[1], f"{same}; ringed: in the cluster of another" if ringed else same)
    if names:
        _legend(figure, names)
    return figure


def _cluster_looks(run: ScoredRun) -> list[int]:
    """Return the number of each cluster's look: that of its class, or one that no class has."""
    if not run.chosen.matching:
        return list(range(len(run.chosen.sizes)))
    unmatched = iter(range(len(run.classes), len(run.classes) + len(run.chosen.sizes)))
    return [next(unmatched) if matched == NO_CLASS else matched for matched in run.chosen.matching]


def _scatter(axes: Axes, coordinates: npt.NDArray[np.float32], looks: npt.NDArray[np.int64]) -> None:
    size = _point_size(len(coordinates))
    for look in np.unique(looks):
        points = coordinates[looks == look]
        if look < 0:
            axes.scatter(points[:, 0], points[:, 1], s=size, color=RULE, marker=".", linewidths=0)
            continue
        color, marker = category_style(int(look))
        axes.scatter(points[:, 0], points[:, 1], s=size, color=color, marker=marker, alpha=0.75, linewidths=0)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(True)
    axes.set_box_aspect(1)


def _point_size(count: int) -> float:
    return float(np.clip(9000 / max(1, count), 3, 30))


def _ring(axes: Axes, points: npt.NDArray[np.float32], count: int) -> None:
    axes.scatter(
        points[:, 0], points[:, 1], s=2 * _point_size(count), facecolors="none", edgecolors=INK, linewidths=0.5
    )


def _legend(figure: Figure, names: list[str]) -> None:
    handles = []
    for index, name in enumerate(names):
        color, marker = category_style(index)
        handles.append(Line2D([], [], color=color, marker=marker, linestyle="", markersize=5, label=name))
    column = widest(names) + _HANDLE
    columns = 1 if len(names) <= 20 or column > _WIDE else 2
    figure.set_figheight(max(figure.get_figheight(), LEGEND_ROW * len(names) / columns + 0.5))
    figure.set_figwidth(figure.get_figwidth() + max(0.0, columns * column - _LEGEND_ROOM))
    figure.legend(handles=handles, loc="outside right center", ncols=columns, handletextpad=0.2)
