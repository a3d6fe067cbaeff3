"""Training curves: all values that pretraining logged per epoch (loss, throughput, spread of features, clusters …)."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from deepclust.core.errors import DeepclustError
from deepclust.core.figures import FigureFacts
from deepclust.core.options import Options as BaseOptions
from deepclust.reporting.scopes import ExperimentFiles
from deepclust.reporting.style import CATEGORIES, LONGEST_NAME, MUTED, RULE, legend_below, new_figure, note, printable

FACTS = FigureFacts(
    title="Training curves",
    scope="experiment",
    reads=("logs",),
    section="Training",
    explanation="Self-supervised pretraining of the backbones, per epoch. A feature spread that falls to zero means "
    "that all images look the same to the network.",
    reading="Where the method clusters, sizes of clusters, confidence and how many images stayed in their cluster are "
    "drawn, too. A cluster entropy that falls towards zero is a collapse as well, and a loss that still falls at the "
    "end asks for more epochs.",
    alternative="All that was logged per epoch: loss, learning rate, throughput, feature spread, clusters",
    order=30,
)

_LINES = ("-", (0, (4, 2)), (0, (1, 1.5)), (0, (5, 1.5, 1, 1.5)))

# key in the log → title, what a reader should know; all other keys that methods log come after these
_PANELS = {
    "loss": ("Loss", "mean; comparable within a method"),
    "learning_rate": ("Learning rate", "at the end of the epoch"),
    "images_per_second": ("Throughput", "images per second"),
    "feature_std": ("Feature spread", "standard deviation; near 0: collapse"),
    "projection_std": ("Projection spread", "standard deviation; near 0: collapse"),
    "mean_max_probability": ("Confidence", "mean probability of the likeliest cluster"),
    "agreement": ("Agreement", "share of images that stayed in their cluster"),
    "cluster_entropy": ("Cluster entropy", "of the sizes; 1: all are equal"),
    "cluster_min": ("Smallest cluster", "multiple of the mean size"),
    "cluster_max": ("Largest cluster", "multiple of the mean size"),
    "empty_clusters": ("Empty clusters", "number"),
    "confident": ("Confident images", "share that is trained on"),
    "accuracy": ("Contrastive accuracy", "the other view is the nearest"),
}
_ALWAYS = ("loss", "learning_rate", "images_per_second", "feature_std")
_NOT_DRAWN = {"epoch", "seconds"}
_COLUMNS = 4
# Keys whose zero has a meaning.
_FROM_ZERO = set(_PANELS) - {"loss"}

Log = list[dict[str, Any]]


class Options(BaseOptions):
    """Options of the training curves: none."""


def draw(of: ExperimentFiles, options: Options) -> Figure:
    """Draw all pretrained backbones."""
    return training_figure({path.parent.name: read_log(path) for path in of.logs})


def read_log(path: Path) -> Log:
    """Read a `training.jsonl`: one dict per epoch, by epoch.

    The last one counts if an epoch is there twice.

    Raises:
        DeepclustError: a line is not a JSON object with an `epoch`.
    """
    epochs: dict[int, dict[str, Any]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            epochs[int(entry["epoch"])] = entry
        except (ValueError, KeyError, TypeError) as error:
            raise DeepclustError(f"{path}, line {number} is not an epoch of a training log") from error
    return [epochs[epoch] for epoch in sorted(epochs)]


def training_figure(logs: Mapping[str, Log]) -> Figure:
    """Draw small curves over epochs of everything that was logged, one line per backbone.

    Args:
        logs: training log of each backbone by its name.
    """
    keys = monitors(logs)
    rows = math.ceil(len(keys) / _COLUMNS)
    figure = new_figure(11.0, 0.4 + 1.9 * rows)
    panels = figure.subplots(rows, _COLUMNS, squeeze=False)
    for axes, key in zip(panels.flat, keys):
        _panel(axes, logs, key)
        title, explanation = _PANELS.get(key, (key.replace("_", " ").capitalize(), ""))
        axes.set_title(title, pad=18)
        note(axes, explanation)
    for number, axes in enumerate(panels.flat):
        axes.set_visible(number < len(keys))
        if len(keys) - _COLUMNS <= number < len(keys):  # nothing is below
            axes.set_xlabel("epoch")
    if len(logs) > 1:
        legend_below(figure, panels.flat[0])
    return figure


def monitors(logs: Mapping[str, Log]) -> list[str]:
    """Return the keys that are drawn: all that any backbone logs, those that all methods share first."""
    logged = {key for log in logs.values() for entry in log for key in entry}
    known = [key for key in _PANELS if key in _ALWAYS or key in logged]
    return known + sorted(logged - set(known) - _NOT_DRAWN)


def _panel(axes: Axes, logs: Mapping[str, Log], key: str) -> None:
    for index, (name, log) in enumerate(logs.items()):
        points = [(entry["epoch"], entry[key]) for entry in log if entry.get(key) is not None]
        x, y = np.asarray(points, float).reshape(-1, 2).T
        color, line = CATEGORIES[index % len(CATEGORIES)], _LINES[index // len(CATEGORIES) % len(_LINES)]
        marker = "o" if len(x) == 1 else ""
        axes.plot(x, y, color=color, linestyle=line, marker=marker, linewidth=1.4, label=printable(name, LONGEST_NAME))
    axes.grid(axis="y", color=RULE)
    axes.tick_params(length=0)
    if key in _FROM_ZERO:
        axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    if not any(entry.get(key) is not None for log in logs.values() for entry in log):
        axes.set_yticks([])
        axes.text(0.5, 0.5, "not recorded", transform=axes.transAxes, ha="center", va="center", color=MUTED)
