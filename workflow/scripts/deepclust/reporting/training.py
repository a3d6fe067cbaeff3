"""How pretraining went: loss, learning rate, throughput and spread of the features, per epoch."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from deepclust.common.errors import DeepclustError
from deepclust.reporting.style import CATEGORIES, MUTED, RULE, new_figure, note, printable

_LINES = ("-", (0, (4, 2)), (0, (1, 1.5)), (0, (5, 1.5, 1, 1.5)))

# key in the log, title, what a reader should know
_PANELS = (
    ("loss", "Loss", "mean of the epoch; comparable only within one method"),
    ("learning_rate", "Learning rate", "at the end of the epoch"),
    ("images_per_second", "Throughput", "images per second"),
    ("feature_std", "Feature spread", "standard deviation; near 0 means collapse"),
)

Log = list[dict[str, Any]]


def read_log(path: Path) -> Log:
    """Read a `training.jsonl`: one dict per epoch, by epoch. Of an epoch that is there twice, the last counts.

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
    """Curves over epochs, one line per backbone.

    Args:
        logs: training log of each backbone by its name.
    """
    figure = new_figure(8.2, 5.0)
    panels = figure.subplots(2, 2)
    for axes, (key, title, explanation) in zip(panels.flat, _PANELS):
        _panel(axes, logs, key)
        axes.set_title(title, pad=18)
        note(axes, explanation)
    for axes in panels[-1]:
        axes.set_xlabel("epoch")
    if len(logs) > 1:
        handles, labels = panels.flat[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower left", ncols=min(4, len(logs)))
    return figure


def _panel(axes: Axes, logs: Mapping[str, Log], key: str) -> None:
    for index, (name, log) in enumerate(logs.items()):
        points = [(entry["epoch"], entry[key]) for entry in log if entry.get(key) is not None]
        x, y = np.asarray(points, float).reshape(-1, 2).T
        color, line = CATEGORIES[index % len(CATEGORIES)], _LINES[index // len(CATEGORIES) % len(_LINES)]
        marker = "o" if len(x) == 1 else ""
        axes.plot(x, y, color=color, linestyle=line, marker=marker, linewidth=1.4, label=printable(name, 40))
    axes.grid(axis="y", color=RULE)
    axes.tick_params(length=0)
    if key in {"images_per_second", "feature_std", "learning_rate"}:
        axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    if not any(entry.get(key) is not None for log in logs.values() for entry in log):
        axes.set_yticks([])
        axes.text(0.5, 0.5, "not recorded", transform=axes.transAxes, ha="center", va="center", color=MUTED)
