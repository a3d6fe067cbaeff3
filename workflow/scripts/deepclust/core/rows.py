"""Matrices with one row per image: in blocks, scaled to length 1, along their principal axes."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

BLOCK = 8192  # rows converted at once
CONSTANT = 1e-7  # a dimension whose deviation is less than this share of its mean is constant, but for rounding
WIDE, SAMPLED = 4096, 2048  # beyond so many dimensions (raw pixels), principal axes are those of so many images
LARGEST = 1e15  # sums of the squares of larger values leave float32
RANK = 1e-10  # principal components with less than this share of the largest variance are rounding

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]


def blocks(count: int, size: int = BLOCK) -> Iterator[slice]:
    """Yield all of `count` rows, `size` at a time."""
    return (slice(first, first + size) for first in range(0, count, size))


def evenly_spread(total: int, most: int) -> npt.NDArray[np.int64]:
    """Return `most` row numbers among `total`, or all if there are no more; the first and the last are among them."""
    return np.linspace(0, total - 1, min(total, most)).astype(np.int64)


def scale_rows(rows: npt.NDArray[np.floating]) -> None:
    """Scale every row to length 1, in place; zero rows stay zero."""
    for part in blocks(len(rows)):
        block = rows[part]
        # Squares of large values overflow float32.
        lengths = np.linalg.norm(block.astype(np.float64), axis=1, keepdims=True)
        np.divide(block, lengths, out=block, where=lengths > 0, casting="same_kind")


def projected(points: Float32, projection: Float32) -> Float32:
    """Return `points` [N, D] times `projection` [D, P], in place if P = D."""
    fewer = projection.shape[1] < points.shape[1]
    products = np.empty((len(points), projection.shape[1]), np.float32) if fewer else points
    for rows in blocks(len(points)):
        products[rows] = points[rows] @ projection
    return products


def principal_axes(points: Float32, mean: Float64, components: int) -> tuple[Float64, Float64]:
    """Return variances [P], in falling order, and orthonormal axes [D, P] of `components` (at most D) principal ones.

    Beyond `WIDE` dimensions they are those of `SAMPLED` images, which are evenly spread over all, and at most as many;
    axes along which these images do not vary are then shorter.
    """
    if points.shape[1] > WIDE:
        return _axes_of_sample(points, mean, components)
    covariance = np.zeros((len(mean), len(mean)))
    for rows in blocks(len(points)):
        block = points[rows] - mean
        covariance += block.T @ block
    variances, axes = np.linalg.eigh(covariance / len(points))
    return variances[::-1][:components], axes[:, ::-1][:, :components]


def _axes_of_sample(points: Float32, mean: Float64, components: int) -> tuple[Float64, Float64]:
    """Return principal axes by the images' inner products, which are fewer than those of the dimensions."""
    rows = points[evenly_spread(len(points), SAMPLED)] - mean
    variances, vectors = np.linalg.eigh(rows @ rows.T / len(rows))
    variances, vectors = variances[::-1][:components], vectors[:, ::-1][:, :components]
    least = max(RANK * variances[0], np.finfo(float).tiny)  # what does not vary has no direction
    lengths = np.sqrt(np.maximum(variances, least) * len(rows))
    return variances, rows.T @ (vectors / lengths)


def whitening(points: Float32, mean: Float64, components: int, power: float = 1.0) -> Float64:
    """Return principal axes, each divided by a power of the standard deviation along it: [D, P].

    A power of 1 whitens: all directions count the same, noise as well. A power of 0 is PCA: the few directions of the
    largest variance decide. A power of 0.5 is between them.

    Args:
        points: [N, D], of mean `mean` [D].
        components: P, at most; components that do not vary are left out, and one zero axis is left if none does.
    """
    variances, axes = principal_axes(points, mean, components)
    kept = (variances > RANK * variances[0]) & (variances > np.square(CONSTANT * np.abs(mean).max()))
    if not kept.any():
        return np.zeros((len(mean), 1))
    projection: Float64 = axes[:, kept] / variances[kept] ** (power / 2)
    return projection
