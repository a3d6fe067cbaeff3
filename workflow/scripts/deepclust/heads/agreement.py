"""Partitions of the same images: how well each fits the features, and what several say together. No labels."""

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
    """Least squares from features to clusters, and how much of the clusters it explains."""

    def __init__(self, points: Float32) -> None:
        """Args: `points` [N, D]; any invertible linear map of them gives the same results, but for `RIDGE`."""
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

    def pillai_trace(self, assignments: Integers, k: int) -> float:
        """Pillai's trace of clusters, divided by k - 1: between 0 and 1.

        It is the mean of the squared canonical correlations between features and clusters (Pillai 1955,
        doi.org/10.1214/aoms/1177728599): how much linear functions of the features tell of the clusters, where every
        direction of the features counts the same, however large its variance. 1 for a single cluster.
        """
        if k == 1:
            return 1.0
        sizes = np.bincount(assignments, minlength=k)
        sums = np.zeros((k, self.points.shape[1]))
        for first in range(0, len(assignments), BLOCK):
            block = slice(first, first + BLOCK)
            np.add.at(sums, assignments[block], self.points[block] - self.mean)
        filled = sizes > 0
        means = sums[filled] / sizes[filled, None]
        explained = np.einsum("kd,dk->k", means, cho_solve(self._factor, means.T))
        return float((explained * sizes[filled]).sum() / len(assignments) / (k - 1))


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


def candidates(partitions: Sequence[Float32], fit: LinearFit) -> list[tuple[Float32, float]]:
    """Votes to begin with, and the Pillai trace of each; the best first.

    Args:
        partitions: votes of each partition, [N, K].

    Returns:
        Each partition, and the mean votes of the best two, three, … of them, aligned with the best.
    """
    k = partitions[0].shape[1]

    def scored(votes: Float32) -> tuple[Float32, float]:
        return votes, fit.pillai_trace(votes.argmax(axis=1), k)

    ranked = sorted(map(scored, partitions), key=lambda pair: -pair[1])
    found, total = list(ranked), ranked[0][0]
    for number, (votes, _) in enumerate(ranked[1:], 2):
        total = total + align(votes, total)
        found.append(scored(total / number))
    return sorted(found, key=lambda pair: -pair[1])
