"""Leaderboard: all runs with their ceilings, and the published numbers of the same datasets."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from deepclust.core.figures import FigureFacts
from deepclust.core.options import Options as BaseOptions
from deepclust.core.scores import scale, show
from deepclust.reporting.published import Published, comparable, read_published
from deepclust.reporting.runs import ScoredRun, by_dataset, read_run, seed_spread
from deepclust.reporting.scopes import ExperimentFiles
from deepclust.reporting.style import ACCENT, ERROR, INK, LONGEST_NAME, MUTED, RULE, new_figure, note, printable, widest

FACTS = FigureFacts(
    title="All runs",
    scope="experiment",
    reads=("metrics",),
    section="Leaderboard",
    reading="Each dot is a run, with its spread over seeds (wide bar) and the bootstrap interval over images (thin "
    "line); the orange marks are what k-NN and a linear probe reach with labels on the same features. Below the line "
    "stand published numbers with their protocol, for orientation: they differ in backbone and pretraining data.",
    alternative="Dot plot of all runs with their ceilings and published results; the tables have the numbers",
    look="chart",
    order=1,
)

MOST_DATASETS = 20  # the first by name; a picture can only be so high
MOST_RUNS = 25  # per dataset
MOST_PUBLISHED = 12  # per dataset
METRIC_NAMES = {"acc": "ACC, percent", "silhouette": "silhouette"}

_ROW = 0.235  # inches
_HEAD = 0.95
_DOTS = 5.2


class Options(BaseOptions):
    """Options of the leaderboard: none."""


@dataclass(frozen=True)
class _Row:
    """One line of the figure, all numbers as they are shown (`runs.scale`)."""

    label: str
    text: str
    score: float | None
    """None: every seed failed."""
    std: float | None = None
    interval: tuple[float, float] | None = None
    ceilings: dict[str, float] = field(default_factory=dict)
    published: bool = False

    def extent(self) -> Iterator[float]:
        """Yield all positions that are drawn."""
        if self.score is not None:
            yield from (self.score - (self.std or 0), self.score + (self.std or 0))
        yield from self.interval or ()
        yield from self.ceilings.values()


def draw(of: ExperimentFiles, options: Options) -> Figure:
    """Draw all runs."""
    return leaderboard_figure([read_run(path) for path in of.metrics], read_published())


def leaderboard_figure(runs: Sequence[ScoredRun], published: Sequence[Published]) -> Figure:
    """Draw a dot plot per dataset: mean over seeds with spread and interval, ceilings, and published results below."""
    panels = []
    groups = by_dataset(runs)
    for dataset, group in list(groups.items())[:MOST_DATASETS]:
        rows = _run_rows(group)
        rows += _published_rows(group, published) if rows else []
        panels.append((dataset, group, rows))
    lines = [max(1, len(rows)) for _, _, rows in panels]
    figure = new_figure(_width(panels), 0.5 + _HEAD * len(panels) + _ROW * sum(lines))
    axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=lines)[:, 0]
    for panel, (dataset, group, rows) in zip(axes, panels):
        _draw(panel, rows)
        panel.set_title(printable(dataset, LONGEST_NAME), pad=18)
        note(panel, _description(group, rows))
        panel.set_xlabel(METRIC_NAMES[group[0].metric])
    _legend(figure, [row for _, _, rows in panels for row in rows])
    if len(groups) > MOST_DATASETS:
        figure.suptitle(f"{MOST_DATASETS} of {len(groups)} datasets; the table has all", fontsize=8, color=MUTED)
    return figure


def _width(panels: Sequence[tuple[str, Sequence[ScoredRun], Sequence[_Row]]]) -> float:
    """Return inches that leave the dots their space beside long names, and titles theirs above the dots."""
    titles = [printable(dataset, LONGEST_NAME) for dataset, _, _ in panels]
    labels = [row.label for _, _, rows in panels for row in rows]
    return max(8.2, widest(labels) + max(_DOTS, widest(titles, 9, "bold") + 0.7))


def _run_rows(group: Sequence[ScoredRun]) -> list[_Row]:
    several_k = len({run.k_text for run in group}) > 1
    several_protocols = len({run.protocol for run in group}) > 1
    metric = group[0].metric
    rows = []
    for run in group:
        numbers = {name: scale(metric) * value for name, value in run.summary.get(metric, {}).items()}
        if run.metric != metric or not (run.failure or "mean" in numbers):
            continue
        parts = [printable("+".join(run.backbones), LONGEST_NAME), printable(run.head, LONGEST_NAME)]
        parts += [f"k = {run.k_text}"] if several_k else []
        parts += [run.protocol] if several_protocols else []
        rows.append(
            _Row(
                label=" · ".join(parts),
                text="every seed failed" if run.failure else seed_spread(run, metric),
                score=numbers.get("mean"),
                std=numbers.get("std"),
                interval=(numbers["low"], numbers["high"]) if {"low", "high"} <= numbers.keys() else None,
                ceilings={name: 100 * run.probe[name] for name in _CEILING_MARKS if name in run.probe},
            )
        )
    return rows[:MOST_RUNS]


def _published_rows(group: Sequence[ScoredRun], published: Sequence[Published]) -> list[_Row]:
    if group[0].metric != "acc":
        return []
    found = comparable(published, group[0].published_as, {run.protocol for run in group}, "acc", MOST_PUBLISHED)
    return [
        _Row(
            label=" · ".join(printable(name, LONGEST_NAME) for name in (result.method, result.backbone)),
            text=f"{show(result.scores['acc'], 'acc')}  {result.protocol}",
            score=100 * result.scores["acc"],
            published=True,
        )
        for result in found
    ]


def _description(group: Sequence[ScoredRun], rows: Sequence[_Row]) -> str:
    shown = sum(not row.published for row in rows)
    some = group[0]
    parts = [f"{shown} of {len(group)} runs" if shown < len(group) else f"{len(group)} run{'s' if shown > 1 else ''}"]
    if len({(run.protocol, run.split) for run in group}) == 1:
        parts.append(f"{some.protocol}, {some.images:,} images ({some.split}){some.skipped_text}")
    if len({run.k_text for run in group}) == 1:
        parts.append(f"k = {some.k_text}")
    return ", ".join(parts)


def _draw(axes: Axes, rows: Sequence[_Row]) -> None:
    values = [value for row in rows for value in row.extent()]
    low, high = (min(values), max(values)) if values else (0.0, 100.0)
    margin = 0.06 * (high - low) or 0.5
    axes.set_xlim(low - margin, min(high + margin, 100.5))
    for y, row in enumerate(rows):
        axes.axhline(y, color=RULE, linewidth=0.6, zorder=0)
        if row.published and row.score is not None:
            axes.plot(row.score, y, marker="s", color="white", markeredgecolor=MUTED, markersize=5)
        elif row.score is not None:
            _draw_score(axes, y, row.score, row)
        for name, value in row.ceilings.items():
            axes.plot(value, y, **_CEILING_MARKS[name])
        axes.annotate(
            row.text,
            (1, y),
            (6, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            va="center",
            color=MUTED if row.published else INK if row.score is not None else ERROR,
        )
    axes.set_yticks(range(len(rows)), [row.label for row in rows])
    for label, row in zip(axes.get_yticklabels(), rows):
        label.set_color(MUTED if row.published else INK)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.tick_params(length=0)
    axes.grid(axis="x", color=RULE)
    axes.spines[:].set_visible(False)
    first = next((y for y, row in enumerate(rows) if row.published), None)
    if first is not None:
        axes.axhline(first - 0.5, color=MUTED, linewidth=0.9)


def _draw_score(axes: Axes, y: int, score: float, row: _Row) -> None:
    """Draw the mean of a run, with its spread and interval."""
    if row.interval is not None:
        axes.plot(row.interval, (y, y), color=ACCENT, linewidth=1.2)
    if row.std is not None:
        axes.plot(
            (score - row.std, score + row.std),
            (y, y),
            color=ACCENT,
            linewidth=4,
            alpha=0.35,
            solid_capstyle="butt",
        )
    axes.plot(score, y, marker="o", color=ACCENT, markersize=6)


_CEILING_MARKS: dict[str, Any] = {
    "knn_acc": {"marker": "|", "color": ERROR, "markersize": 9, "markeredgewidth": 1.6, "linestyle": ""},
    "linear_acc": {"marker": "D", "color": "white", "markeredgecolor": ERROR, "markersize": 5, "linestyle": ""},
}


def _legend(figure: Figure, rows: Sequence[_Row]) -> None:
    handles = [Line2D([], [], color=ACCENT, marker="o", linestyle="", label="mean over seeds")]
    if any(row.std is not None for row in rows):
        handles.append(Line2D([], [], color=ACCENT, linewidth=4, alpha=0.35, label="± standard deviation over seeds"))
    if any(row.interval for row in rows):
        handles.append(Line2D([], [], color=ACCENT, linewidth=1.2, label="bootstrap interval over images"))
    names = {"knn_acc": "k-NN on the same features", "linear_acc": "linear probe on the same features"}
    for name, style in _CEILING_MARKS.items():
        if any(name in row.ceilings for row in rows):
            handles.append(Line2D([], [], label=names[name], **style))
    if any(row.published for row in rows):
        mark: Any = {"marker": "s", "color": "white", "markeredgecolor": MUTED, "linestyle": ""}
        handles.append(Line2D([], [], markersize=5, label="published, with protocol", **mark))
    figure.legend(handles=handles, loc="outside lower left", ncols=3, columnspacing=1.6, handletextpad=0.6)
