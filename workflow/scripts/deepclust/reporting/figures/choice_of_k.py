"""Choice of k: the criteria by which the number of clusters of a setting was chosen."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from deepclust.core.figures import FigureFacts
from deepclust.core.options import Options as BaseOptions
from deepclust.reporting.choice import ChoiceOfK, read_choice
from deepclust.reporting.scopes import SettingFiles
from deepclust.reporting.style import ACCENT, INK, MUTED, RULE, new_figure, note

FACTS = FigureFacts(
    title="Choice of k",
    scope="setting",
    reads=("choice",),
    section="Number of clusters",
    explanation="Chosen without labels, for runs with ``k: auto``: four criteria rank every number that was tried, and "
    "the best mean rank wins.",
    reading="The line is the chosen number, and dots mark what each criterion would choose alone. Where these lie far "
    "apart, the features have no single number of clusters: look at several.",
    alternative="Criteria against the number of clusters",
    order=20,
)

# key in the file, title, what a reader should know
_PANELS = (
    ("silhouette", "Silhouette", "high: compact and far apart"),
    ("stability", "Stability", "high: subsamples agree"),
    ("modularity", "Modularity", "high: neighbors stay together"),
    ("eigengap", "Eigengap", "high: a gap in the graph's spectrum"),
    ("mean_rank", "Mean rank", "the lowest is chosen"),
)


class Options(BaseOptions):
    """Options of the choice of k: none."""


def draw(of: SettingFiles, options: Options) -> Figure:
    """Draw the choice."""
    assert of.choice is not None
    return choice_figure(read_choice(of.choice))


def choice_figure(choice: ChoiceOfK) -> Figure:
    """Draw every criterion against the number of clusters: the chosen number as a line, each criterion's as a dot."""
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
