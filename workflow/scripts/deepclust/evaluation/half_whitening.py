"""The neighbor graph by which partitions of the scored images are judged: that of half-whitened features.

Not the few directions of the largest variance alone decide which images are neighbors, and noise less than if all
directions counted the same.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA

from deepclust.evaluation.inputs import feature_count, unit_features

SAMPLE = 10_000  # images that are compared with one another,
PER_CLUSTER = 50  # or so many for each cluster, if that is more
NEIGHBORS = 20
COMPONENTS, PER_COMPONENT = 512, 10  # principal components, at most, and images for each: else all are equally far
RANK = 1e-10  # a component with less than this share of the largest variance is rounding
WIDE = 4096  # dimensions beyond which principal components are approximated: raw pixels have thousands
BLOCK = 1024  # images compared with all at once

Integers = npt.NDArray[np.int64]


def half_whitened_graph(features: list[list[Path]], k: int) -> tuple[Integers, Integers | None]:
    """Some of the scored images, evenly spread, and the nearest others of each among them.

    Args:
        features: per scored split, `features.npy` of each backbone.
        k: number of clusters.

    Returns:
        Numbers of the images, [n], and positions of their neighbors, [n, NEIGHBORS]; see `half_whitened_neighbors`.
    """
    lengths = [feature_count(files) for files in features]
    total = sum(lengths)
    chosen = np.linspace(0, total - 1, min(total, max(SAMPLE, PER_CLUSTER * k))).astype(np.int64)
    starts = np.cumsum([0, *lengths[:-1]])
    rows = [part - start for part, start in zip(np.split(chosen, np.searchsorted(chosen, starts[1:])), starts)]
    blocks = [block for files, part in zip(features, rows) for block in unit_features(files, part)]
    return chosen, half_whitened_neighbors(np.concatenate(blocks))


def half_whitened_neighbors(features: npt.NDArray[np.float32]) -> Integers | None:
    """The `NEIGHBORS` nearest others of each image by cosine of half-whitened features, in no order.

    These are principal components, each divided by the square root of its standard deviation.

    The head `consensus` sees features in this way, with statistics of the training images instead of these ones. None
    for so few images that they have no such neighbors, or that do not differ.

    Args:
        features: [n, D].
    """
    count, dimension = features.shape
    if count <= NEIGHBORS or not np.ptp(features, axis=0).any():
        return None
    components = max(1, min(COMPONENTS, dimension, count // PER_COMPONENT))
    if dimension > WIDE:
        pca = PCA(components, svd_solver="randomized", random_state=0).fit(features)
    else:
        pca = PCA(components, svd_solver="full" if dimension > count else "covariance_eigh").fit(features.astype(float))
    variances = pca.explained_variance_
    varying = variances > RANK * variances[0]
    points = (pca.transform(features)[:, varying] / variances[varying] ** 0.25).astype(np.float32)
    points /= np.maximum(np.linalg.norm(points, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    nearest = np.empty((count, NEIGHBORS), np.int64)
    for first in range(0, count, BLOCK):
        similarity = points[first : first + BLOCK] @ points.T
        np.fill_diagonal(similarity[:, first:], -np.inf)
        nearest[first : first + BLOCK] = np.argpartition(-similarity, NEIGHBORS)[:, :NEIGHBORS]
    return nearest
