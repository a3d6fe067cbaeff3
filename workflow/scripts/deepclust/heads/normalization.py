"""Features of one or several backbones as one normalised matrix; see `HeadOptions.normalize`."""

import numpy as np
import numpy.typing as npt

from deepclust.common.errors import DeepclustError
from deepclust.heads.head import Features, Weights

BLOCK = 8192  # rows converted at once
CONSTANT = 1e-7  # a dimension whose deviation is less than this share of its mean is constant, but for rounding

Float32 = npt.NDArray[np.float32]


def fit_normalization(features: list[Features], normalize: str) -> tuple[Float32, Weights]:
    """Normalised training features, and what `apply_normalization` needs to treat others in the same way.

    Args:
        features: for every backbone [N, D_b].

    Returns:
        A new matrix [N, sum of D_b], and for `standardize` the training splits' `mean` and `scale` (the inverse of the
        standard deviation; 1 for constant dimensions), float32 [sum of D_b].

    Raises:
        DeepclustError: values are not finite.
    """
    joined = _join(features, normalize)
    if normalize != "standardize":
        return joined, {}
    mean = joined.mean(axis=0, dtype=np.float64)
    squares = np.zeros_like(mean)
    for first in range(0, len(joined), BLOCK):
        squares += np.square(joined[first : first + BLOCK] - mean).sum(axis=0)
    deviation = np.sqrt(squares / len(joined))
    deviation[deviation <= CONSTANT * np.abs(mean)] = 1
    weights = {"mean": mean.astype(np.float32), "scale": (1 / deviation).astype(np.float32)}
    return _standardize(joined, weights), weights


def apply_normalization(features: list[Features], normalize: str, weights: Weights) -> Float32:
    """The features of any images, normalised as the training splits were.

    Raises:
        DeepclustError: values are not finite.
    """
    joined = _join(features, normalize)
    return _standardize(joined, weights) if normalize == "standardize" else joined


def scale_rows(rows: npt.NDArray[np.floating]) -> None:
    """Scale every row to length 1, in place; zero rows stay zero."""
    for first in range(0, len(rows), BLOCK):
        block = rows[first : first + BLOCK]
        # Squares of large values overflow float32.
        lengths = np.linalg.norm(block.astype(np.float64), axis=1, keepdims=True)
        np.divide(block, lengths, out=block, where=lengths > 0, casting="same_kind")


def _join(features: list[Features], normalize: str) -> Float32:
    joined = np.empty((len(features[0]), sum(array.shape[1] for array in features)), np.float32)
    unit = normalize == "l2" or len(features) > 1
    broken, column = 0, 0
    for array in features:
        for first in range(0, len(joined), BLOCK):
            part = joined[first : first + BLOCK, column : column + array.shape[1]]
            part[:] = array[first : first + BLOCK]
            broken += int(np.count_nonzero(~np.isfinite(part).all(axis=1)))
            if unit:
                scale_rows(part)
        column += array.shape[1]
    if broken:
        raise DeepclustError(f"features of {broken} images have NaN or infinite values: extract them again")
    return joined


def _standardize(joined: Float32, weights: Weights) -> Float32:
    joined -= weights["mean"]
    joined *= weights["scale"]
    return joined
