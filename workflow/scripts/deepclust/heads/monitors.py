"""Watches the clusters that a head gives its training images, without labels."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

WATCHED = 10_000  # images whose clusters are watched
FILLED = 0.9  # share of the clusters that must have images
CONFIDENT = 0.05  # the least mean of the highest probability, between that of uniform ones (0) and certainty (1)


def watched(count: int) -> npt.NDArray[np.int64]:
    """Row numbers of the images to watch, evenly spread over `count`."""
    return np.linspace(0, count - 1, min(WATCHED, count)).astype(np.int64)


def monitor(probabilities: npt.NDArray[np.floating], before: npt.NDArray[np.integer] | None) -> dict[str, Any]:
    """What the clusters of the watched images look like.

    Args:
        probabilities: [n, k].
        before: their clusters [n] when they were looked at the last time.

    Returns:
        `clusters`: number of clusters that have watched images; `largest`: share of the images in the largest one;
        `entropy`: that of the mean probabilities, as a share of log k; `confidence`: mean of the highest probability;
        `unchanged`: share of the images that stayed in their cluster, if `before` is given.
    """
    count, k = probabilities.shape
    probabilities = probabilities.astype(np.float64)
    assignments = probabilities.argmax(1)
    sizes = np.bincount(assignments, minlength=k)
    mean = probabilities.mean(0)
    entropy = -float(np.sum(mean * np.log(np.maximum(mean, 1e-300))))
    found = {
        "clusters": int(np.count_nonzero(sizes)),
        "largest": float(sizes.max() / count),
        "entropy": entropy / math.log(k) if k > 1 else 1.0,
        "confidence": float(probabilities.max(1).mean()),
    }
    return found if before is None else found | {"unchanged": float(np.mean(assignments == before))}


def empty_clusters(sizes: npt.NDArray[np.integer], advice: str) -> str | None:
    """Why clusters of these sizes, over all training images, are no result, or None.

    Args:
        sizes: [k].
        advice: what to try.
    """
    filled, k = int(np.count_nonzero(sizes)), len(sizes)
    return None if filled >= FILLED * k else f"only {filled} of {k} clusters have images: lower k, or {advice}"


def collapse(found: dict[str, Any], k: int, advice: str) -> str | None:
    """Why the clusters that `monitor` saw at the end of a training are no result, or None.

    Small clusters may have no watched image: `empty_clusters` looks at all of them.

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
