"""Features of one or several backbones as one normalised matrix; see `HeadOptions.normalize`."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from deepclust.common.errors import DeepclustError
from deepclust.heads.head import Features, HeadOptions, Weights

BLOCK = 8192  # rows converted at once
CONSTANT = 1e-7  # a dimension whose deviation is less than this share of its mean is constant, but for rounding
RANK = 1e-10  # principal components with less than this share of the largest variance are rounding

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]


def fit_normalization(features: list[Features], options: HeadOptions) -> tuple[Float32, Weights]:
    """Normalised training features, and what `apply_normalization` needs to treat others in the same way.

    Args:
        features: for every backbone [N, D_b].

    Returns:
        A new matrix, float32 [N, D] where D is the sum of the D_b, or [N, P] with P principal components; and from the
        training splits, float32: `mean` [D] for `center`, `standardize` and `whiten`, `scale` [D] for `standardize`
        (the inverse of the standard deviation; 1 for constant dimensions), `projection` [D, P] for `whiten`.

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
    if options.normalize == "whiten":
        weights["projection"] = _whitening(joined, mean, options.components).astype(np.float32)
    return _finish(joined, options, weights), weights


def apply_normalization(features: list[Features], options: HeadOptions, weights: Weights) -> Float32:
    """The features of any images, normalised as the training splits were.

    Raises:
        DeepclustError: values are not finite.
    """
    return _finish(_join(features, options), options, weights)


def normalized_blocks(
    features: list[Features], options: HeadOptions, weights: Weights
) -> Iterator[tuple[slice, Float32]]:
    """`apply_normalization` to some rows at a time: which rows, and what they are."""
    for rows in blocks(len(features[0])):
        yield rows, apply_normalization([array[rows] for array in features], options, weights)


def blocks(count: int, size: int = BLOCK) -> Iterator[slice]:
    """All of `count` rows, `size` at a time."""
    return (slice(first, first + size) for first in range(0, count, size))


def scale_rows(rows: npt.NDArray[np.floating]) -> None:
    """Scale every row to length 1, in place; zero rows stay zero."""
    for part in blocks(len(rows)):
        block = rows[part]
        # Squares of large values overflow float32.
        lengths = np.linalg.norm(block.astype(np.float64), axis=1, keepdims=True)
        np.divide(block, lengths, out=block, where=lengths > 0, casting="same_kind")


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


def _whitening(joined: Float32, mean: Float64, components: int) -> Float64:
    """Principal axes, each divided by the standard deviation along it: [D, P]; one zero axis if nothing varies."""
    variances, axes = principal_axes(joined, mean, components)
    kept = (variances > RANK * variances[0]) & (variances > np.square(CONSTANT * np.abs(mean).max()))
    if not kept.any():
        return np.zeros((len(mean), 1))
    projection: Float64 = axes[:, kept] / np.sqrt(variances[kept])
    return projection


def principal_axes(points: Float32, mean: Float64, components: int) -> tuple[Float64, Float64]:
    """Variances [P], in falling order, and orthonormal axes [D, P] of the `components` (at most D) principal ones."""
    covariance = np.zeros((len(mean), len(mean)))
    for rows in blocks(len(points)):
        block = points[rows] - mean
        covariance += block.T @ block
    variances, axes = np.linalg.eigh(covariance / len(points))
    return variances[::-1][:components], axes[:, ::-1][:, :components]


def _finish(joined: Float32, options: HeadOptions, weights: Weights) -> Float32:
    """What comes after the statistics of the training splits are known."""
    if options.normalize not in {"none", "l2"}:
        joined -= weights["mean"]
    if options.normalize == "standardize":
        joined *= weights["scale"]
    if options.normalize == "whiten":
        joined = _projected(joined, weights["projection"])
    if options.normalize in {"center", "whiten"}:
        scale_rows(joined)
    return joined


def _projected(joined: Float32, projection: Float32) -> Float32:
    projected = np.empty((len(joined), projection.shape[1]), np.float32)
    for rows in blocks(len(joined)):
        np.matmul(joined[rows], projection, out=projected[rows])
    return projected
