"""Choice of the number of clusters by four criteria that need no labels.

Each criterion is computed for every number in a range, on a sample of the training images. They look at k-means
clusterings (`stability` at several) and at the graph of the nearest neighbors within the sample:

- silhouette (Rousseeuw 1987, doi.org/10.1016/0377-0427(87)90125-7): clusters are compact and far apart.
- stability (Ben-Hur, Elisseeff & Guyon 2002): clusterings of overlapping subsamples agree on the images that they
  share, by the adjusted Rand index.
- modularity (Newman 2006, doi.org/10.1073/pnas.0601602103): neighbors share a cluster, more than by chance.
- eigengap (von Luxburg 2007, doi.org/10.1007/s11222-007-9033-z): the distance between the k-th and the next eigenvalue
  of the graph's normalised adjacency matrix; a graph of k separate parts has k eigenvalues of 1.

Their scales have nothing in common, and each has its own bias (silhouette and stability prefer few clusters). So the
number with the best mean rank is chosen, and the smallest one among equals.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import rankdata
from sklearn.metrics import adjusted_rand_score, pairwise_distances, silhouette_score
from sklearn.neighbors import NearestNeighbors

from deepclust.core.device import choose_device
from deepclust.core.errors import DeepclustError
from deepclust.core.limits import SUBSAMPLE_SHARE, most_clusters
from deepclust.core.progress import Progress
from deepclust.core.seeding import derive_seed
from deepclust.heads import kmeans
from deepclust.heads.kit.graph import leading_eigenpairs, neighbor_graph
from deepclust.heads.kit.head import Features
from deepclust.heads.kit.lloyd import Points, assign
from deepclust.heads.kit.modularity import modularity
from deepclust.heads.kit.normalization import fit_normalization
from deepclust.heads.kit.options import ChooseKOptions

CRITERIA = ("silhouette", "stability", "modularity", "eigengap")  # the higher, the better
COMPARED = 4000  # images whose distances to each other the silhouette is computed from
RESTARTS = kmeans.Options(n_init=5)

Float32 = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Choice:
    """Number of clusters that was chosen, and why."""

    k: int
    reason: str
    """Reason for the choice, in a sentence or two."""
    numbers: list[int]
    """All numbers that were tried, ascending."""
    criteria: dict[str, list[float]]
    """Values of `CRITERIA` and of `mean_rank` (1 is the best) for each of the numbers."""
    images: int
    """Size of the sample."""


def candidate_numbers(smallest: int, largest: int, count: int) -> list[int]:
    """Return all whole numbers from `smallest` to `largest`, or about `count` of them at even ratios."""
    if largest - smallest < count:
        return list(range(smallest, largest + 1))
    return sorted({round(number) for number in np.geomspace(smallest, largest, count)})


def choose_k(features: Sequence[Sequence[Features]], options: ChooseKOptions, progress: Progress) -> Choice:
    """Choose the number of clusters.

    Args:
        features: one list per training split, which holds an array [N, D_b] per backbone.

    Raises:
        DeepclustError: there are too few images, or too few different ones for any number, features are not finite, or
            those of the backbones or splits do not fit together.
    """
    if any(len(array) != len(split[0]) for split in features for array in split):
        raise DeepclustError("choose_k: the backbones' features differ in number: extract them again")
    if len({tuple(array.shape[1] for array in split) for split in features}) > 1:
        raise DeepclustError("choose_k: features of the training splits differ in their dimensions: extract them again")
    rows = _sample(features, options)
    smallest, largest = options.range
    if largest > (most := most_clusters(len(rows))):
        raise DeepclustError(
            f"choose_k.range: {largest} clusters are too many for subsamples of {most} of the "
            f"{len(rows)} images: lower it (or raise choose_k.samples, where there are more images)"
        )
    numbers = candidate_numbers(smallest, largest, options.candidates)
    search = NearestNeighbors(n_neighbors=min(options.neighbors, len(rows) - 1)).fit(rows)
    neighbors = search.kneighbors(return_distance=False).astype(np.int32)  # an image is not its own neighbor here
    values, _ = leading_eigenpairs(neighbor_graph([neighbors], options.neighbors, rows), largest + 1)
    compared = _subsample(len(rows), COMPARED, "compared")
    distances = pairwise_distances(rows[compared])
    found: dict[str, list[float]] = {name: [] for name in CRITERIA}
    with progress.task("try numbers of clusters", len(numbers), "numbers") as task:
        for k in numbers:
            labels = _cluster(rows, rows, k, 0)
            if len(np.unique(labels)) < k:  # there are fewer different features
                break
            found["silhouette"].append(_silhouette(distances, labels[compared]))
            found["stability"].append(stability(rows, k, options.resamples))
            found["modularity"].append(modularity(labels, neighbors, k))
            found["eigengap"].append(float(values[k - 1] - values[k]))
            task.advance()
    tried = numbers[: len(found["eigengap"])]
    if not tried:
        raise DeepclustError(f"k-means finds no {smallest} clusters among the features: lower choose_k.range")
    choice = _choose(tried, found, len(rows))
    if tried == numbers:
        return choice
    fewer = f" No {numbers[len(tried)]} clusters were found among the features, so larger numbers were not tried."
    return replace(choice, reason=choice.reason + fewer)


def _sample(features: Sequence[Sequence[Features]], options: ChooseKOptions) -> Float32:
    """Return the normalised features of a fixed random sample of all splits, centred at the origin, [n, D]."""
    ends = np.cumsum([len(split[0]) for split in features])
    chosen = _subsample(int(ends[-1]), options.samples, "sample")
    parts = np.split(chosen, np.searchsorted(chosen, ends[:-1]))
    starts = [0, *ends[:-1]]
    joined = [
        np.concatenate([split[b][part - start] for split, part, start in zip(features, parts, starts)])
        for b in range(len(features[0]))
    ]
    rows, _ = fit_normalization(joined, options)
    rows -= rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    return rows


def _subsample(count: int, size: int, *purpose: str | int) -> npt.NDArray[np.int64]:
    """Draw `size` of the numbers below `count`, or take all, ascending."""
    random = np.random.default_rng(derive_seed("choose_k", *purpose))
    return np.sort(random.choice(count, min(size, count), replace=False))


def _cluster(rows: Float32, fitted: Float32, k: int, seed: int) -> Labels:
    """Return the clusters of `rows` by k-means on `fitted`."""
    device = choose_device()
    best = kmeans.fit_seed(Points(torch.from_numpy(fitted).to(device), spherical=False), k, seed, RESTARTS)
    points = Points(torch.from_numpy(rows).to(device), spherical=False)
    labels: Labels = assign(points, best.centroids[None], coarse=False)[:, 0].cpu().numpy()
    return labels


def _silhouette(distances: Float32, labels: Labels) -> float:
    """Return the silhouette; 0 if all images that are compared are in one cluster."""
    return float(silhouette_score(distances, labels, metric="precomputed")) if len(np.unique(labels)) > 1 else 0.0


def stability(rows: Float32, k: int, resamples: int) -> float:
    """Return the mean adjusted Rand index between k-means clusterings of subsamples.

    Each pair of subsamples is compared on the images that it shares.
    """
    parts = [_subsample(len(rows), int(SUBSAMPLE_SHARE * len(rows)), "part", number) for number in range(resamples)]
    clusterings = np.full((resamples, len(rows)), -1, np.int32)
    for number, (labels, part) in enumerate(zip(clusterings, parts)):
        labels[part] = _cluster(rows[part], rows[part], k, number)
    return float(np.mean([_agreement(*pair) for pair in combinations(clusterings, 2)]))


def _agreement(one: Labels, other: Labels) -> float:
    """Return the adjusted Rand index on the images that have a cluster in both."""
    shared = (one >= 0) & (other >= 0)
    return float(adjusted_rand_score(one[shared], other[shared]))


def _choose(numbers: list[int], found: dict[str, list[float]], images: int) -> Choice:
    ranks = {name: rankdata([-round(value, 6) for value in values]) for name, values in found.items()}
    mean = np.mean(list(ranks.values()), axis=0)
    best = int(mean.argmin())
    details = ", ".join(f"{name} {found[name][best]:.3g} (rank {ranks[name][best]:g})" for name in CRITERIA)
    alone = ", ".join(f"{numbers[int(np.argmin(ranks[name]))]} by {name}" for name in CRITERIA)
    end = {0: "smallest", len(numbers) - 1: "largest"}.get(best)
    widen = f" It is the {end} number that was tried: widen choose_k.range." if end and numbers[best] > 2 else ""
    reason = (
        f"k = {numbers[best]} has the best mean rank, {mean[best]:.3g} of {len(numbers)}: {details}; "
        f"each alone would choose {alone}.{widen}"
    )
    criteria = {name: [float(f"{value:.6g}") for value in values] for name, values in found.items()}
    return Choice(numbers[best], reason, numbers, criteria | {"mean_rank": mean.round(4).tolist()}, images)
