"""The heads as an estimator of scikit-learn."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from deepclust.api.clustering import cluster
from deepclust.core.errors import DeepclustError


class Clusterer(ClusterMixin, BaseEstimator):
    """A clustering head with the interface of scikit-learn: fit, predict, fit_predict, get_params, set_params.

    Args:
        n_clusters: number of clusters.
        head: name of the head, see docs/methods.md.
        seeds: seeds, or how many of them, from 0; the one with the lowest objective is chosen.
        options: options of the head, see docs/options.md.

    Attributes:
        labels_: cluster of each image that it was fitted on, int32 [N].
        clustering_: all else, see `deepclust.ClusterResult`.

    Example:
        >>> import deepclust
        >>> import numpy as np
        >>> features = np.repeat([[0.0, 1.0], [5.0, 2.0], [9.0, 9.0]], 10, axis=0)
        >>> clusterer = deepclust.Clusterer(n_clusters=3, options={"n_init": 2}).fit(features)
        >>> sorted(map(int, np.bincount(clusterer.predict(features))))
        [10, 10, 10]
    """

    def __init__(
        self,
        n_clusters: int = 8,
        head: str = "kmeans",
        seeds: int | Sequence[int] = 5,
        options: dict[str, Any] | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.head = head
        self.seeds = seeds
        self.options = options

    def fit(self, X: Any, y: object = None) -> "Clusterer":  # names of scikit-learn
        """Divide images into clusters by their features [N, D]; `y` is not read.

        Raises:
            ValueError: features, head or options do not fit, or every seed failed.
        """
        features = validate_data(self, X, dtype=[np.float64, np.float32], ensure_min_samples=2)
        try:
            found = cluster(features, self.n_clusters, self.head, seeds=self.seeds, **(self.options or {}))
        except DeepclustError as error:
            raise ValueError(str(error)) from error
        self.clustering_, self.labels_ = found, found.labels_
        return self

    def predict(self, X: Any) -> npt.NDArray[np.int32]:
        """Return the cluster of each image by its features [N, D], int32 [N].

        Raises:
            ValueError: the features do not fit.
        """
        check_is_fitted(self)
        features = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        try:
            return self.clustering_.predict(features)
        except DeepclustError as error:
            raise ValueError(str(error)) from error
