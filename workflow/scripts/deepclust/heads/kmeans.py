"""k-means: Lloyd's iterations from k-means++ starting points, the best of several restarts.

Lloyd 1982, doi.org/10.1109/TIT.1982.1056489; k-means++: Arthur & Vassilvitskii 2007; spherical k-means: Dhillon & Modha
2001, doi.org/10.1023/A:1007612920971. DeepCluster's k-means (arXiv 1807.05520) is `normalize: whiten`.

Departures from the papers:
- Clusters that lose all their points get the points farthest from their centroids.
- All restarts of a seed run together, with bf16 products if the hardware is fast at them. They end when the objective
  improves by less than `TOLERANCE`.
- Only the best restart goes on, in float32, until the same tolerance. After restarts on a sample it goes on on all
  images, until `TOLERANCE_ON_ALL`.
- Starting points are drawn among at most `SEEDING` images, or `SEEDING_PER_CLUSTER` per cluster if these are more.
"""

import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor

from deepclust.core.device import choose_device
from deepclust.core.progress import Progress
from deepclust.core.rows import scale_rows
from deepclust.core.seeding import derive_seed
from deepclust.heads.kit.head import (
    Features,
    HeadFacts,
    HeadOptions,
    Prediction,
    SeedResult,
    TrainingData,
    Weights,
    check_enough,
)
from deepclust.heads.kit.lloyd import Clustering, Points, assign, iterate, polish
from deepclust.heads.kit.normalization import fit_normalization, normalized_blocks
from deepclust.heads.kit.plusplus import plus_plus
from deepclust.heads.kit.stacked import stacks

# Iterations end at this relative improvement of the objective. Restarts that end at 1e-4 are ranked before their order
# is settled: the objective of the best then varies more over seeds than that of scikit-learn.
TOLERANCE, TOLERANCE_ON_ALL = 1e-6, 1e-4
SEEDING, SEEDING_PER_CLUSTER = 2**15, 32

FACTS = HeadFacts(needs_neighbors=False, max_backbones=None)

Float32 = npt.NDArray[np.float32]


class Options(HeadOptions):
    """Options of k-means."""

    spherical: bool = False
    """Cluster directions, by cosine similarity and with centroids of length 1."""
    n_init: int = Field(10, ge=1)
    """Number of restarts; the one with the lowest objective is kept."""
    max_iter: int = Field(100, ge=1)
    """Largest number of iterations per restart."""
    sample: int | None = Field(None, ge=1)
    """Number of images that the restarts run on, drawn at random by each seed; by default all. The best restart then
    continues with all images. Meant for very many images and clusters."""


def fit(data: TrainingData, k: int, seeds: Sequence[int], options: Options, progress: Progress) -> Iterator[SeedResult]:
    """Run one k-means per seed; see `deepclust.heads.kit.head.Head`.

    The objective is the sum of squared distances of the normalised training features to their centroids. The weights
    are `centroids` [k, D] in the space of the normalised features, and those of the normalisation.

    Raises:
        DeepclustError: there are fewer images than clusters, or features are not finite.
    """
    started = time.perf_counter()
    count = data.count if options.sample is None else min(data.count, options.sample)
    check_enough(data.count, k)
    check_enough(count, k, "sample is")
    rows, normalization = fit_normalization(data.features, options)
    center = np.zeros(rows.shape[1], np.float32)
    if options.spherical:
        scale_rows(rows)
    else:
        # Distances are differences of squares, which would drown in rounding far from the origin.
        center = rows.mean(axis=0, dtype=np.float64).astype(np.float32)
        rows -= center
    points = Points(torch.from_numpy(rows).to(choose_device()), options.spherical)
    # Seeds take turns if each has a sample of its own.
    groups = stacks(seeds, points.rows.device) if count == data.count else [[seed] for seed in seeds]
    with progress.task("k-means", len(seeds) * options.n_init, "restarts") as task:
        for group in groups:
            task.advance(0, f"k-means, seed {', '.join(map(str, group))}")
            found = fit_seeds(points, k, group, options, task.advance)
            seconds, started = (time.perf_counter() - started) / len(group), time.perf_counter()
            for seed, (restarts, best) in zip(group, found):
                log = [
                    {"restart": number, "objective": restart.objective, "iterations": restart.iterations}
                    for number, restart in enumerate(restarts)
                ]
                if best.clusters < k:
                    failure = f"only {best.clusters} of {k} clusters have points: too few different features, lower k"
                    yield SeedResult(seed, {}, None, failure, log, seconds)
                else:
                    centroids = best.centroids.cpu().numpy() + center
                    yield SeedResult(
                        seed, {"centroids": centroids, **normalization}, best.objective, None, log, seconds
                    )


