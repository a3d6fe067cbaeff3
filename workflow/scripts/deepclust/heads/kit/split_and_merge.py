"""Moves from one partition to another: the least cohesive cluster is dissolved, another is split."""

import numpy as np
import numpy.typing as npt

from deepclust.core.rows import evenly_spread
from deepclust.heads.kit.modularity import Integers, cohesion, modularity

LLOYD = 20  # iterations of 2-means, at most
SAMPLE = 20_000  # images of a cluster that decide where it is split

Float32 = npt.NDArray[np.float32]


def moves(
    first: Integers, second: Integers, k: int, points: Float32, neighbors: Integers, count: int
) -> list[Integers]:
    """The `count` best partitions one move away, by modularity after the move; fewer for few clusters.

    A move gives the images of the least cohesive cluster to their next best clusters, and splits one of the
    `2 * count` largest others by 2-means in its place.

    Args:
        first, second: the best and the second best cluster of each image, [N]; the same for a single cluster.
        points: [N, D].
        neighbors: [N, n].

    Returns:
        Clusters [N]; the best first.
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
    """Which of the points [n, D] are in the second of two clusters: 2-means, begun at the main direction's sign."""
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
