"""Monitors of the clusters that a head gives its training images, without labels."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from deepclust.core.rows import evenly_spread
from deepclust.heads.kit.head import HeadOptions

WATCHED = 10_000  # images whose clusters are watched
ALL_FILLED = 20  # each of at most this many clusters must have images, because each stands for a class
FILLED = 0.9  # share of more clusters that must: classes are then few images, and heads balance batches, not clusters
UNEVEN = 0.05  # least entropy of the sizes, as a share of log k: two clusters of 1:100 have 0.08, ten 0.20
CONFIDENT = 0.05  # least mean of the highest probability, scaled so that 0 is uniform and 1 is certain


def watched(count: int) -> npt.NDArray[np.int64]:
    """Return the row numbers of the images to watch, evenly spread over `count`."""
    return evenly_spread(count, WATCHED)


def monitor(probabilities: npt.NDArray[np.floating], before: npt.NDArray[np.integer] | None) -> dict[str, Any]:
    """Return statistics of the clusters of the watched images.

    Args:
        probabilities: [n, k].
        before: their clusters [n] at the previous call; None at the first.

    Returns:
        `clusters`: number of clusters that have watched images; `largest`, `smallest`: share of the images in the
        largest and the smallest of all k; `entropy`: that of the mean probabilities, as a share of log k; `confidence`:
        mean of the highest probability; `unchanged`: share of the images that stayed in their cluster, if `before` is
        given.
    """
    count, k = probabilities.shape
    probabilities = probabilities.astype(np.float64)
    assignments = probabilities.argmax(1)
    sizes = np.bincount(assignments, minlength=k)
    found = {
        "clusters": int(np.count_nonzero(sizes)),
        "largest": float(sizes.max() / count),
        "smallest": float(sizes.min() / count),
        "entropy": _evenness(probabilities.mean(0)),
        "confidence": float(probabilities.max(1).mean()),
    }
    return found if before is None else found | {"unchanged": float(np.mean(assignments == before))}


def unusable_sizes(sizes: npt.NDArray[np.integer], advice: str | None) -> str | None:
    """Return why clusters of these sizes, over all training images, are no result, or None.

    Args:
        sizes: [k].
        advice: what to try if clusters are empty; None if that is no failure.
    """
    filled, k = int(np.count_nonzero(sizes)), len(sizes)
    needed = k if k <= ALL_FILLED else FILLED * k
    if advice is not None and filled < needed:
        return f"only {filled} of {k} clusters have images: lower k, or {advice}"
    shares = sizes / max(1, sizes.sum())
    if _evenness(shares) < UNEVEN:
        return f"one cluster has {shares.max():.2%} of the images: {advice or 'try another normalize, or another head'}"
    return None


def with_centering(advice: str, options: HeadOptions) -> str:
    """Add centering to the `advice` on a failed seed: features far from the origin all look alike."""
    return f"set normalize: center, or {advice}" if options.normalize in {"none", "l2"} else advice


def _evenness(shares: npt.NDArray[np.floating]) -> float:
    """Return the entropy of the clusters' shares [k], as a share of log k: 1 for equal ones."""
    if len(shares) == 1:
        return 1.0
    return abs(float(np.sum(shares * np.log(np.maximum(shares, 1e-300))))) / math.log(len(shares))


def collapse(found: dict[str, Any], k: int, advice: str) -> str | None:
    """Return why the clusters that `monitor` saw at the end of a training are no result, or None.

    Small clusters may have no watched image: `unusable_sizes` looks at all of them.

    Args:
        advice: what to try when one cluster takes all.
    """
    if k == 1:
        return None
    if found["clusters"] == 1:
        return f"one cluster took all images: {advice}"
    certainty = (found["confidence"] - 1 / k) / (1 - 1 / k)
    if certainty < CONFIDENT:
        return (
            f"probabilities are nearly uniform (the highest is {found['confidence']:.3f} on average, 1/k is "
            f"{1 / k:.3f}): check the features and their neighbors, or train longer"
        )
    return None
