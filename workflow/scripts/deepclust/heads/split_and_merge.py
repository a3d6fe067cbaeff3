"""Moves from one partition to another: the least cohesive cluster is dissolved, another is split."""

import numpy as np
import numpy.typing as npt

from deepclust.heads.agreement import Integers, cohesion, modularity, one_hot

LLOYD = 20  # iterations of 2-means, at most
SAMPLE = 20_000  # images of a cluster that decide where it is split

Float32 = npt.NDArray[np.float32]


def moves(probabilities: Float32, points: Float32, neighbors: Integers, count: int) -> list[Float32]:
    """The `count` best votes one move away, by modularity after the move; fewer for few clusters.

    A move gives the images of the least cohesive cluster to their next best clusters, and splits one of the
    `2 * count` largest others by 2-means in its place.

    Args:
        probabilities: [N, K].
        points: [N, D].
        neighbors: [N, n].

    Returns:
        Votes [N, K], each 0 or 1; the best first.
    """
    k = probabilities.shape[1]
    weakest = int(cohesion(probabilities.argmax(axis=1), neighbors, k).argmin())
    others = probabilities.copy()
    others[:, weakest] = -1
    assignments = others.argmax(axis=1) if k > 1 else np.zeros(len(probabilities), np.int64)
    sizes = np.bincount(assignments, minlength=k)
    found = []
    for cluster in np.argsort(-sizes, kind="stable")[: 2 * count]:
        members = np.flatnonzero(assignments == cluster)
        if len(members) < 2 or cluster == weakest:
            continue
        moved = assignments.copy()
        moved[members[two_means(points[members])]] = weakest
        found.append((modularity(moved, neighbors, k), moved))
    found.sort(key=lambda pair: -pair[0])
    return [one_hot(moved, k) for _, moved in found[:count]]


def two_means(points: Float32) -> npt.NDArray[np.bool_]:
    """Which of the points [n, D] are in the second of two clusters: 2-means, begun at the main direction's sign."""
    sample = points[np.linspace(0, len(points) - 1, min(SAMPLE, len(points))).astype(np.int64)]
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
