"""All scores of one run, as they stand in `metrics.json`."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from deepclust.core.errors import DeepclustError
from deepclust.core.progress import Progress
from deepclust.evaluation.assignments import read_assignments
from deepclust.evaluation.bootstrap import Interval, mean_interval, score_intervals
from deepclust.evaluation.inputs import (
    UNKNOWN,
    check_lengths,
    feature_count,
    load_array,
    read_labels,
    unit_features,
)
from deepclust.evaluation.labelfree import neighbor_agreement, silhouette, size_entropy, stability
from deepclust.evaluation.metrics import METRICS, Comparison, accuracy_per_class, contingency, match
from deepclust.evaluation.options import NEAREST, ScoringOptions
from deepclust.heads.kit.modularity import modularity

LABEL_FREE = ("silhouette", "neighbor_agreement")
SUMMARISED = (*METRICS, *LABEL_FREE, "modularity")
SEED_KEYS = (*SUMMARISED, "sizes", "size_entropy", "matching", "confusion", "per_class")


@dataclass(frozen=True)
class ScoredSplits:
    """The scored images of a run: its splits one after the other.

    Attributes:
        assignments: cluster of each image for each seed that succeeded, int64 [S, N].
        k: number of clusters.
        labels: class of each image, -1 where unknown, int64 [N].
        classes: number of classes, 0 without labels.
        features: per split, `features.npy` of each backbone.
        neighbors: `half_whitened_neighbors.npy` of each backbone, among the images of all splits.
        nearest: the number of these that count, but never more than `NEAREST`.
    """

    assignments: npt.NDArray[np.int64]
    k: int
    labels: npt.NDArray[np.int64]
    classes: int
    features: list[list[Path]]
    neighbors: list[Path]
    nearest: int = NEAREST

    @property
    def labelled(self) -> npt.NDArray[np.bool_]:
        """Tell which images have a known class, [N]."""
        return np.not_equal(self.labels, UNKNOWN)

    @cached_property
    def graphs(self) -> list[npt.NDArray[np.integer]]:
        """Return the nearest neighbors of each image by each backbone, [N, n]."""
        return [load_array(path, 2, "i")[:, : min(self.nearest, NEAREST)] for path in self.neighbors]

    def unit_features(self) -> Iterator[npt.NDArray[np.float32]]:
        """Yield the features of all images in blocks of unit vectors."""
        for files in self.features:
            yield from unit_features(files)


def read_scored(
    clusters: Path,
    seeds: Sequence[int],
    splits: Sequence[str],
    k: int,
    *,
    features: list[list[Path]],
    neighbors: list[Path],
    labels: Sequence[Path],
    classes: int,
    nearest: int = NEAREST,
) -> ScoredSplits:
    """Read the files that a run is scored on.

    Args:
        seeds: those that succeeded.
        features: per split, one file per backbone.
        neighbors: one file per backbone, of all splits together.
        labels: `labels.npy` of each split; empty without labels.
        classes: number of named classes.
        nearest: see `ScoredSplits`.

    Raises:
        DeepclustError: the files do not belong together.
    """
    if labels and len(labels) != len(splits):
        raise DeepclustError(f"{len(labels)} files of labels for {len(splits)} scored splits: give one for each")
    lengths = [feature_count(files) for files in features]
    if seeds:
        assignments = read_assignments(clusters, seeds, splits, k)
    else:
        assignments = [np.empty((0, length), np.int64) for length in lengths]
    known = [read_labels(path) for path in labels] or [np.full(length, UNKNOWN, np.int64) for length in lengths]
    for split, length, files, clustered, values in zip(splits, lengths, features, assignments, known):
        check_lengths(
            {
                f"{clusters}, {split}": clustered.shape[1],
                str(files[0]): length,
                f"labels of {split}": len(values),
            }
        )
    found_neighbors = {str(path): len(load_array(path, 2, "i")) for path in neighbors}
    check_lengths({f"features of {'+'.join(splits)}": sum(lengths)} | found_neighbors)
    together = np.concatenate(known)
    if not len(together):
        raise DeepclustError(f"{clusters} holds no images to score in {'+'.join(splits)}")
    found = int(together.max()) + 1
    if classes and found > classes:
        raise DeepclustError(f"label {found - 1} has no name among the {classes} classes: prepare the dataset again")
    clusters_of = np.concatenate(assignments, axis=1)
    return ScoredSplits(clusters_of, k, together, classes or found, features, neighbors, nearest)


def score_run(
    scored: ScoredSplits,
    seeds: Sequence[Mapping[str, Any]],
    selected: int | None,
    k: int,
    options: ScoringOptions,
    progress: Progress,
) -> dict[str, Any]:
    """Score every seed and summarise the scores.

    Args:
        seeds: the entries of `seeds.json`; those with status `ok` have a row of assignments each, in this order.
        selected: the seed that was chosen without labels; only its confusion matrix is kept. None: every seed failed.

    Returns:
        `images`, `labelled`, `seeds` (one entry per seed, failed ones too), `summary` (mean, std over seeds, and
        interval of each score), `failed` and `stability`; a score that cannot be computed is None. A confusion matrix
        is a list of classes, each with the number of its images by cluster.
    """
    per_image: dict[str, npt.NDArray] = {}
    if len(scored.assignments):
        per_image["silhouette"] = silhouette(scored.unit_features, scored.assignments, k)
        per_image["neighbor_agreement"] = _neighbor_agreement(scored)
    comparisons = _compare(scored, progress)
    rows = iter(range(len(scored.assignments)))
    entries = []
    for entry in seeds:
        result: dict[str, Any] = dict.fromkeys(SEED_KEYS)
        if entry["status"] == "ok":
            result |= _score_seed(scored, next(rows), k, per_image, comparisons, entry["seed"] == selected)
        entries.append({name: entry.get(name) for name in ("seed", "status", "reason", "objective")} | result)
    intervals = _intervals(comparisons, per_image, options, progress)
    return {
        "images": len(scored.labels),
        "labelled": int(scored.labelled.sum()),
        "seeds": entries,
        "summary": {name: _summary([e[name] for e in entries], intervals.get(name)) for name in SUMMARISED},
        "failed": [entry["seed"] for entry in entries if entry["status"] != "ok"],
        "stability": stability(scored.assignments),
    }


def _compare(scored: ScoredSplits, progress: Progress) -> list[Comparison]:
    """Compare classes and clusters of the labelled images for each seed; return nothing without labels."""
    known = scored.labelled
    if not known.any():
        return []
    comparisons = []
    with progress.task("score", len(scored.assignments), "seeds") as task:
        for clusters in scored.assignments:
            comparisons.append(Comparison.of(scored.labels[known], clusters[known]))
            task.advance()
    return comparisons


def _score_seed(
    scored: ScoredSplits,
    row: int,
    k: int,
    per_image: Mapping[str, npt.NDArray],
    comparisons: Sequence[Comparison],
    selected: bool,
) -> dict[str, Any]:
    clusters = scored.assignments[row]
    sizes = np.bincount(clusters, minlength=k)
    result: dict[str, Any] = {name: _number(values[row].mean()) for name, values in per_image.items()}
    result |= {"sizes": sizes.tolist(), "size_entropy": size_entropy(sizes), "modularity": _modularity(scored, row)}
    if comparisons:
        table = contingency(scored.labels[scored.labelled], clusters[scored.labelled], scored.classes, k)
        matching = match(table)
        result |= comparisons[row].score()
        result |= {
            "matching": matching.tolist(),
            "confusion": _occupied(table) if selected else None,
            "per_class": accuracy_per_class(table, matching),
        }
    return result


def _occupied(table: csr_array) -> list[dict[int, int]]:
    """Return, for every class, the clusters that have images of it, with the number of these images."""
    ends = zip(table.indptr, table.indptr[1:])
    return [dict(zip(table.indices[a:b].tolist(), table.data[a:b].tolist())) for a, b in ends]


def _neighbor_agreement(scored: ScoredSplits) -> npt.NDArray[np.float64]:
    """Return the agreement of each image with its neighbors, averaged over backbones, [S, N]."""
    graphs = scored.graphs
    return np.stack(
        [np.mean([neighbor_agreement(graph, clusters) for graph in graphs], axis=0) for clusters in scored.assignments]
    )


def _modularity(scored: ScoredSplits, row: int) -> float:
    """Return the modularity of a seed's clusters on the scored images' neighbor graph, averaged over backbones."""
    return float(np.mean([modularity(scored.assignments[row], graph, scored.k) for graph in scored.graphs]))


def _intervals(
    comparisons: Sequence[Comparison],
    per_image: Mapping[str, npt.NDArray],
    options: ScoringOptions,
    progress: Progress,
) -> dict[str, Interval]:
    intervals: dict[str, Interval] = {}
    if not options.bootstrap:
        return intervals
    for name, values in per_image.items():
        defined = values[~np.isnan(values).any(axis=1)]
        if len(defined):
            lowest = -1.0 if name == "silhouette" else 0.0
            intervals[name] = mean_interval(defined.mean(axis=0), options.bootstrap, options.confidence, lowest)
    if comparisons:
        with progress.task("bootstrap", options.bootstrap, "resamples") as task:
            intervals |= score_intervals(comparisons, options.bootstrap, options.confidence, task)
    return intervals


def _summary(values: Sequence[float | None], interval: Interval | None) -> dict[str, float | None]:
    """Return mean and standard deviation (n - 1) over the seeds that have the score, and its interval."""
    present = [value for value in values if value is not None]
    low, high = interval or (None, None)
    return {
        "mean": float(np.mean(present)) if present else None,
        "std": float(np.std(present, ddof=1)) if len(present) > 1 else None,
        "low": low,
        "high": high,
    }


def gap(accuracy: float | None, probe: Mapping[str, Any]) -> dict[str, float | None]:
    """Return how far the clustering accuracy stays below each ceiling."""
    ceilings = {"knn": probe.get("knn_acc"), "linear": probe.get("linear_acc")}
    return {
        name: None if accuracy is None or ceiling is None else ceiling - accuracy for name, ceiling in ceilings.items()
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