def fit_seeds(
    points: Points, k: int, seeds: Sequence[int], options: Options, ended: Callable[[], None] = lambda: None
) -> list[tuple[list[Clustering], Clustering]]:
    """Return all restarts of every seed, and the clustering that the best of them led to.

    Restarts of all seeds run as one computation, on the same points, so a seed that has a sample has to come alone.
    `ended` is called after every restart.
    """
    chosen = _sample(points, options.sample, derive_seed(seeds[0], "kmeans", "sample"))
    starts = torch.cat([_starts(chosen, k, seed, options.n_init) for seed in seeds])
    found = iterate(chosen, starts, TOLERANCE, options.max_iter, coarse=True, ended=ended)
    restarts = [found[first : first + options.n_init] for first in range(0, len(found), options.n_init)]
    best = torch.stack([min(own, key=lambda restart: restart.rank).centroids for own in restarts])
    if chosen is points:
        return list(zip(restarts, polish(points, best, TOLERANCE, options.max_iter)))
    whole = iterate(points, best, TOLERANCE_ON_ALL, options.max_iter, coarse=True)
    best = torch.stack([clustering.centroids for clustering in whole])
    return list(zip(restarts, polish(points, best, TOLERANCE_ON_ALL, options.max_iter)))


def fit_seed(points: Points, k: int, seed: int, options: Options) -> Clustering:
    """Return the clustering that the best restart of a seed led to."""
    [(_, best)] = fit_seeds(points, k, [seed], options)
    return best


def _starts(points: Points, k: int, seed: int, restarts: int) -> Tensor:
    """Draw starting points [restarts, k, D]."""
    seeding = _sample(points, max(SEEDING, SEEDING_PER_CLUSTER * k), derive_seed(seed, "kmeans", "seeding"))
    generators = [np.random.default_rng(derive_seed(seed, "kmeans", restart)) for restart in range(restarts)]
    return plus_plus(seeding.rows, k, generators)


def _sample(points: Points, size: int | None, seed: int) -> Points:
    count = len(points.rows)
    if size is None or size >= count:
        return points
    chosen = np.sort(np.random.default_rng(seed).choice(count, size, replace=False))
    return Points(points.rows[torch.from_numpy(chosen).to(points.rows.device)], points.spherical)


def predict(weights: Weights, features: list[Features], options: Options) -> Prediction:
    """Assign images to their nearest centroids; see `deepclust.heads.kit.head.Head`."""
    centroids: Float32 = weights["centroids"]
    center = np.zeros(centroids.shape[1], np.float32) if options.spherical else centroids.mean(axis=0)
    device = choose_device()
    matrix = torch.from_numpy(centroids - center).to(device)
    assignments = np.empty(len(features[0]), np.int32)
    for block, rows in normalized_blocks(features, options, weights):
        if options.spherical:
            scale_rows(rows)
        rows -= center
        points = Points(torch.from_numpy(rows).to(device), options.spherical)
        assignments[block] = assign(points, matrix[None], coarse=False)[:, 0].cpu().numpy()
    return Prediction(assignments)
