"""Features as people hand them over: one array, or one for every backbone."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from deepclust.core.errors import DeepclustError
from deepclust.core.rows import LARGEST

Features = npt.NDArray[np.floating]


def feature_arrays(features: Any) -> list[Features]:
    """Return features as one array [N, D] per backbone, in float16 or float32.

    Args:
        features: numbers [N, D], or a list or tuple of such arrays, whose rows are the same images.

    Raises:
        DeepclustError: they are no numbers, have another shape, differ in N, or are not finite.
    """
    several = isinstance(features, list | tuple) and all(getattr(item, "ndim", 0) == 2 for item in features)
    arrays = [_checked(item) for item in (features if several and len(features) else [features])]
    if len(counts := {len(array) for array in arrays}) > 1:
        shown = ", ".join(map(str, sorted(counts)))
        raise DeepclustError(f"features of several backbones must be of the same images, these have {shown} rows")
    return arrays


def check_dimensions(arrays: Sequence[Features], dimensions: Sequence[int]) -> None:
    """Check that features have these numbers of dimensions, backbone by backbone.

    Raises:
        DeepclustError: they have others.
    """
    if (given := [array.shape[1] for array in arrays]) != list(dimensions):
        raise DeepclustError(f"the head was fitted on features of {list(dimensions)} dimensions, these have {given}")


def _checked(features: Any) -> Features:
    try:
        array = np.asarray(features)
    except ValueError as error:  # rows of different lengths
        raise DeepclustError(f"features must be numbers [images, dimensions]: {error}") from error
    if array.dtype.kind not in "fiub":
        raise DeepclustError(f"features must be numbers [images, dimensions], these are of type {array.dtype}")
    if array.ndim != 2 or 0 in array.shape:
        raise DeepclustError(f"features must have the shape [images, dimensions], not {list(array.shape)}")
    with np.errstate(over="ignore", invalid="ignore"):
        kept = array if array.dtype in (np.float16, np.float32) else array.astype(np.float32)
        usable = (np.abs(kept) <= LARGEST).all(axis=1)
    if not usable.all():
        row, count = int(usable.argmin()), int((~usable).sum())
        raise DeepclustError(
            f"features of {count} images, the first in row {row}, have NaN, infinite values or ones beyond {LARGEST:g}"
        )
    return kept
