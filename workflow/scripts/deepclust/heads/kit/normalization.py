"""Features of one or several backbones as one normalised matrix; see `HeadOptions.normalize`."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from deepclust.core.errors import DeepclustError
from deepclust.core.rows import CONSTANT, blocks, projected, scale_rows, whitening
from deepclust.heads.kit.head import Features, HeadOptions, Weights

POWERS = {"whiten": 1.0, "half_whiten": 0.5}  # principal components are divided by this power of their deviation

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]


def fit_normalization(features: list[Features], options: HeadOptions) -> tuple[Float32, Weights]:
    """Normalise training features, and return the weights for `apply_normalization` to treat others in the same way.

    Args:
        features: array [N, D_b] for every backbone.

    Returns:
        A new matrix, float32 [N, D], where D is the sum of the D_b, or [N, P] with P principal components; and the
        weights from the training splits, float32: `mean` [D] for all but `none` and `l2`, `scale` [D] for `standardize`
        (the inverse of the standard deviation; 1 for constant dimensions), `projection` [D, P] for `whiten` and
        `half_whiten`.

    Raises:
        DeepclustError: values are not finite.
    """
    joined = _join(features, options)
    if options.normalize in {"none", "l2"}:
        return joined, {}
    mean = joined.mean(axis=0, dtype=np.float64)
    weights: Weights = {"mean": mean.astype(np.float32)}
    if options.normalize == "standardize":
        weights["scale"] = _inverse_deviation(joined, mean).astype(np.float32)
    if options.normalize in POWERS:
        projection = whitening(joined, mean, options.components, POWERS[options.normalize])
        weights["projection"] = projection.astype(np.float32)
    return _finish(joined, options, weights), weights


def apply_normalization(features: list[Features], options: HeadOptions, weights: Weights) -> Float32:
    """Normalise the features of any images as those of the training splits.

    Raises:
        DeepclustError: values are not finite.
    """
    return _finish(_join(features, options), options, weights)


def normalized_blocks(
    features: list[Features], options: HeadOptions, weights: Weights
) -> Iterator[tuple[slice, Float32]]:
    """Apply `apply_normalization` to some rows at a time; yield the rows' numbers and their values."""
    for rows in blocks(len(features[0])):
        yield rows, apply_normalization([array[rows] for array in features], options, weights)


def _join(features: list[Features], options: HeadOptions) -> Float32:
    joined = np.empty((len(features[0]), sum(array.shape[1] for array in features)), np.float32)
    unit = options.normalize == "l2" or len(features) > 1
    broken, column = 0, 0
    for array in features:
        for rows in blocks(len(joined)):
            part = joined[rows, column : column + array.shape[1]]
            part[:] = array[rows]
            broken += int(np.count_nonzero(~np.isfinite(part).all(axis=1)))
            if unit:
                scale_rows(part)
        column += array.shape[1]
    if broken:
        raise DeepclustError(f"features of {broken} images have NaN or infinite values: extract them again")
    return joined


def _inverse_deviation(joined: Float32, mean: Float64) -> Float64:
    squares = np.zeros_like(mean)
    for rows in blocks(len(joined)):
        squares += np.square(joined[rows] - mean).sum(axis=0)
    deviation = np.sqrt(squares / len(joined))
    deviation[deviation <= CONSTANT * np.abs(mean)] = 1
    inverse: Float64 = 1 / deviation
    return inverse


def _finish(joined: Float32, options: HeadOptions, weights: Weights) -> Float32:
    """Apply the statistics of the training splits."""
    if options.normalize not in {"none", "l2"}:
        joined -= weights["mean"]
    if options.normalize == "standardize":
        joined *= weights["scale"]
    if options.normalize in POWERS:
        joined = projected(joined, weights["projection"])
    if options.normalize in {"center", *POWERS}:
        scale_rows(joined)
    return joined
