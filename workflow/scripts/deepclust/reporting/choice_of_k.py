"""How the number of clusters was chosen: what `choose_k` found, and a figure of its criteria."""

from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from deepclust.core.errors import DeepclustError
from deepclust.core.files import read_json
from deepclust.reporting.style import ACCENT, INK, MUTED, RULE, new_figure, note

# key in the file, title, what a reader should know
_PANELS = (
    ("silhouette", "Silhouette", "high: compact and far apart"),
    ("stability", "Stability", "high: subsamples agree"),
    ("modularity", "Modularity", "high: neighbors stay together"),
    ("eigengap", "Eigengap", "high: a gap in the graph's spectrum"),
    ("mean_rank", "Mean rank", "the lowest is chosen"),
)


@dataclass(frozen=True)
class ChoiceOfK:
    """What `choose_k` wrote.

    Attributes:
        numbers: numbers of clusters that were tried, ascending.
        criteria: of each number, by name of the criterion; `mean_rank` is their mean rank.
        images: how many images were looked at.
    """

    k: int
    reason: str
    numbers: list[int]
    criteria: dict[str, list[float]]
    images: int


def read_choice(path: Path) -> ChoiceOfK:
    """Read the result of `choose_k`.

    Raises:
        DeepclustError: it is not such a file.
    """
    content = read_json(path)
    try:
        choice = ChoiceOfK(**content)
        complete = all(len(choice.criteria[name]) == len(choice.numbers) for name, _, _ in _PANELS)
    except (KeyError, TypeError) as error:
        raise DeepclustError(f"{path} is not a choice of k ({error}): delete it and run the workflow again") from error
    if not complete:
        raise DeepclustError(f"{path} lacks values of a criterion: delete it and run the workflow again")
    return choice


def choice_figure(choice: ChoiceOfK) -> Figure:
    """Every criterion against the number of clusters; the chosen number as a line, each criterion's own as a dot."""
    figure = new_figure(8.2, 4.4)
    panels = figure.subplots(2, 3)
    for axes, (name, title, explanation) in zip(panels.flat, _PANELS):
        _panel(axes, choice, choice.criteria[name], lowest=name == "mean_rank")
        axes.set_title(title, pad=18)
        note(axes, explanation)
    panels.flat[-1].axis("off")
    panels.flat[-1].text(0, 0.5, f"k = {choice.k}", fontsize=14, color=ACCENT)
    panels.flat[-1].text(0, 0.35, f"{len(choice.numbers)} numbers, {choice.images:,} images, no labels", color=MUTED)
    return figure


def _panel(axes: Axes, choice: ChoiceOfK, values: list[float], lowest: bool) -> None:
    axes.axvline(choice.k, color=ACCENT, linewidth=1.2)
    axes.plot(choice.numbers, values, color=INK, linewidth=1.2)
    best = min(values) if lowest else max(values)
    own = choice.numbers[values.index(best)]
    axes.plot(own, best, marker="o", color=INK, markersize=5)
    axes.annotate(str(own), (own, best), (5, 2), textcoords="offset points", color=INK)
    axes.grid(axis="y", color=RULE)
    axes.tick_params(length=0)
    axes.set_xlabel("number of clusters")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
