"""Runs as the evaluation left them: `metrics.json`, typed."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from deepclust.core.errors import DeepclustError
from deepclust.core.files import read_json
from deepclust.core.run_path import run_path
from deepclust.core.scores import show

NO_CLASS = -1


@dataclass(frozen=True)
class SeedScores:
    """One seed of a run.

    Attributes:
        status: `ok` or `failed`.
        reason: why it failed, else empty.
        scores: single numbers by name (`acc`, `nmi`, `silhouette` …); scores that could not be computed are missing.
        sizes: images per cluster, [k].
        matching: class that each cluster was matched to one-to-one, `NO_CLASS` for none, [k]; empty without labels.
        confusion: images per class (rows) and cluster (columns), sparse int64 [classes, k]; of the selected seed only,
            None without labels.
        per_class: accuracy per class, NaN for classes without images; empty without labels.
    """

    seed: int
    status: str
    reason: str
    scores: dict[str, float]
    sizes: list[int]
    matching: list[int]
    confusion: csr_array | None
    per_class: list[float]

    def cluster_order(self) -> list[int]:
        """Return clusters in the order of their matched classes, then the unmatched ones from large to small."""

        def position(cluster: int) -> tuple[int, int, int]:
            matched = self.matching[cluster] if self.matching else NO_CLASS
            return (matched, 0, 0) if matched != NO_CLASS else (len(self.sizes), -self.sizes[cluster], cluster)

        return sorted(range(len(self.sizes)), key=position)


@dataclass(frozen=True)
class ScoredRun:
    """A dataset × backbones × a head × k, with all its seeds.

    Attributes:
        trained_on: the images that each backbone saw in training, in a few words.
        k_by: the one who chose k: `experiment`, or `auto`.
        split: the scored split, or several joined by `+`.
        published_as: the dataset's name in the literature, empty if it has none.
        images: number of scored images.
        labelled: number of scored images with a label.
        skipped: number of files that were beside the images and were left out.
        classes: names of the classes, empty without labels.
        summary: `mean` and `std` over seeds, and `low` and `high` of the bootstrap interval, by metric; numbers that
            could not be computed are missing.
        failed: seeds that failed.
        selected: the seed that was chosen without labels; the figures show it. None: every seed failed.
        criterion: the criterion by which it was chosen.
        stability: mean pairwise ARI between seeds, None with fewer than two.
        probe: ceilings on the same features (`knn_acc`, `linear_acc`), as far as there are labels.
        cost: time and means of the clustering (`seconds`, `peak_memory_mb`, `device`, `packages`), as far as recorded.
    """

    dataset: str
    backbones: tuple[str, ...]
    trained_on: tuple[str, ...]
    head: str
    k: int
    k_by: str
    protocol: str
    split: str
    published_as: str
    images: int
    labelled: int
    skipped: int
    classes: list[str]
    seeds: list[SeedScores]
    failed: list[int]
    selected: int | None
    criterion: str
    summary: dict[str, dict[str, float]]
    stability: float | None
    probe: dict[str, float]
    cost: dict[str, Any]

    @property
    def path(self) -> str:
        """Return the path of its results, below the folder of a stage."""
        k = "auto" if self.k_by == "auto" else self.k
        return run_path(self.dataset, "+".join(self.backbones), self.head, k, self.protocol)

    @property
    def skipped_text(self) -> str:
        """Return `, 3 files skipped`, to stand behind the number of images; nothing if none was."""
        return f", {self.skipped:,} file{'s' if self.skipped > 1 else ''} skipped" if self.skipped else ""

    @property
    def k_text(self) -> str:
        """Return `10`, or `12 (auto)`."""
        return f"{self.k} (auto)" if self.k_by == "auto" else str(self.k)

    @property
    def failure(self) -> str:
        """Return why there are no clusters, by the first of its seeds; empty if a seed succeeded."""
        return (self.seeds[0].reason or "no reason recorded") if self.selected is None else ""

    @property
    def metric(self) -> str:
        """Return the score that runs are ranked by: ACC, or silhouette if there are no labels."""
        return "acc" if self.labelled else "silhouette"

    def mean(self, metric: str) -> float | None:
        """Return the mean of a score over the seeds; None if it could not be computed."""
        return self.summary.get(metric, {}).get("mean")

    @property
    def chosen(self) -> SeedScores:
        """Return the result of the selected seed; the run must have one."""
        return next(result for result in self.seeds if result.seed == self.selected)


def read_run(path: Path) -> ScoredRun:
    """Read a `metrics.json`.

    Raises:
        DeepclustError: it is not the file of a run.
    """
    content = read_json(path)
    try:
        return _run(content)
    except (KeyError, TypeError, ValueError, AttributeError, StopIteration) as error:
        raise DeepclustError(
            f"{path} is not a run's metrics ({type(error).__name__}: {error}): delete it and evaluate again"
        ) from error


def _run(content: dict[str, Any]) -> ScoredRun:
    names = content["run"]
    run = ScoredRun(
        dataset=names["dataset"],
        backbones=tuple(names["backbones"]),
        trained_on=tuple(names["trained_on"]),
        head=names["head"],
        k=int(names["k"]),
        k_by=names["k_by"],
        protocol=names["protocol"],
        split=names["split"],
        published_as=names.get("published_as") or "",
        images=int(content["images"]),
        labelled=int(content["labelled"]),
        skipped=int(content.get("skipped", 0)),
        classes=_class_names(content),
        seeds=[_seed(entry) for entry in content["seeds"]],
        failed=list(content["failed"]),
        selected=None if content["selected"] is None else int(content["selected"]),
        criterion=content.get("criterion") or "",
        summary={name: _numbers(value) for name, value in content["summary"].items()},
        stability=content.get("stability"),
        probe=_numbers(content.get("probe") or {}),
        cost=content.get("cost") or {},
    )
    if run.selected is None and len(run.failed) < len(run.seeds):
        raise ValueError("no seed is selected, but not all failed")
    if run.selected is not None and run.chosen.status != "ok":
        raise ValueError(f"the selected seed {run.selected} failed")
    return run


def _class_names(content: dict[str, Any]) -> list[str]:
    """Return the names of the classes; labels without names get numbers."""
    names = [str(name) for name in content["classes"]]
    found = max((len(entry.get("confusion") or []) for entry in content["seeds"]), default=0)
    return names + [f"class {index}" for index in range(len(names), found)]


def _seed(entry: dict[str, Any]) -> SeedScores:
    sizes = [int(size) for size in entry.get("sizes") or []]
    return SeedScores(
        seed=int(entry["seed"]),
        status=entry["status"],
        reason=entry.get("reason") or "",
        scores={name: value for name, value in _numbers(entry).items() if name != "seed"},
        sizes=sizes,
        matching=[NO_CLASS if matched is None else int(matched) for matched in entry.get("matching") or []],
        confusion=_table(entry["confusion"], len(sizes)) if entry.get("confusion") else None,
        per_class=[np.nan if value is None else float(value) for value in entry.get("per_class") or []],
    )


def _table(classes: list[dict[str, int]], k: int) -> csr_array:
    """Return the confusion matrix, [classes, k], from each class's numbers of images by cluster."""
    ends = np.cumsum([0, *map(len, classes)])
    clusters = np.asarray([int(cluster) for row in classes for cluster in row], np.int64)
    images = np.asarray([int(count) for row in classes for count in row.values()], np.int64)
    return csr_array((images, clusters, ends), shape=(len(classes), k))


def _numbers(entry: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in entry.items() if type(value) in (int, float)}


def ranked(runs: Iterable[ScoredRun]) -> list[ScoredRun]:
    """Return runs by dataset, and within a dataset the best first."""

    def position(run: ScoredRun) -> tuple[str, bool, float, str]:
        score = run.mean(run.metric)
        return run.dataset, run.metric != "acc", float("inf") if score is None else -score, run.path

    return sorted(runs, key=position)


def by_dataset(runs: Iterable[ScoredRun]) -> dict[str, list[ScoredRun]]:
    """Return the ranked runs of each dataset."""
    groups: dict[str, list[ScoredRun]] = {}
    for run in ranked(runs):
        groups.setdefault(run.dataset, []).append(run)
    return groups


def seed_spread(run: ScoredRun, metric: str) -> str:
    """Return `83.1 ± 0.4`: mean and standard deviation over seeds; only the mean of a single seed."""
    numbers = run.summary.get(metric, {})
    spread = show(numbers.get("std"), metric)
    return show(numbers.get("mean"), metric) + (f" ± {spread}" if spread else "")
