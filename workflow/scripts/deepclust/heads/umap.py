"""UMAP: the neighbor graph laid out in a few dimensions, and divided there.

McInnes, Healy & Melville 2018, arXiv 1802.03426, by umap-learn. Images attract their neighbors and push others away;
k-means and a mixture of Gaussians divide the layout, and the one whose clusters keep more neighbors together is taken.
Departures from umap-learn: neighbors are those of the workflow (exact, searched once for all heads); every seed starts
from the same eigenvectors of the connected neighbor graph, and differs in the images that push each other away; other
images get their cluster by the vote of their nearest training images, since the library's transform needs the whole
fitted object, which only pickle keeps.
"""

import warnings
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field
from scipy import sparse
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from deepclust.core.progress import Progress
from deepclust.core.rows import blocks
from deepclust.core.seeding import derive_seed
from deepclust.heads.kit.graph import leading_eigenpairs, neighbor_graph
from deepclust.heads.kit.head import (
    Features,
    HeadFacts,
    HeadOptions,
    Prediction,
    Preparation,
    SeedResult,
    TrainingData,
    Weights,
    check_enough,
)
from deepclust.heads.kit.modularity import modularity
from deepclust.heads.kit.normalization import fit_normalization
from deepclust.heads.kit.voting import checked, landmarks, vote

FACTS = HeadFacts(needs_neighbors=True, max_backbones=None)

EXTENT = 10.0  # the layout's largest coordinate at the start, as in umap-learn
NEGATIVES = 5  # images that push an image away, for every neighbor that attracts it: umap-learn's default
SMALL, EPOCHS_SMALL, EPOCHS = 10_000, 500, 200  # umap-learn's: more epochs for at most so many images
SAME = 1e-3  # images are the same if their distance is at most this share of their length
BLOCK = 1024  # images whose neighbors' distances are computed at once

Float32 = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int32]


class Options(HeadOptions):
    """Options of UMAP clustering."""

    normalize: Preparation = "half_whiten"
    """Preparation of the features; see the other heads. Neighbors are searched among half-whitened features with
    `half_whiten` only, else among the features as they are."""
    components: int = Field(512, ge=1)
    """Largest number of principal components that `normalize: whiten` and `half_whiten` keep."""
    neighbors: int = Field(15, ge=2)
    """Nearest neighbors of an image (of each backbone) that it is drawn to; umap-learn counts the image itself."""
    dimensions: int = Field(5, ge=1)
    """Dimensions of the layout; at most as many as images less two."""
    min_dist: float = Field(0.0, ge=0, lt=1)
    """Distance that neighbors keep in the layout; the paper draws pictures with 0.1, clusters want 0."""
    epochs: int | None = Field(None, ge=1)
    """Passes over all edges; by default 500 for at most 10,000 images and 200 for more."""
    divide: Literal["best", "kmeans", "mixture"] = "best"
    """Division of the layout: k-means, a mixture of Gaussians with full covariances, or the one whose clusters have the
    higher modularity in the neighbor graph."""
    n_init: int = Field(10, ge=1)
    """Restarts of k-means and of the mixture; the best by their own criterion is kept."""


def fit(data: TrainingData, k: int, seeds: Sequence[int], options: Options, progress: Progress) -> Iterator[SeedResult]:
    """Lay out the graph once per seed and divide it; see `deepclust.heads.kit.head.Head`.

    The objective is the modularity of the clusters in the neighbor graph, with a minus, so that seeds and divisions are
    compared by one measure, which does not depend on the layout's scale. The weights are those of the vote.

    Raises:
        DeepclustError: there are fewer images than clusters, features are not finite, or the eigenvectors do not
            converge.
    """
    check_enough(data.count, k)
    rows, normalization = fit_normalization(data.features, options)
    neighbors = [np.asarray(array[:, : options.neighbors]) for array in data.neighbors or []]
    joined = np.concatenate(neighbors, axis=1)
    divisions = ["kmeans", "mixture"] if options.divide == "best" else [options.divide]
    if data.count == 1:  # no mixture of one image
        divisions = ["kmeans"]
    with progress.task("layout of the neighbor graph", len(seeds) + 1, "steps") as task:
        start = _start(neighbors, rows, options)
        weights = fuzzy_graph(neighbors, rows)
        task.advance()
        for seed in seeds:
            task.advance(0, f"layout of the neighbor graph, seed {seed}")
            layout = lay_out(weights, start, options, derive_seed(seed, "umap"))
            found = {name: _divided(name, layout, k, seed, options) for name in divisions}
            worth = {name: modularity(labels, joined, k) for name, labels in found.items()}
            best = max(worth, key=worth.__getitem__)
            task.advance()
            own = landmarks(rows, found[best], k, derive_seed(seed, "umap", "landmarks"), unit=True)
            log = [{"division": name, "modularity": value} for name, value in worth.items()]
            result = SeedResult(seed, own | normalization, -worth[best], log=log, training=found[best])
            yield checked(result, "lower k, or use more neighbors")


