"""Scores that compare clusters with classes.

Accuracy matches clusters and classes one-to-one (Hungarian method, Kuhn 1955); with more clusters than classes, or
fewer, the images of unmatched clusters count as wrong. Clusters are never mapped to their majority class: that inflates
the score with every additional cluster (it is purity, which is reported as such).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array, diags_array, hstack
from scipy.sparse.csgraph import min_weight_full_bipartite_matching
from scipy.special import xlogy
from sklearn.metrics.cluster import expected_mutual_information

METRICS = ("acc", "nmi", "ari", "ami", "purity")
UNMATCHED = -1

# With more classes or clusters, resamples keep the matching of all images: matching each anew takes milliseconds, that
# is most of the time, and its gain is part of the bias that intervals are corrected for.
REMATCH_LIMIT = 200

# Cells up to which a table is matched as a whole. Larger ones take gigabytes, and are matched by their occupied cells,
# which is as exact; among equally good matchings it may find another.
DENSE_LIMIT = 2**22

Numbers = npt.NDArray[np.float64]


def contingency(labels: npt.NDArray, clusters: npt.NDArray, classes: int, k: int) -> csr_array:
    """Count the images of each class in each cluster, sparse int64 [classes, k], with at most one cell per image.

    Args:
        labels: class of each image, integers in [0, classes), [N].
        clusters: cluster of each image, integers in [0, k), [N].
    """
    return csr_array((np.ones(len(labels), np.int64), (labels, clusters)), shape=(classes, k))


def match(table: csr_array) -> npt.NDArray[np.int64]:
    """Return the class of each cluster under the one-to-one matching that puts most images right, int64 [k].

    A cluster is `UNMATCHED` if no class is left for it, or if it shares no image with its class.

    Args:
        table: see `contingency`.
    """
    matching = np.full(table.shape[1], UNMATCHED, np.int64)
    if table.shape[0] * table.shape[1] > DENSE_LIMIT:
        rows, columns = _match_occupied(table)
        matching[columns] = rows
    else:
        dense = table.toarray()
        rows, columns = linear_sum_assignment(dense, maximize=True)
        matching[columns] = np.where(dense[rows, columns] > 0, rows, UNMATCHED)
    return matching


def _match_occupied(table: csr_array) -> tuple[npt.NDArray[np.integer], npt.NDArray[np.integer]]:
    """Return classes and clusters of the cells of the best matching, all of them occupied (Jonker & Volgenant 1987).

    Every class must be matched there, and every cost be positive: costs count from above the largest cell, and each
    class has a column of its own that stands for no cluster.
    """
    above = table.max() + 1
    costs = csr_array((above - table.data.astype(np.float64), table.indices, table.indptr), shape=table.shape)
    nothing = diags_array(np.full(table.shape[0], float(above)))
    rows, columns = min_weight_full_bipartite_matching(hstack([costs, nothing], format="csr"))
    found = columns < table.shape[1]
    return rows[found], columns[found]


def accuracy_per_class(table: csr_array, matching: npt.NDArray) -> list[float | None]:
    """Return the recall of each class under a matching; None for classes without images."""
    cells = table.tocoo()
    matched = matching[cells.col] == cells.row
    right = np.zeros(table.shape[0], np.int64)
    right[cells.row[matched]] = cells.data[matched]
    return [int(hits) / int(size) if size else None for hits, size in zip(right, table.sum(axis=1))]


@dataclass(frozen=True)
class Comparison:
    """Classes and clusters of the same images, prepared for scoring many resamples of the images at once.

    Everything is computed from the occupied cells of the contingency table; a resample can occupy no others.

    Attributes:
        membership: 1 where an image (column) is in a cell (row), [M, N].
        by_class, by_cluster: 1 where a cell (column) is in a class or cluster (row), [R, M] and [K, M].
        starts: the first cell of each cluster; cells are ordered by cluster, then by class, [K].
        classes, clusters: class and cluster of each cell, counting only those that have images, [M].
        matched: cells that the matching of all images puts right, boolean [M].
        expected: expected mutual information of all images under random assignment, in nats (Vinh et al. 2010).
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
    def of(cls, labels: npt.NDArray, clusters: npt.NDArray) -> "Comparison":
        """Compare the class and the cluster of each image, any integers [N], N > 0."""
        rows, row = np.unique(labels, return_inverse=True)
        columns, column = np.unique(clusters, return_inverse=True)
        codes, cell = np.unique(column.astype(np.int64) * len(rows) + row, return_inverse=True)
        cell_columns, cell_rows = np.divmod(codes, len(rows))
        table = contingency(row, column, len(rows), len(columns))
        return cls(
            membership=_indicator(cell, len(codes)),
            by_class=_indicator(cell_rows, len(rows)),
            by_cluster=_indicator(cell_columns, len(columns)),
            starts=np.searchsorted(cell_columns, np.arange(len(columns))),
            classes=cell_rows,
            clusters=cell_columns,
            matched=match(table)[cell_columns] == cell_rows,
            expected=float(expected_mutual_information(table, len(labels))),
        )

    def score(self) -> dict[str, float]:
        """Return the `METRICS` of all images."""
        counts = np.diff(self.membership.indptr).astype(np.float64)[:, None]
        return {name: float(values[0]) for name, values in self.scores(counts).items()}

    def scores(self, counts: Numbers) -> dict[str, Numbers]:
        """Return the `METRICS` of B resamples of the images.

        NMI and AMI are normalised by the arithmetic mean of the entropies. AMI takes the expectation of all images.

        Args:
            counts: images in each cell, `membership` times how often each image is drawn, [M, B].

        Returns:
            Each score, [B].
        """
        total = counts[:, 0].sum()
        class_sizes, cluster_sizes = self.by_class @ counts, self.by_cluster @ counts
        information, entropy = _information(counts, class_sizes, cluster_sizes, total)
        # One class and one cluster agree; so does everything if chance cannot do worse, as for all singletons.
        trivial = ((class_sizes > 0).sum(axis=0) == 1) & ((cluster_sizes > 0).sum(axis=0) == 1)
        by_chance = trivial | (np.abs(entropy - self.expected) < 1e-12)
        return {
            "acc": self._correct(counts) / total,
            "nmi": np.where(trivial, 1.0, _divide(information, entropy)),
            "ari": _adjusted_rand(counts, class_sizes, cluster_sizes, total),
            "ami": np.where(by_chance, 1.0, _divide(information - self.expected, entropy - self.expected)),
            "purity": np.maximum.reduceat(counts, self.starts, axis=0).sum(axis=0) / total,
        }

    def _correct(self, counts: Numbers) -> Numbers:
        """Return the number of images that a one-to-one matching puts right, [B]."""
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
    """Return mutual information, and the mean of the entropies of classes and clusters, in nats, [B] each."""
    joint, of_classes, of_clusters = (
        np.log(total) - xlogy(sizes, sizes).sum(axis=0) / total for sizes in (counts, class_sizes, cluster_sizes)
    )
    return np.maximum(of_classes + of_clusters - joint, 0), (of_classes + of_clusters) / 2


def _adjusted_rand(counts: Numbers, class_sizes: Numbers, cluster_sizes: Numbers, total: float) -> Numbers:
    """Return the adjusted Rand index from the numbers of pairs, [B] (Hubert & Arabie 1985)."""
    same_both, same_class, same_cluster = ((sizes**2).sum(axis=0) for sizes in (counts, class_sizes, cluster_sizes))
    split_class, split_cluster = same_class - same_both, same_cluster - same_both
    together, apart = same_both - total, total**2 - same_class - same_cluster + same_both
    above = 2 * (together * apart - split_class * split_cluster)
    below = (together + split_class) * (split_class + apart) + (together + split_cluster) * (split_cluster + apart)
    return np.where((split_class == 0) & (split_cluster == 0), 1.0, _divide(above, below))


def _divide(above: Numbers, below: Numbers) -> Numbers:
    return np.divide(above, below, out=np.zeros_like(above), where=below != 0)
