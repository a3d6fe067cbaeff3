"""The tables of the report page, as plain values that its template lays out."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from deepclust.core.scores import show, show_share
from deepclust.reporting.published import Published, comparable
from deepclust.reporting.runs import ScoredRun, seed_spread

MOST_OWN = 10  # runs of ours among the published ones


@dataclass(frozen=True)
class Cell:
    """A cell: text, a second muted line, the value to sort by, a share for a bar, and a kind of look."""

    text: str
    detail: str = ""
    value: float | None = None
    bar: float | None = None
    look: str = ""


@dataclass(frozen=True)
class Column:
    """A column: its title, its meaning, and whether it holds numbers."""

    title: str
    meaning: str = ""
    numeric: bool = True


@dataclass(frozen=True)
class Gain:
    """The gain of learned features over raw pixels under the same head, k and protocol."""

    run: ScoredRun
    baseline: ScoredRun

    @property
    def points(self) -> float:
        """Return the percentage points of ACC."""
        return 100 * self._share

    @property
    def text(self) -> str:
        """Return the points with their sign."""
        return show_share(self._share, sign=True).replace("-", "−")

    @property
    def _share(self) -> float:
        return (self.run.mean("acc") or 0) - (self.baseline.mean("acc") or 0)


@dataclass(frozen=True)
class Table:
    """Rows of cells under columns; `runs` has the run of each row, None for published ones."""

    columns: list[Column]
    rows: list[list[Cell]] = field(default_factory=list)
    runs: list[ScoredRun | None] = field(default_factory=list)


# Scores that need no matching of clusters to classes, and more of them for runs with another k than classes.
SCORES = {
    "nmi": Column("NMI", "normalised mutual information (arithmetic)"),
    "ari": Column("ARI", "adjusted Rand index"),
}
UNMATCHED = {
    "ami": Column("AMI", "adjusted mutual information: as ARI, it compares runs of different k"),
    "purity": Column("Purity", "share of images in the most frequent class of their cluster: rises with k"),
}


def gains(runs: Sequence[ScoredRun], pixels: Collection[str]) -> dict[str, Gain]:
    """Return the gain of each run over the best run on raw pixels that is otherwise the same, by the run's path.

    Args:
        pixels: names of the backbones that are raw pixels.
    """
    scored = sorted((run for run in runs if run.mean("acc") is not None), key=lambda run: run.mean("acc") or 0)
    baselines = {_setting(run): run for run in scored if set(run.backbones) <= set(pixels)}  # the best comes last
    return {
        run.path: Gain(run, baselines[_setting(run)])
        for run in scored
        if not set(run.backbones) <= set(pixels) and _setting(run) in baselines
    }


def _setting(run: ScoredRun) -> tuple[str, str, str, str]:
    return run.dataset, run.head, run.k_by if run.k_by == "auto" else str(run.k), run.protocol


def leaderboard_table(group: Sequence[ScoredRun], gained: dict[str, Gain]) -> Table:
    """Return the runs of one dataset, best first."""
    labelled = group[0].metric == "acc"
    several_k = len({run.k_text for run in group}) > 1
    several_protocols = len({run.protocol for run in group}) > 1
    some_gained = any(run.path in gained for run in group)
    unmatched = labelled and any(run.k != len(run.classes) for run in group)
    scores = SCORES | UNMATCHED if unmatched else SCORES

    columns = [Column("Backbone", "and what it saw in training", numeric=False), Column("Head", numeric=False)]
    columns += [Column("k", "number of clusters")] if several_k or unmatched else []
    columns += [Column("Protocol", numeric=False)] if several_protocols else []
    if labelled:
        columns.append(Column("ACC", "clustering accuracy, mean ± standard deviation over seeds; bootstrap interval"))
        columns += (
            [Column("vs. pixels", "points of ACC above raw pixels with the same head and k")] if some_gained else []
        )
        columns += [
            *scores.values(),
            Column("k-NN", "accuracy of k nearest neighbors on the same features: a ceiling"),
            Column("Linear", "accuracy of a linear probe on the same features: a ceiling; distance of ACC to it"),
        ]
    else:
        columns += [
            Column("Silhouette", "−1 to 1, mean ± standard deviation over seeds; bootstrap interval"),
            Column("Neighbors", "nearest neighbors (half-whitened) in the same cluster, percent"),
        ]
    columns += [
        Column("Stability", "mean pairwise ARI between seeds"),
        Column("Seeds", "seeds that succeeded"),
        Column("Time", "wall time of clustering, all seeds"),
    ]

    table = Table(columns)
    for run in group:
        row = [Cell("+".join(run.backbones), " + ".join(run.trained_on)), Cell(run.head)]
        row += [Cell(run.k_text, value=run.k)] if several_k or unmatched else []
        row += [Cell(run.protocol)] if several_protocols else []
        row.append(_main_score(run, group[0].metric))
        if labelled:
            row += [_gain(gained.get(run.path))] if some_gained else []
            row += [_score(run, metric) for metric in scores]
            row += [_ceiling(run, "knn_acc"), _ceiling(run, "linear_acc")]
        else:
            row.append(_score(run, "neighbor_agreement"))
        row += [Cell(show(run.stability, "ari"), value=run.stability), _seeds(run), _time(run)]
        table.rows.append(row)
        table.runs.append(run)
    return table


def _main_score(run: ScoredRun, metric: str) -> Cell:
    """Return the score that the table is sorted by; empty for a run without it, such as one without labels."""
    if run.failure:
        return Cell("failed", look="warning")
    mean = run.mean(metric)
    bar = mean if metric == "acc" else None
    return Cell(seed_spread(run, metric), interval(run, metric), mean, bar, "main")


def interval(run: ScoredRun, metric: str) -> str:
    """Return `82.0 – 84.1`: the bootstrap interval of a score; empty if there is none."""
    numbers = run.summary.get(metric, {})
    if not {"low", "high"} <= numbers.keys():
        return ""
    return f"{show(numbers['low'], metric)} – {show(numbers['high'], metric)}"


def _score(run: ScoredRun, metric: str) -> Cell:
    return Cell(seed_spread(run, metric), value=run.mean(metric))


def _gain(gain: Gain | None) -> Cell:
    return Cell("") if gain is None else Cell(gain.text, value=gain.points)


def _ceiling(run: ScoredRun, name: str) -> Cell:
    ceiling, accuracy = run.probe.get(name), run.mean("acc")
    if ceiling is None:
        return Cell("")
    distance = f"{show(ceiling - accuracy, 'acc')} above" if accuracy is not None and ceiling > accuracy else ""
    return Cell(show(ceiling, "acc"), distance, ceiling)


def _seeds(run: ScoredRun) -> Cell:
    succeeded = len(run.seeds) - len(run.failed)
    detail = f"{len(run.failed)} failed" if run.failed else ""
    return Cell(str(succeeded), detail, succeeded, look="warning" if run.failed else "")


def _time(run: ScoredRun) -> Cell:
    seconds = run.cost.get("seconds")
    return Cell("" if seconds is None else duration(seconds), value=seconds)


def duration(seconds: float) -> str:
    """Return `3.2 s`, `5 min 10 s` or `2 h 05 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min"


def published_table(group: Sequence[ScoredRun], published: Sequence[Published]) -> Table | None:
    """Return a dataset's best runs among its published results, by ACC; None if nothing is published."""
    found = comparable(published, group[0].published_as, {run.protocol for run in group}, "acc")
    if not found or group[0].metric != "acc":
        return None
    table = Table(
        [
            Column("Method", numeric=False),
            Column("Backbone", numeric=False),
            Column("Protocol", numeric=False),
            Column("ACC"),
            Column("NMI"),
            Column("ARI"),
            Column("Source", numeric=False),
        ]
    )
    protocols = {run.protocol for run in group}
    entries: list[tuple[float, list[Cell], ScoredRun | None]] = []
    for run in [run for run in group if run.mean("acc") is not None][:MOST_OWN]:
        head = run.head if run.k == len(run.classes) else f"{run.head}, k = {run.k_text}"
        row = [Cell(head), Cell("+".join(run.backbones), " + ".join(run.trained_on)), Cell(run.protocol)]
        row += [_score(run, metric) for metric in ("acc", "nmi", "ari")]
        entries.append((run.mean("acc") or 0, [*row, Cell("measured here")], run))
    for result in found:
        look = "" if result.protocol in protocols else "other"
        row = [Cell(result.method, look=look), Cell(result.backbone), Cell(result.protocol)]
        scores = [result.scores.get(metric) for metric in ("acc", "nmi", "ari")]
        row += [Cell(show(score, "acc"), value=score) for score in scores]
        entries.append((result.scores["acc"], [*row, Cell(result.source, result.note)], None))
    for _, row, own in sorted(entries, key=lambda entry: -entry[0]):
        table.rows.append(row)
        table.runs.append(own)
    return table


def seed_table(run: ScoredRun) -> Table:
    """Return every seed of a run, failed ones with their reason."""
    scores = ["acc", "nmi", "ari"] if run.metric == "acc" else []
    scores += ["silhouette", "neighbor_agreement"]
    titles = {
        "acc": "ACC",
        "nmi": "NMI",
        "ari": "ARI",
        "silhouette": "Silhouette",
        "neighbor_agreement": "Neighbors",
    }
    table = Table([Column("Seed", numeric=False), *(Column(titles[name]) for name in scores), Column("Cluster sizes")])
    for result in run.seeds:
        if result.status == "ok":
            look = "chosen" if result.seed == run.selected else ""
            row = [Cell(str(result.seed), "selected" if look else "", result.seed, look=look)]
            row += [Cell(show(result.scores.get(name), name), value=result.scores.get(name)) for name in scores]
            row.append(Cell(f"{min(result.sizes):,} – {max(result.sizes):,}" if result.sizes else ""))
        else:
            row = [Cell(str(result.seed), "failed", result.seed, look="warning")]
            row += [Cell("") for _ in scores]
            row.append(Cell(result.reason or "no reason recorded", look="reason"))
        table.rows.append(row)
        table.runs.append(None)
    return table
