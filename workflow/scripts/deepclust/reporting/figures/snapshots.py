"""Scores of snapshots over epochs of pretraining: k-NN, k-means and the method's own clusters."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from deepclust.core.figures import FigureFacts
from deepclust.core.files import read_json
from deepclust.core.options import Options as BaseOptions
from deepclust.reporting.scopes import ExperimentFiles
from deepclust.reporting.style import CATEGORIES, LONGEST_NAME, MUTED, RULE, legend_below, new_figure, note, printable

FACTS = FigureFacts(
    title="Scores over epochs",
    scope="experiment",
    reads=("scores",),
    section="Training",
    explanation="Scores of snapshots, measured afterwards: training saw no label.",
    reading="The accuracy of k-NN on their features, and ACC, NMI and ARI of k-means (solid) and of the method's own "
    "clusters (dashed).",
    alternative="k-NN accuracy, ACC, NMI and ARI over epochs",
    order=31,
)

# title, what a reader should know, and for each kind of line the path to its value in a snapshot's scores
_PANELS = (
    ("k-NN", "solid; linear probe dashed; %", ("knn_acc",), ("linear_acc",)),
    ("ACC", "k-means solid, own clusters dashed; %", ("kmeans", "acc"), ("native", "acc")),
    ("NMI", "k-means solid, own clusters dashed; %", ("kmeans", "nmi"), ("native", "nmi")),
    ("ARI", "k-means solid, own clusters dashed; %", ("kmeans", "ari"), ("native", "ari")),
)

Scores = Sequence[Mapping[str, Any]]


class Options(BaseOptions):
    """Options of the scores over epochs: none."""


def draw(of: ExperimentFiles, options: Options) -> Figure:
    """Draw all backbones with snapshots."""
    datasets = {path.parent.parent.name for path in of.scores}
    scores = {}
    for path in of.scores:
        name = path.parent.name if len(datasets) == 1 else f"{path.parent.name} on {path.parent.parent.name}"
        scores[name] = read_json(path)["epochs"]
    return snapshots_figure(scores)


def snapshots_figure(scores: Mapping[str, Scores]) -> Figure:
    """Draw curves over epochs, one colour per backbone.

    Args:
        scores: each backbone's scores of its snapshots by epoch (`epochs` of `snapshots.json`), by its name.
    """
    figure = new_figure(8.2, 5.0)
    panels = figure.subplots(2, 2)
    for axes, (title, explanation, solid, dashed) in zip(panels.flat, _PANELS):
        for index, (name, snapshots) in enumerate(scores.items()):
            color = CATEGORIES[index % len(CATEGORIES)]
            _line(axes, snapshots, solid, color=color, linestyle="-", label=printable(name, LONGEST_NAME))
            _line(axes, snapshots, dashed, color=color, linestyle=(0, (4, 2)))
        axes.set_title(title, pad=18)
        note(axes, explanation)
        axes.grid(axis="y", color=RULE)
        axes.tick_params(length=0)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        if not any(line.get_xdata() is not None and len(line.get_xdata()) for line in axes.lines):  # type: ignore[arg-type]
            axes.set_yticks([])
            axes.text(0.5, 0.5, "no labels", transform=axes.transAxes, ha="center", va="center", color=MUTED)
    for axes in panels[-1]:
        axes.set_xlabel("epoch")
    if len(scores) > 1:
        legend_below(figure, panels.flat[0])
    return figure


def _line(axes: Axes, snapshots: Scores, path: tuple[str, ...], **style: Any) -> None:
    points = [(snapshot["epoch"], _value(snapshot, path)) for snapshot in snapshots]
    known = [(epoch, 100 * value) for epoch, value in points if value is not None]
    axes.plot(*zip(*known) if known else ([], []), marker="o", markersize=3, linewidth=1.4, **style)


def _value(snapshot: Mapping[str, Any], path: tuple[str, ...]) -> float | None:
    value: Any = snapshot
    for key in path:
        value = value.get(key) if value is not None else None
    return None if value is None else float(value)
