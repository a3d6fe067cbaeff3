"""Partitions of the same images: the fit of each to the neighbors and the mean of several, without labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import linear_sum_assignment

from deepclust.core.rows import blocks
from deepclust.heads.kit.modularity import modularity

RIDGE = 1e-4  # share of the mean variance that is added to every direction

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Integers = npt.NDArray[np.integer]


@dataclass(frozen=True)
class Votes:
    """Mean votes of one or several partitions of N images into K clusters; `votes[rows]` is float32 [n, K].

    The mean is computed when rows are read, because [N, K] is large for many clusters.
    """

    partitions: tuple[npt.NDArray[Any], ...]
    """Integer clusters [N] or probabilities [N, K] of each partition."""
    columns: tuple[npt.NDArray[np.intp], ...]
    """Clusters of each partition that are cluster 0, 1, … here, [K]."""

    @classmethod
    def of(cls, partition: npt.NDArray[Any], k: int) -> "Votes":
        """Make the votes of a single partition, clusters [N] or probabilities [N, K]."""
        return cls((partition,), (np.arange(k),))

    @property
    def k(self) -> int:
        """Number of clusters K."""
        return len(self.columns[0])

    def __len__(self) -> int:
        return len(self.partitions[0])

    def __getitem__(self, rows: slice) -> Float32:
        total = np.zeros((len(self.partitions[0][rows]), self.k), np.float32)
        for partition, columns in zip(self.partitions, self.columns):
            part = partition[rows]
            total += (one_hot(part, self.k) if part.ndim == 1 else part.astype(np.float32))[:, columns]
        return total / np.float32(len(self.partitions))

    def assignments(self) -> npt.NDArray[np.int64]:
        """Return the clusters with the most votes, [N]."""
        return np.concatenate([self[rows].argmax(axis=1) for rows in blocks(len(self))])


def one_hot(assignments: Integers, k: int) -> Float32:
    """Return clusters [N] as votes, float32 [N, k]."""
    votes = np.zeros((len(assignments), k), np.float32)
    votes[np.arange(len(assignments)), assignments] = 1
    return votes


class LinearFit:
    """Ridge regression from features to votes."""

    def __init__(self, points: Float32) -> None:
        """Factor the covariance of `points` [N, D]."""
        self.points = points
        self.mean: Float64 = points.mean(axis=0, dtype=np.float64)
        covariance = np.zeros((points.shape[1],) * 2)
        for rows in blocks(len(points)):
            block = points[rows] - self.mean
            covariance += block.T @ block
        covariance /= len(points)
        variance = np.trace(covariance) / len(covariance)
        self._factor = cho_factor(covariance + (RIDGE * variance or 1) * np.eye(len(covariance)))

    def weights(self, votes: Votes) -> tuple[Float64, Float64]:
        """Return weight [K, D] and bias [K] of the least-squares prediction of the votes of the N images."""
        shares, products = np.zeros(votes.k), np.zeros((votes.k, self.points.shape[1]))
        for rows in blocks(len(votes)):
            block = votes[rows]
            shares += block.sum(axis=0, dtype=np.float64) / len(votes)
            products += block.T @ (self.points[rows] - self.mean)
        weight = cho_solve(self._factor, products.T / len(votes)).T
        return weight, shares - weight @ self.mean


def alignment(votes: Votes, reference: Float32) -> npt.NDArray[np.intp]:
    """Return the clusters [K] of `votes` in the order that agrees most with those of `reference` [N, K]."""
    together = sum(reference[rows].T @ votes[rows] for rows in blocks(len(votes)))
    _, columns = linear_sum_assignment(together, maximize=True)
    found: npt.NDArray[np.intp] = columns
    return found


def candidates(partitions: Sequence[Votes], neighbors: Integers) -> list[tuple[Votes, float]]:
    """Return votes to begin with, and the modularity of each, the best first.

    Args:
        partitions: votes of each partition of N images.
        neighbors: [N, n].

    Returns:
        The votes of each partition, and the mean votes of the best two, three, … of them, aligned with the best.
    """
    k = partitions[0].k
    scored = [(votes, modularity(votes.assignments(), neighbors, k)) for votes in partitions]
    ranked = sorted(scored, key=lambda pair: -pair[1])
    found, mean = list(ranked), ranked[0][0]
    total = np.concatenate([mean[rows] for rows in blocks(len(mean))])
    for votes, _ in ranked[1:]:
        columns = alignment(votes, total)
        for rows in blocks(len(votes)):
            total[rows] += votes[rows][:, columns]
        mean = Votes(mean.partitions + votes.partitions, (*mean.columns, *(own[columns] for own in votes.columns)))
        found.append((mean, modularity(total.argmax(axis=1), neighbors, k)))
    return sorted(found, key=lambda pair: -pair[1])
