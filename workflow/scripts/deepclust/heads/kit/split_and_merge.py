"""Moves from one partition to another: the least cohesive cluster is dissolved and another one is split."""

import numpy as np
import numpy.typing as npt

from deepclust.core.rows import evenly_spread
from deepclust.heads.kit.modularity import Integers, cohesion, modularity

LLOYD = 20  # largest number of iterations of 2-means
SAMPLE = 20_000  # images of a cluster that its split is computed from

Float32 = npt.NDArray[np.float32]


def moves(
    first: Integers, second: Integers, k: int, points: Float32, neighbors: Integers, count: int
) -> list[Integers]:
    """Return the `count` best partitions one move away, by modularity after the move; fewer for few clusters.

    A move gives the images of the least cohesive cluster to their next best clusters, and splits one of the `2 * count`
    largest other clusters by 2-means.

    Args:
        first, second: best and second best cluster of each image, [N]; both are the same for a single cluster.
        points: [N, D].
        neighbors: [N, n].

    Returns:
        Clusters [N], the best first.
    """
    weakest = int(cohesion(first, neighbors, k).argmin())
    assignments = np.where(first == weakest, second, first)
    sizes = np.bincount(assignments, minlength=k)
    found: list[tuple[float, Integers]] = []
    for cluster in np.argsort(-sizes, kind="stable")[: 2 * count]:
        members = np.flatnonzero(assignments == cluster)
        if len(members) < 2 or cluster == weakest:
            continue
        moved = assignments.copy()
        moved[members[two_means(points[members])]] = weakest
        found.append((modularity(moved, neighbors, k), moved))
    found.sort(key=lambda pair: -pair[0])
    return [moved for _, moved in found[:count]]


def two_means(points: Float32) -> npt.NDArray[np.bool_]:
    """Return which points [n, D] are in the second cluster by 2-means, which starts at the main direction's sign."""
    sample = points[evenly_spread(len(points), SAMPLE)]
    center = sample.mean(axis=0)
    deviations = sample - center
    _, axes = np.linalg.eigh(deviations.T @ deviations)
    direction, offset = axes[:, -1], 0.0
    before = None
    for _ in range(LLOYD):
        second = deviations @ direction > offset
        if second.all() or not second.any() or (before is not None and np.array_equal(before, second)):
            break
        low, high = deviations[~second].mean(axis=0), deviations[second].mean(axis=0)
        direction, offset, before = high - low, float((high @ high - low @ low) / 2), second
    found: npt.NDArray[np.bool_] = (points - center) @ direction > offset
    return found
