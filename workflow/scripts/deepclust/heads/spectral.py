"""Spectral clustering of the neighbor graph.

Ng, Jordan & Weiss 2001: k-means on the k leading eigenvectors of the normalised adjacency matrix, with rows scaled to
length 1. The graph is sparse; no N×N matrix exists. The paper's Gaussian weights are replaced by those of the symmetric
k-nearest-neighbor graph (von Luxburg 2007, doi.org/10.1007/s11222-007-9033-z). The eigenvectors are the same for all
seeds, which differ in their k-means. Any other image gets its cluster by the vote of its nearest training images.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from scipy import sparse

from deepclust.core.device import choose_device
from deepclust.core.progress import Progress
from deepclust.core.rows import scale_rows
from deepclust.core.seeding import derive_seed
from deepclust.heads import kmeans
from deepclust.heads.kit.graph import leading_eigenpairs, neighbor_graph
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
from deepclust.heads.kit.lloyd import Points, assign
from deepclust.heads.kit.monitors import with_centering
from deepclust.heads.kit.normalization import fit_normalization
from deepclust.heads.kit.voting import checked, landmarks, vote

FACTS = HeadFacts(needs_neighbors=True, max_backbones=None)

Float32 = npt.NDArray[np.float32]


class Options(HeadOptions):
    """Options of spectral clustering."""

    neighbors: int = Field(20, ge=1)
    """Nearest neighbors of an image (of each backbone) that it is joined to."""
    n_init: int = Field(10, ge=1)
    """Restarts of k-means on the eigenvectors; the one with the lowest objective is kept."""


def fit(data: TrainingData, k: int, seeds: Sequence[int], options: Options, progress: Progress) -> Iterator[SeedResult]:
    """Run one k-means per seed on the common eigenvectors; see `deepclust.heads.kit.head.Head`.

    The objective is that of k-means in the space of the eigenvectors. The weights are those of the vote.

    Raises:
        DeepclustError: there are fewer images than clusters, features are not finite, or the eigenvectors do not
            converge.
    """
    check_enough(data.count, k)
    rows, normalization = fit_normalization(data.features, options)
    with progress.task("eigenvectors of the neighbor graph", len(seeds) + 1, "steps") as task:
        embedded = embedding(neighbor_graph(data.neighbors or [], options.neighbors, rows), k)
        points = Points(torch.from_numpy(embedded).to(choose_device()), spherical=False)
        task.advance()
        for seed in seeds:
            task.advance(0, f"k-means on the eigenvectors, seed {seed}")
            best = kmeans.fit_seed(points, k, seed, kmeans.Options(n_init=options.n_init))
            labels = assign(points, best.centroids[None], coarse=False)[:, 0].cpu().numpy()
            weights = landmarks(rows, labels, k, derive_seed(seed, "spectral", "landmarks"), unit=True)
            task.advance()
            result = SeedResult(seed, weights | normalization, best.objective, training=labels)
            yield checked(result, with_centering("lower k", options))


def embedding(graph: sparse.csr_array, k: int) -> Float32:
    """Return the `k` leading eigenvectors of D^-1/2 A D^-1/2, with rows scaled to length 1, float32 [N, k].

    Raises:
        DeepclustError: the eigenvectors do not converge.
    """
    embedded = leading_eigenpairs(graph, k)[1].astype(np.float32)
    scale_rows(embedded)
    return embedded


def predict(weights: Weights, features: list[Features], options: Options) -> Prediction:
    """Assign images by the vote of the nearest training images; see `deepclust.heads.kit.head.Head`."""
    return vote(weights, features, options)
