"""Mixture of Gaussians on the principal components of the features, fitted by EM (scikit-learn).

Dempster, Laird & Rubin 1977, doi.org/10.1111/j.2517-6161.1977.tb01600.x; each EM starts from k-means. The components
are scaled by one common factor, so that `REGULARIZATION`, added to every variance, means the same for all features.
"""

import warnings
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from deepclust.core.errors import DeepclustError
from deepclust.core.progress import Progress
from deepclust.core.rows import blocks, principal_axes
from deepclust.core.seeding import derive_seed
from deepclust.heads.kit.head import Features, HeadFacts, HeadOptions, Prediction, SeedResult, TrainingData, Weights
from deepclust.heads.kit.normalization import fit_normalization, normalized_blocks

REGULARIZATION = 1e-4  # share of the mean variance of the components

FACTS = HeadFacts(needs_neighbors=False, max_backbones=None)

Float32 = npt.NDArray[np.float32]


class Options(HeadOptions):
    """Options of the mixture of Gaussians."""

    dimensions: int = Field(64, ge=1)
    """Largest number of principal components of the normalised features that the mixture is fitted on."""
    covariance: Literal["diag", "full"] = "diag"
    """Form of the clusters' covariance matrices: diagonal or full."""
    n_init: int = Field(1, ge=1)
    """Number of restarts; the one with the highest likelihood is kept."""
    max_iter: int = Field(200, ge=1)
    """Largest number of iterations per restart."""


def fit(data: TrainingData, k: int, seeds: Sequence[int], options: Options, progress: Progress) -> Iterator[SeedResult]:
    """Fit one mixture per seed; see `deepclust.heads.kit.head.Head`.

    The objective is the mean negative log-likelihood of the training images' components. The weights are `origin` [D]
    and `axes` [D, P] of the components, `shares` [k], `means` [k, P] and `factors` ([k, P] or [k, P, P], the Cholesky
    factors of the precision matrices), and those of the normalisation.

    Raises:
        DeepclustError: there are fewer images than clusters or than two, or features are not finite.
    """
    needed = max(k, 2)
    if data.count < needed:
        raise DeepclustError(
            f"a mixture of {k} clusters needs at least {needed} images, the training splits have {data.count}: lower k"
        )
    rows, normalization = fit_normalization(data.features, options)
    mean = rows.mean(axis=0, dtype=np.float64)
    variances, axes = principal_axes(rows, mean, options.dimensions)
    scale = 1 / np.sqrt(variances.mean()) if variances.max() > 0 else 1.0
    components: Weights = {"origin": mean.astype(np.float32), "axes": (scale * axes).astype(np.float32)}
    points = _project(rows, components)
    with progress.task("mixture of Gaussians", len(seeds), "seeds") as task:
        for seed in seeds:
            task.advance(0, f"mixture of Gaussians, seed {seed}")
            result = _fit_seed(points, k, seed, options)
            task.advance()
            yield SeedResult(
                seed,
                {**result.weights, **components, **normalization} if result.failure is None else {},
                result.objective,
                result.failure,
                result.log,
            )


def _fit_seed(points: npt.NDArray[np.float64], k: int, seed: int, options: Options) -> SeedResult:
    mixture = GaussianMixture(
        k,
        covariance_type=options.covariance,
        n_init=options.n_init,
        max_iter=options.max_iter,
        reg_covar=REGULARIZATION,
        random_state=derive_seed(seed, "gmm") % 2**32,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the log says so
        clusters = len(np.unique(mixture.fit_predict(points)))
    log = [{"iterations": int(mixture.n_iter_), "converged": str(mixture.converged_)}]
    if clusters < k:
        failure = f"only {clusters} of {k} clusters have images: too few different features, lower k"
        return SeedResult(seed, {}, None, failure, log)
    weights = {"shares": mixture.weights_, "means": mixture.means_, "factors": mixture.precisions_cholesky_}
    return SeedResult(seed, weights, -float(mixture.lower_bound_), log=log)


def predict(weights: Weights, features: list[Features], options: Options) -> Prediction:
    """Assign images to the most probable clusters; see `deepclust.heads.kit.head.Head`."""
    mixture = GaussianMixture(len(weights["means"]), covariance_type=options.covariance)
    mixture.weights_, mixture.means_ = weights["shares"], weights["means"]
    mixture.precisions_cholesky_ = weights["factors"]
    assignments = np.empty(len(features[0]), np.int32)
    probabilities = np.empty((len(assignments), len(mixture.means_)), np.float16)
    for block, rows in normalized_blocks(features, options, weights):
        posterior = mixture.predict_proba(_project(rows, weights))
        assignments[block] = posterior.argmax(axis=1)
        probabilities[block] = posterior
    return Prediction(assignments, probabilities)


def _project(rows: Float32, weights: Weights) -> npt.NDArray[np.float64]:
    """Return the components [N, P] of normalised features, computed in blocks."""
    parts = (rows[block] - weights["origin"] for block in blocks(len(rows)))
    return np.concatenate([(part @ weights["axes"]).astype(np.float64) for part in parts])