def _start(neighbors: list[Labels], rows: Float32, options: Options) -> Float32:
    """Return the first layout [N, P]: eigenvectors of the connected neighbor graph, but the constant one."""
    dimensions = max(1, min(options.dimensions, len(rows) - 2))
    graph = neighbor_graph(neighbors, options.neighbors, rows)
    vectors = leading_eigenpairs(graph, dimensions + 1)[1][:, 1:]
    if vectors.shape[1] == 0:
        vectors = np.zeros((len(rows), 1))
    largest = np.abs(vectors).max() or 1.0
    start: Float32 = (EXTENT * vectors / largest).astype(np.float32)
    return start


def fuzzy_graph(neighbors: list[Labels], rows: Float32) -> sparse.coo_matrix:
    """Return the weights of the edges between N images, symmetric, between 0 and 1 (paper, section 3.1).

    Those of several backbones are averaged. Images that are the same are joined by 1 and are no neighbors otherwise:
    they would take the places of those that tell where an image belongs.

    Args:
        neighbors: array [N, n] for every backbone.
        rows: normalised features [N, D], whose distances count.
    """
    count = len(rows)
    total = sparse.csr_matrix((count, count), dtype=np.float32)
    for nearest in neighbors:
        distances = _distances(nearest, rows)
        same = distances <= SAME * np.linalg.norm(rows, axis=1, keepdims=True)
        total = total + _fuzzy(np.where(same, -1, nearest), np.where(same, np.inf, distances), rows) / len(neighbors)
        total = total + _edges(nearest, same, count) / len(neighbors)
    return total.tocoo()


def _fuzzy(nearest: npt.NDArray[np.integer], distances: Float32, rows: Float32) -> sparse.csr_matrix:
    """Return umap-learn's graph; neighbors with the number -1 are left out."""
    from umap.umap_ import fuzzy_simplicial_set

    order = np.argsort(distances, axis=1, kind="stable")
    itself = np.arange(len(rows), dtype=np.int32)[:, None]
    indices = np.concatenate([itself, np.take_along_axis(nearest, order, axis=1)], axis=1).astype(np.int32)
    apart = np.concatenate([np.zeros((len(rows), 1)), np.take_along_axis(distances, order, axis=1)], axis=1)
    draws = np.random.RandomState(0)  # not drawn from: the neighbors are given
    graph, *_ = fuzzy_simplicial_set(
        rows, indices.shape[1], draws, "euclidean", knn_indices=indices, knn_dists=apart.astype(np.float32)
    )
    return graph


def _edges(nearest: Labels, chosen: npt.NDArray[np.bool_], count: int) -> sparse.csr_matrix:
    """Return weights of 1 between images and their chosen neighbors."""
    tails, columns = np.nonzero(chosen)
    edges = sparse.csr_matrix((np.ones(len(tails), np.float32), (tails, nearest[tails, columns])), (count, count))
    return edges.maximum(edges.T)


def _distances(nearest: Labels, rows: Float32) -> Float32:
    """Return the distances of every image to its neighbors [N, n]."""
    found = np.empty(nearest.shape, np.float32)
    for block in blocks(len(rows), BLOCK):
        found[block] = np.linalg.norm(rows[block, None] - rows[nearest[block]], axis=2)
    return found


def lay_out(weights: sparse.coo_matrix, start: Float32, options: Options, seed: int) -> Float32:
    """Return the layout [N, P] after stochastic gradient descent on the fuzzy cross entropy (paper, section 3.2)."""
    from umap.umap_ import find_ab_params, simplicial_set_embedding

    a, b = find_ab_params(1.0, options.min_dist)
    draws = np.random.RandomState(seed % 2**32)
    epochs = options.epochs or (EPOCHS_SMALL if len(start) <= SMALL else EPOCHS)
    spread = start + draws.normal(scale=1e-4, size=start.shape).astype(np.float32)
    if weights.nnz == 0:  # a single image
        return spread
    layout, _ = simplicial_set_embedding(
        None, weights.copy(), start.shape[1], 1.0, a, b, 1.0, NEGATIVES, epochs, spread, draws, "euclidean", {}, False,
        {}, False,
    )  # fmt: skip
    found: Float32 = np.nan_to_num(layout)  # a dimension without extent is divided by zero
    return found


def _divided(name: str, layout: Float32, k: int, seed: int, options: Options) -> Labels:
    """Return the clusters [N] that k-means or a mixture of Gaussians divides a layout into."""
    state = derive_seed(seed, "umap", name) % 2**32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different points than clusters: `checked` tells
        if name == "kmeans":
            found = KMeans(k, n_init=options.n_init, random_state=state).fit_predict(layout)
        else:
            found = GaussianMixture(k, n_init=options.n_init, random_state=state).fit_predict(layout.astype(float))
    labels: Labels = found.astype(np.int32)
    return labels


def predict(weights: Weights, features: list[Features], options: Options) -> Prediction:
    """Assign images by the vote of the nearest training images; see `deepclust.heads.kit.head.Head`."""
    return vote(weights, features, options)
