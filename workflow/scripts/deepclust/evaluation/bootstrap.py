"""Confidence intervals of scores: what another draw of the images would change.

The images are resampled with replacement, the same resample for all seeds of a run, and the score is averaged over the
seeds. Equal numbers of images give equal resamples, so runs on one dataset are compared on the same draws.

Resampling repeats images, and repeated images agree with themselves: on large tables every measure of agreement comes
out too high (Efron & Tibshirani 1993, chapter 10). The interval is therefore the percentile interval moved by the
bootstrap's estimate of this bias, so that it lies around the score.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array, vstack
from scipy.special import xlogy
from sklearn.metrics.cluster import expected_mutual_information

from deepclust.common.progress import Task
from deepclust.common.seeding import derive_seed
from deepclust.evaluation.metrics import METRICS

Interval = tuple[float, float]
Numbers = npt.NDArray[np.float64]

# With more classes or clusters, resamples keep the matching of all images: matching each anew takes milliseconds, that
# is most of the time, and what it gains is part of the bias that is subtracted.
REMATCH_LIMIT = 200
CHUNK = 4_000_000  # numbers in memory at a time


def resample_counts(images: int, resamples: int) -> Iterator[Numbers]:
    """How often each image is drawn, for all resamples in chunks, float64 [images, chunk]."""
    generator = np.random.default_rng(derive_seed("bootstrap", images))
    size = max(1, CHUNK // max(1, images))
    for start in range(0, resamples, size):
        counts = np.empty((images, min(size, resamples - start)))
        for column in range(counts.shape[1]):
            counts[:, column] = np.bincount(generator.integers(images, size=images), minlength=images)
        yield counts


def interval(estimate: float, resampled: npt.ArrayLike, confidence: float, lowest: float = 0.0) -> Interval:
    """Percentile interval of the resampled scores, moved to lie around the estimate, within [lowest, 1]."""
    resampled = np.asarray(resampled)
    tail = (1 - confidence) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail]) - (resampled.mean() - estimate)
    return float(np.clip(low, lowest, 1)), float(np.clip(high, lowest, 1))


def mean_interval(values: npt.NDArray, resamples: int, confidence: float, lowest: float = 0.0) -> Interval:
    """Interval of the mean of one value per image, [N]."""
    resampled = [values @ counts / len(values) for counts in resample_counts(len(values), resamples)]
    return interval(float(values.mean()), np.concatenate(resampled), confidence, lowest)


def score_intervals(
    labels: npt.NDArray,
    assignments: npt.NDArray,
    resamples: int,
    confidence: float,
    task: Task | None = None,
) -> dict[str, Interval]:
    """Intervals of the scores of `metrics.scores`, averaged over seeds.

    Args:
        labels: class of each image, integers [N].
        assignments: cluster of each image for each seed, integers [S, N].
        task: where to report resamples done.
    """
    tables = [Cells.of(labels, clusters) for clusters in assignments]
    membership = vstack([table.membership for table in tables], format="csr")
    bounds = np.cumsum([0, *(table.membership.shape[0] for table in tables)])
    everything = np.ones((len(labels), 1))
    estimates = _mean_scores(tables, membership @ everything, bounds)
    resampled: list[dict[str, Numbers]] = []
    for counts in resample_counts(len(labels), resamples):
        resampled.append(_mean_scores(tables, membership @ counts, bounds))
        if task is not None:
            task.advance(counts.shape[1])
    return {
        name: interval(
            float(estimates[name][0]),
            np.concatenate([chunk[name] for chunk in resampled]),
            confidence,
            lowest=-1.0 if name in {"ari", "ami"} else 0.0,
        )
        for name in METRICS
    }


def _mean_scores(tables: Sequence["Cells"], counts: Numbers, bounds: npt.NDArray) -> dict[str, Numbers]:
    per_seed = [table.scores(counts[bounds[i] : bounds[i + 1]]) for i, table in enumerate(tables)]
    return {name: np.mean([seed[name] for seed in per_seed], axis=0) for name in METRICS}


@dataclass(frozen=True)
class Cells:
    """The occupied cells of a contingency table; a resample can occupy no others.

    Attributes:
        membership: 1 where an image (column) is in a cell (row), [M, N].
        by_class, by_cluster: 1 where a cell (column) is in a class or cluster (row), [R, M] and [K, M].
        starts: the first cell of each cluster; cells are ordered by cluster, then by class.
        classes, clusters: row and column of each cell in the table without empty rows and columns, [M].
        matched: cells that the matching of all images puts right, boolean [M].
        expected: expected mutual information of all images under random assignment, in nats.
    """

    membership: csr_array
    by_class: csr_array
    by_cluster: csr_array
    starts: npt.NDArray[np.int64]
    classes: npt.NDArray[np.int64]
    clusters: npt.NDArray[np.int64]
    matched: npt.NDArray[np.bool_]
    expected: float

    @classmethod
    def of(cls, labels: npt.NDArray, clusters: npt.NDArray) -> "Cells":
        """The cells of two partitions of the same images, integers [N]."""
        rows, row = np.unique(labels, return_inverse=True)
        columns, column = np.unique(clusters, return_inverse=True)
        codes, cell = np.unique(column.astype(np.int64) * len(rows) + row, return_inverse=True)
        cell_columns, cell_rows = np.divmod(codes, len(rows))
        table = csr_array((np.bincount(cell), (cell_rows, cell_columns)), shape=(len(rows), len(columns)))
        matching = np.full(len(rows), -1)
        matched_rows, matched_columns = linear_sum_assignment(table.toarray(), maximize=True)
        matching[matched_rows] = matched_columns
        return cls(
            membership=_indicator(cell, len(codes)),
            by_class=_indicator(cell_rows, len(rows)),
            by_cluster=_indicator(cell_columns, len(columns)),
            starts=np.searchsorted(cell_columns, np.arange(len(columns))),
            classes=cell_rows,
            clusters=cell_columns,
            matched=matching[cell_rows] == cell_columns,
            expected=float(expected_mutual_information(table, len(labels))),
        )

    def scores(self, counts: Numbers) -> dict[str, Numbers]:
        """`metrics.scores` of many tables at once; AMI keeps the expectation of all images.

        Args:
            counts: images in each cell, for B tables with equal totals, [M, B].

        Returns:
            Each score, [B].
        """
        total = counts[:, 0].sum()
        class_sizes, cluster_sizes = self.by_class @ counts, self.by_cluster @ counts
        information, entropy = _information(counts, class_sizes, cluster_sizes, total)
        trivial = ((class_sizes > 0).sum(axis=0) == 1) & ((cluster_sizes > 0).sum(axis=0) == 1)
        # Where the entropies leave no room above the expectation, as for all singletons, any agreement is perfect.
        no_room = np.abs(entropy - self.expected) < 1e-12
        return {
            "acc": self._correct(counts) / total,
            "nmi": np.where(trivial, 1.0, _divide(information, entropy)),
            "ari": _adjusted_rand(counts, class_sizes, cluster_sizes, total),
            "ami": np.where(trivial | no_room, 1.0, _divide(information - self.expected, entropy - self.expected)),
            "purity": np.maximum.reduceat(counts, self.starts, axis=0).sum(axis=0) / total,
        }

    def _correct(self, counts: Numbers) -> Numbers:
        """Images that a one-to-one matching puts right, [B]."""
        shape = (self.by_class.shape[0], self.by_cluster.shape[0])
        if max(shape) > REMATCH_LIMIT:
            correct: Numbers = counts[self.matched].sum(axis=0)
            return correct
        table = np.zeros(shape)
        best = np.empty(counts.shape[1])
        for b in range(counts.shape[1]):
            table[self.classes, self.clusters] = counts[:, b]
            best[b] = table[linear_sum_assignment(table, maximize=True)].sum()
        return best


def _indicator(rows: npt.NDArray, count: int) -> csr_array:
    return csr_array((np.ones(len(rows)), (rows, np.arange(len(rows)))), shape=(count, len(rows)))


def _information(
    counts: Numbers, class_sizes: Numbers, cluster_sizes: Numbers, total: float
) -> tuple[Numbers, Numbers]:
    """Mutual information, and the mean of the entropies of classes and clusters, in nats, [B] each."""
    joint, of_classes, of_clusters = (
        np.log(total) - xlogy(sizes, sizes).sum(axis=0) / total for sizes in (counts, class_sizes, cluster_sizes)
    )
    return np.maximum(of_classes + of_clusters - joint, 0), (of_classes + of_clusters) / 2


def _adjusted_rand(counts: Numbers, class_sizes: Numbers, cluster_sizes: Numbers, total: float) -> Numbers:
    """Adjusted Rand index from the numbers of pairs, [B] (Hubert & Arabie 1985)."""
    same_both, same_class, same_cluster = ((sizes**2).sum(axis=0) for sizes in (counts, class_sizes, cluster_sizes))
    split_class, split_cluster = same_class - same_both, same_cluster - same_both
    together, apart = same_both - total, total**2 - same_class - same_cluster + same_both
    above = 2 * (together * apart - split_class * split_cluster)
    below = (together + split_class) * (split_class + apart) + (together + split_cluster) * (split_cluster + apart)
    return np.where((split_class == 0) & (split_cluster == 0), 1.0, _divide(above, below))


def _divide(above: Numbers, below: Numbers) -> Numbers:
    return np.divide(above, below, out=np.zeros_like(above), where=below != 0)
