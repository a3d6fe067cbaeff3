"""Linear probe per layer: how well each stage of the networks tells the labels."""

import csv
from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from deepclust.core.errors import DeepclustError
from deepclust.core.figures import FigureFacts
from deepclust.core.options import Options as BaseOptions
from deepclust.reporting.scopes import ExperimentFiles
from deepclust.reporting.style import CATEGORIES, LONGEST_NAME, RULE, legend_below, new_figure, note, printable

FACTS = FigureFacts(
    title="Linear probe per layer",
    scope="experiment",
    reads=("tables",),
    section="Layers",
    explanation="A linear classifier, fitted with labels, behind each stage of the networks: what their features hold, "
    "no clustering score.",
    alternative="Accuracy of a linear probe behind each layer",
    order=40,
)


class Options(BaseOptions):
    """Options of the probed layers: none."""


def draw(of: ExperimentFiles, options: Options) -> Figure:
    """Draw all probed backbones."""
    names = [f"{path.parent.name} on {path.parent.parent.name}" for path in of.tables]
    return layer_figure(dict(zip(names, map(read_layers, of.tables))))


def read_layers(path: Path) -> dict[int, float]:
    """Read the accuracy by stage, from a `layers.csv`.

    Raises:
        DeepclustError: it is no such table.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return {int(row["layer"]): float(row["linear_acc"]) for row in csv.DictReader(file)}
    except (KeyError, ValueError) as error:
        raise DeepclustError(f"{path} is not a table of layers: delete it and run the workflow again") from error


def layer_figure(tables: Mapping[str, Mapping[int, float]]) -> Figure:
    """Draw the accuracy over stages, one line per network and dataset.

    Args:
        tables: accuracy by stage, by the name of the line.
    """
    figure = new_figure(6.4, 3.6)
    axes = figure.subplots()
    for index, (name, accuracies) in enumerate(tables.items()):
        color, values = CATEGORIES[index % len(CATEGORIES)], [100 * value for value in accuracies.values()]
        axes.plot(
            list(accuracies), values, color=color, marker="o", linewidth=1.4, label=printable(name, 2 * LONGEST_NAME)
        )
    axes.set_title("Linear probe per layer", pad=18)
    note(axes, "accuracy in percent of a linear classifier behind each stage, fitted with labels")
    axes.set_xlabel("layer (of a ResNet: 0 for the stem, then its stages)")
    axes.xaxis.set_major_locator(MaxNLocator(13, integer=True))
    axes.grid(axis="y", color=RULE)
    axes.tick_params(length=0)
    legend_below(figure, axes, columns=2)
    return figure
