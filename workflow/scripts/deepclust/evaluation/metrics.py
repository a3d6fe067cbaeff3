"""Scores that compare clusters with classes.

Accuracy matches clusters and classes one-to-one (Hungarian method, Kuhn 1955); with more clusters than classes, or
fewer, the images of unmatched clusters count as wrong. Clusters are never mapped to their majority class: that inflates
the score with every additional cluster (it is purity, which is reported as such).
"""

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score, normalized_mutual_info_score

METRICS = ("acc", "nmi", "ari", "ami", "purity")
UNMATCHED = -1


def contingency(labels: npt.NDArray, clusters: npt.NDArray, classes: int, k: int) -> npt.NDArray[np.int64]:
    """Images of each class in each cluster, int64 [classes, k].

    Args:
        labels: class of each image, integers in [0, classes), [N].
        clusters: cluster of each image, integers in [0, k), [N].
    """
    codes = np.asarray(labels, np.int64) * k + np.asarray(clusters, np.int64)
    return np.bincount(codes, minlength=classes * k).reshape(classes, k)


def match(table: npt.NDArray) -> npt.NDArray[np.int64]:
    """The class of each cluster under the one-to-one matching that puts most images right, int64 [k].

    A cluster that no class is left for, or that shares no image with its class, is `UNMATCHED`.
    """
    rows, columns = linear_sum_assignment(table, maximize=True)
    matching = np.full(table.shape[1], UNMATCHED, np.int64)
    matching[columns] = np.where(table[rows, columns] > 0, rows, UNMATCHED)
    return matching


def correct_per_class(table: npt.NDArray, matching: npt.NDArray) -> npt.NDArray[np.int64]:
    """Images of each class that are in the cluster matched to it, int64 [classes]."""
    correct = np.zeros(len(table), np.int64)
    clusters = np.flatnonzero(matching != UNMATCHED)
    correct[matching[clusters]] = table[matching[clusters], clusters]
    return correct


def accuracy(table: npt.NDArray) -> float:
    """Clustering accuracy (ACC): the share of images in the cluster that is matched to their class. Needs images."""
    return float(correct_per_class(table, match(table)).sum() / table.sum())


def accuracy_per_class(table: npt.NDArray, matching: npt.NDArray) -> list[float | None]:
    """Recall of each class under a matching; None for classes without images."""
    return [
        int(right) / int(size) if size else None
        for right, size in zip(correct_per_class(table, matching), table.sum(axis=1))
    ]


def purity(table: npt.NDArray) -> float:
    """The share of images that belong to the majority class of their cluster; grows with k. Needs images."""
    return float(table.max(axis=0).sum() / table.sum())


def scores(labels: npt.NDArray, clusters: npt.NDArray, table: npt.NDArray) -> dict[str, float]:
    """All `METRICS` of one partition.

    NMI and AMI are normalised by the arithmetic mean of the entropies.

    Args:
        labels, clusters: class and cluster of each image, [N], N > 0.
        table: their contingency table.
    """
    return {
        "acc": accuracy(table),
        "nmi": float(normalized_mutual_info_score(labels, clusters)),
        "ari": float(adjusted_rand_score(labels, clusters)),
        "ami": float(adjusted_mutual_info_score(labels, clusters)),
        "purity": purity(table),
    }
