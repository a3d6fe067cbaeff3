"""Agglomerative clustering by Ward's criterion, along the neighbor graph.

Ward 1963, doi.org/10.1080/01621459.1963.10500845. scikit-learn merges images, and then clusters, one pair after the
other. Only clusters that the neighbor graph joins are merged, so that time and memory stay far below those of all
pairs. Only the choice of the training images that vote on other images is random.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from pydantic import Field
from sklearn.cluster import AgglomerativeClustering

from deepclust.core.progress import Progress
from deepclust.core.seeding import derive_seed
from deepclust.heads.kit.graph import neighbor_graph
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
from deepclust.heads.kit.normalization import fit_normalization
from deepclust.heads.kit.voting import checked, landmarks, vote

FACTS = HeadFacts(needs_neighbors=True, max_backbones=None)

Float32 = npt.NDArray[np.float32]


class Options(HeadOptions):
    """Options of agglomerative clustering."""

    neighbors: int = Field(20, ge=1)
    """Nearest neighbors of an image (of each backbone) that it may be merged with."""


def fit(data: TrainingData, k: int, seeds: Sequence[int], options: Options, progress: Progress) -> Iterator[SeedResult]:
    """Merge images to `k` clusters, once for all seeds; see `deepclust.heads.kit.head.Head`.

    The objective is the sum of squared distances to the means of the clusters. The weights are those of the vote.

    Raises:
        DeepclustError: there are fewer images than clusters, or features are not finite.
    """
    check_enough(data.count, k)
    rows, normalization = fit_normalization(data.features, options)
    with progress.task("merge clusters", 1, "trees") as task:
        graph = neighbor_graph(data.neighbors or [], options.neighbors, rows)
        labels = np.zeros(1, np.int64)
        if data.count > 1:
            labels = AgglomerativeClustering(k, connectivity=graph, linkage="ward").fit_predict(rows)
        task.advance()
    objective = _within(rows, labels, k)
    for seed in seeds:
        weights = landmarks(rows, labels, k, derive_seed(seed, "agglomerative", "landmarks"), unit=False)
        yield checked(SeedResult(seed, weights | normalization, objective, training=labels), "lower k")


def _within(rows: Float32, labels: npt.NDArray[np.integer], k: int) -> float:
    """Return the sum of the squared distances of the rows to the means of their clusters."""
    members = (rows[labels == cluster] for cluster in range(k))
    return float(sum(np.square(part - part.mean(axis=0)).sum(dtype=np.float64) for part in members))


def predict(weights: Weights, features: list[Features], options: Options) -> Prediction:
    """Assign images by the vote of the nearest training images; see `deepclust.heads.kit.head.Head`."""
    return vote(weights, features, options)
