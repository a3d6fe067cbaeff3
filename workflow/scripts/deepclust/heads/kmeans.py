"""k-means: Lloyd's iterations from k-means++ starting points, the best of several restarts.

Lloyd 1982, doi.org/10.1109/TIT.1982.1056489; k-means++: Arthur & Vassilvitskii 2007; spherical k-means: Dhillon & Modha
2001, doi.org/10.1023/A:1007612920971. Runs in faiss, on all points.

Departures from the papers: a cluster that loses all its points gets new ones, in faiss by a split of a large cluster,
and after the last iteration by the points farthest from their centroids; the restarts end when the objective improves
by less than `COARSE`, and only the best of them goes on until it improves by less than `FINE`.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import faiss
import numpy as np
import numpy.typing as npt
from pydantic import Field

from deepclust.common.errors import DeepclustError
from deepclust.common.progress import Progress
from deepclust.common.seeding import derive_seed
from deepclust.heads.head import Facts, Features, HeadOptions, Prediction, SeedResult, TrainingData, Weights
from deepclust.heads.normalization import BLOCK, apply_normalization, fit_normalization, scale_rows

COARSE, FINE = 1e-4, 1e-6  # relative improvement of the objective in one iteration
REPAIRS = 5  # attempts to fill clusters that are empty at the end

FACTS = Facts(needs_neighbors=False, max_backbones=None)

Float32 = npt.NDArray[np.float32]
Centroids = Float32


class Options(HeadOptions):
    """Options of k-means."""

    spherical: bool = False
    """Whether to cluster directions: by cosine similarity, with centroids of length 1."""
    n_init: int = Field(10, ge=1)
    """Number of restarts; the one with the lowest objective is kept."""
    max_iter: int = Field(100, ge=1)
    """Iterations per restart, at most."""


def fit(data: TrainingData, k: int, seeds: Sequence[int], options: Options, progress: Progress) -> Iterator[SeedResult]:
    """One k-means per seed; see `deepclust.heads.head.Head`.

    The objective is the sum of squared distances of the normalised training features to their centroids. The weights
    are `centroids` [k, D] in the space of the normalised features, and those of the normalisation.

    Raises:
        DeepclustError: there are fewer images than clusters, or features are not finite.
    """
    if k > data.count:
        raise DeepclustError(f"{k} clusters need at least {k} images, the training splits have {data.count}: lower k")
    points, normalization = fit_normalization(data.features, options)
    center = np.zeros(points.shape[1], np.float32)
    if options.spherical:
        scale_rows(points)
    else:
        # Distances are differences of squares: far from the origin they would drown in rounding.
        center = points.mean(axis=0, dtype=np.float64).astype(np.float32)
        points -= center
    with progress.task("k-means", len(seeds) * options.n_init, "restarts") as task:
        for seed in seeds:
            task.advance(0, f"k-means, seed {seed}")
            restarts = []
            for restart in range(options.n_init):
                restarts.append(_lloyd(points, k, options, COARSE, seed=derive_seed(seed, "kmeans", restart)))
                task.advance()
            log = [
                {"restart": number, "objective": restart.objective, "iterations": restart.iterations}
                for number, restart in enumerate(restarts)
            ]
            best = _refined_best(points, k, options, restarts)
            if best.clusters < k:
                failure = f"only {best.clusters} of {k} clusters have points: too few different features, lower k"
                yield SeedResult(seed, {}, None, failure, log)
            else:
                yield SeedResult(seed, {"centroids": best.centroids + center, **normalization}, best.objective, log=log)


class _Restart(NamedTuple):
    """What one restart found."""

    centroids: Centroids
    objective: float
    clusters: int  # that have points
    iterations: int


def _rank(restart: _Restart) -> tuple[int, float]:
    """The best is lowest: without empty clusters if there is such a one, then by the objective."""
    return -restart.clusters, restart.objective


def _refined_best(points: Float32, k: int, options: Options, restarts: list[_Restart]) -> _Restart:
    best = min(restarts, key=_rank)
    return min(best, _lloyd(points, k, options, FINE, start=best.centroids), key=_rank)


def _lloyd(
    points: Float32, k: int, options: Options, tolerance: float, *, seed: int = 0, start: Centroids | None = None
) -> _Restart:
    """Lloyd's iterations on `points` [N, D] from `start` [k, D], or from k-means++ by `seed`."""
    clustering = faiss.Kmeans(
        points.shape[1],
        k,
        niter=options.max_iter,
        spherical=options.spherical,
        seed=seed % 2**30,
        init_method=faiss.ClusteringInitMethod_KMEANS_PLUS_PLUS,
        early_stop_threshold=tolerance,
        # faiss would draw 256 points per centroid, and warn about less than 39.
        max_points_per_centroid=points.shape[0],
        min_points_per_centroid=1,
    )
    # Also for unit vectors, whose order by distance is that by cosine: the sum of cosines hardly changes between
    # iterations, so that the tolerance would mean something else.
    clustering.index = faiss.IndexFlatL2(points.shape[1])
    iterations = 0
    for _ in range(1 + REPAIRS):
        clustering.train(points, init_centroids=start)
        centroids: Centroids = np.asarray(clustering.centroids)
        iterations += len(clustering.iteration_stats or [])
        assignments, distances = _nearest(points, centroids)
        empty = np.flatnonzero(np.bincount(assignments, minlength=k) == 0)
        if not len(empty):
            break
        start = centroids.copy()
        start[empty] = points[np.argsort(-distances, kind="stable")[: len(empty)]]
    return _Restart(centroids, float(distances.sum(dtype=np.float64)), k - len(empty), iterations)


def predict(weights: Weights, features: list[Features], options: Options) -> Prediction:
    """The nearest centroid of every image; see `deepclust.heads.head.Head`."""
    centroids: Centroids = weights["centroids"]
    center = np.zeros(centroids.shape[1], np.float32) if options.spherical else centroids.mean(axis=0)
    assignments = np.empty(len(features[0]), np.int32)
    for first in range(0, len(assignments), BLOCK):
        points = apply_normalization([array[first : first + BLOCK] for array in features], options, weights)
        if options.spherical:
            scale_rows(points)
        points -= center
        assignments[first : first + BLOCK] = _nearest(points, centroids - center)[0]
    return Prediction(assignments)


def _nearest(points: Float32, centroids: Centroids) -> tuple[npt.NDArray[np.int64], Float32]:
    """Index of and squared distance to the nearest centroid, each [N]."""
    distances, indices = faiss.knn(points, centroids, 1)
    return indices[:, 0], distances[:, 0]
