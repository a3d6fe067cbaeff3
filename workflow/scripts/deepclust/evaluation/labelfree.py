"""Scores that need no labels."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from sklearn.metrics import adjusted_rand_score

# Numbers in memory at a time: distances of images to clusters (several arrays of them), and means of clusters.
DISTANCES = 2**23
MEANS = 2**25


def silhouette(
    features: Callable[[], Iterable[npt.NDArray[np.float32]]], assignments: npt.NDArray[np.int64], k: int
) -> npt.NDArray[np.float64]:
    """Return the silhouette (Rousseeuw 1987) of every image by cosine distance, for all seeds, float64 [S, N].

    The mean cosine distance from x to the members of a cluster is 1 - x · (mean of the members), so the exact value for
    all images costs one product of the features with the cluster means, and no pair of images is ever compared. The
    images of clusters of size one get 0; a seed with a single occupied cluster, or with as many as images, gets NaN.

    Args:
        features: returns the features as blocks of unit vectors float32 [n, D]; called twice for each group of seeds
            that fit in memory together.
        assignments: cluster of each image for each seed, in [0, k), [S, N].
    """
    dimension = next(iter(features())).shape[1]
    together = max(1, MEANS // (k * dimension))
    groups = [assignments[start : start + together] for start in range(0, len(assignments), together)]
    return np.concatenate([_silhouette_together(features, group, k) for group in groups])


def _silhouette_together(
    features: Callable[[], Iterable[npt.NDArray[np.float32]]], assignments: npt.NDArray[np.int64], k: int
) -> npt.NDArray[np.float64]:
    seeds, images = assignments.shape
    columns = assignments + k * np.arange(seeds)[:, None]
    sizes = np.bincount(columns.ravel(), minlength=seeds * k).reshape(seeds, k)
    sums = _cluster_sums(features(), columns, seeds * k).reshape(seeds, k, -1)
    means = (sums / np.maximum(sizes, 1)[:, :, None]).astype(np.float32)

    values = np.empty((seeds, images))
    start = 0
    for block in _split(features(), max(1, DISTANCES // k)):
        rows = slice(start, start + len(block))
        start += len(block)
        to_itself = 1.0 - np.square(block, dtype=np.float64).sum(axis=1)
        for seed in range(seeds):
            to_clusters = 1.0 - (block @ means[seed].T).astype(np.float64)
            values[seed, rows] = _silhouette_of(to_clusters, to_itself, assignments[seed, rows], sizes[seed])
    occupied = (sizes > 0).sum(axis=1)
    values[(occupied < 2) | (occupied >= images)] = np.nan
    return values


def _split(blocks: Iterable[npt.NDArray[np.float32]], rows: int) -> Iterator[npt.NDArray[np.float32]]:
    """Yield the same rows in blocks of `rows` at most."""
    for block in blocks:
        for start in range(0, len(block), rows):
            yield block[start : start + rows]


def _cluster_sums(
    blocks: Iterable[npt.NDArray[np.float32]], columns: npt.NDArray[np.int64], clusters: int
) -> npt.NDArray[np.float64]:
    """Return the sum of the features in each cluster, float64 [clusters, D]."""
    sums: npt.NDArray[np.float64] | None = None
    start = 0
    for block in blocks:
        owner = columns[:, start : start + len(block)]
        start += len(block)
        images = np.broadcast_to(np.arange(len(block)), owner.shape)
        indicator = csr_array(
            (np.ones(owner.size, np.float32), (owner.ravel(), images.ravel())), shape=(clusters, len(block))
        )
        if sums is None:
            sums = np.zeros((clusters, block.shape[1]))
        sums += indicator @ block
    assert sums is not None, "no images"
    return sums


def _silhouette_of(
    to_clusters: npt.NDArray[np.float64],
    to_itself: npt.NDArray[np.float64],
    clusters: npt.NDArray[np.int64],
    sizes: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    """Return (b - a) / max(a, b) from the mean distances to all clusters [n, k]; no image counts in its own mean."""
    own = np.arange(len(clusters)), clusters
    size = sizes[clusters]
    within = (to_clusters[own] * size - to_itself) / np.maximum(size - 1, 1)
    others = np.where(sizes > 0, to_clusters, np.inf)
    others[own] = np.inf
    nearest = others.min(axis=1)
    largest = np.maximum(within, nearest)
    defined = (size > 1) & np.isfinite(nearest) & (largest > 0)
    values = np.zeros(len(clusters))
    np.divide(nearest - within, largest, out=values, where=defined)
    return values


def neighbor_agreement(neighbors: npt.NDArray[np.integer], clusters: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return the share of each image's nearest neighbors in its own cluster, float64 [N]; NaN if there are none.

    Args:
        neighbors: rows of the nearest neighbors of each image, without itself, [N, n].
        clusters: cluster of each image, [N].
    """
    agreement = np.full(len(clusters), np.nan)
    if not neighbors.size:
        return agreement
    for start in range(0, len(clusters), 65_536):
        rows = slice(start, start + 65_536)
        agreement[rows] = (clusters[neighbors[rows]] == clusters[rows, None]).mean(axis=1)
    return agreement


def size_entropy(sizes: Sequence[int] | npt.NDArray) -> float | None:
    """Return the entropy of cluster sizes over log k: 1 for equal sizes, 0 for one giant cluster; None for k = 1."""
    shares = np.asarray(sizes, np.float64) / max(1, np.sum(sizes))
    if len(shares) < 2:
        return None
    occupied = shares[shares > 0]
    return abs(float(-(occupied * np.log(occupied)).sum() / np.log(len(shares))))


def stability(assignments: npt.NDArray[np.int64]) -> float | None:
    """Return the mean adjusted Rand index over all pairs of seeds, [S, N]; None for fewer than two seeds."""
    pairs = [adjusted_rand_score(a, b) for a, b in combinations(assignments, 2)]
    return float(np.mean(pairs)) if pairs else None
