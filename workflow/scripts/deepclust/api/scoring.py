"""Scores of clusters that are compared with classes."""

from typing import Any

import numpy as np

from deepclust.core.errors import DeepclustError

UNKNOWN = -1


def score(y: Any, labels: Any) -> dict[str, float]:
    """Compare clusters with classes: `acc` (Hungarian), `nmi`, `ari`, `ami`, `purity`, see docs/usage.md.

    Args:
        y: class of each image, numbers or texts [N]; images whose class is the number -1 are left out.
        labels: cluster of each image, numbers [N].

    Raises:
        DeepclustError: these are not of the same images, are no whole numbers, or no class is known.

    Example:
        >>> import deepclust
        >>> deepclust.score(["cat", "cat", "dog", "dog"], [1, 1, 0, 1])["acc"]
        0.75
    """
    from deepclust.evaluation.metrics import Comparison

    classes, clusters = np.asarray(y), np.asarray(labels)
    for name, array, kinds in (("classes", classes, "iubUSO"), ("clusters", clusters, "iub")):
        if array.ndim != 1 or array.dtype.kind not in kinds:
            whole = "whole numbers" if kinds == "iub" else "whole numbers or texts"
            raise DeepclustError(f"{name} must be {whole} [images], not {array.dtype} of shape {list(array.shape)}")
    if len(classes) != len(clusters):
        raise DeepclustError(f"there are classes of {len(classes)} images, and clusters of {len(clusters)}")
    known = classes != UNKNOWN if classes.dtype.kind in "iu" else np.ones(len(classes), bool)
    if not known.any():
        raise DeepclustError("no image has a known class")
    return Comparison.of(classes[known], clusters[known]).score()
