"""Partitions of the same images: how well each fits the neighbors, and what several say together. No labels."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import linear_sum_assignment

from deepclust.heads.normalization import BLOCK

RIDGE = 1e-4  # share of the mean variance that is added to every direction

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Integers = npt.NDArray[np.integer]


class LinearFit:
    """Least squares from features to votes."""

    def __init__(self, points: Float32) -> None:
        """Args: `points` [N, D]."""
        self.points = points
        self.mean: Float64 = points.mean(axis=0, dtype=np.float64)
        covariance = np.zeros((points.shape[1],) * 2)
        for first in range(0, len(points), BLOCK):
            block = points[first : first + BLOCK] - self.mean
            covariance += block.T @ block
        covariance /= len(points)
        variance = np.trace(covariance) / len(covariance)
        self._factor = cho_factor(covariance + (RIDGE * variance or 1) * np.eye(len(covariance)))

    def weights(self, votes: Float32) -> tuple[Float64, Float64]:
        """Weight [K, D] and bias [K] of the least-squares prediction of `votes` [N, K]."""
        shares = votes.mean(axis=0, dtype=np.float64)
        products = np.zeros((votes.shape[1], self.points.shape[1]))
        for first in range(0, len(votes), BLOCK):
            block = slice(first, first + BLOCK)
            products += votes[block].T @ (self.points[block] - self.mean)
        weight = cho_solve(self._factor, products.T / len(votes)).T
        return weight, shares - weight @ self.mean


def modularity(assignments: Integers, neighbors: Integers, k: int) -> float:
    """How much more often neighbors share a cluster than they would by chance, between -1 and 1; higher is better.

    The modularity of a partition of the neighbor graph (Newman 2006, doi.org/10.1073/pnas.0601602103; for directed
    graphs Leicht & Newman 2008): the share of the edges that stay in a cluster less what it would be if edges were
    drawn at random between images with as many edges. One cluster for all has 0.

    Args:
        assignments: [N].
        neighbors: [N, n].
    """
    kept, tails, heads = _edges(assignments, neighbors, k)
    total = max(1, neighbors.size)
    return float(kept.sum() / total - (tails / total) @ (heads / total))


def cohesion(assignments: Integers, neighbors: Integers, k: int) -> Float64:
    """For every cluster, the share of its images' neighbors that are in it, [k]; 0 for empty ones."""
    kept, tails, _ = _edges(assignments, neighbors, k)
    return kept / np.maximum(tails, 1)


def _edges(assignments: Integers, neighbors: Integers, k: int) -> tuple[Float64, Float64, Float64]:
    """For every cluster, edges that stay in it, that leave from it or stay, and that reach it or stay, each [k]."""
    kept, heads = np.zeros(k), np.zeros(k)
    for column in neighbors.T:
        reached = assignments[column]
        heads += np.bincount(reached, minlength=k)
        kept += np.bincount(reached[reached == assignments], minlength=k)
    tails: Float64 = np.bincount(assignments, minlength=k).astype(np.float64) * neighbors.shape[1]
    return kept, tails, heads


def one_hot(assignments: Integers, k: int) -> Float32:
    """[N] → [N, k]."""
    votes = np.zeros((len(assignments), k), np.float32)
    votes[np.arange(len(assignments)), assignments] = 1
    return votes


def align(votes: Float32, reference: Float32) -> Float32:
    """Permute the clusters of `votes` [N, K] so that they agree most with those of `reference` [N, K]."""
    together = reference.T @ votes
    _, columns = linear_sum_assignment(together, maximize=True)
    return votes[:, columns]


def candidates(partitions: Sequence[Float32], neighbors: Integers) -> list[tuple[Float32, float]]:
    """Votes to begin with, and the modularity of each; the best first.

    Args:
        partitions: votes of each partition, [N, K].
        neighbors: [N, n].

    Returns:
        Each partition, and the mean votes of the best two, three, … of them, aligned with the best.
    """
    k = partitions[0].shape[1]

    def scored(votes: Float32) -> tuple[Float32, float]:
        return votes, modularity(votes.argmax(axis=1), neighbors, k)

    ranked = sorted(map(scored, partitions), key=lambda pair: -pair[1])
    found, total = list(ranked), ranked[0][0]
    for number, (votes, _) in enumerate(ranked[1:], 2):
        total = total + align(votes, total)
        found.append(scored(total / np.float32(number)))
    return sorted(found, key=lambda pair: -pair[1])
