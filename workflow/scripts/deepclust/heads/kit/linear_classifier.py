"""Clusters of images by a linear classifier on normalised features."""

import numpy as np

from deepclust.heads.kit.head import Features, HeadOptions, Prediction, Weights
from deepclust.heads.kit.normalization import normalized_blocks


def predict_linear(weights: Weights, features: list[Features], options: HeadOptions) -> Prediction:
    """Assign images by a linear classifier; see `deepclust.heads.kit.head.Head.predict`.

    Args:
        weights: `weight` [k, D], `bias` [k], and what `apply_normalization` needs.
    """
    count, k = len(features[0]), len(weights["bias"])
    assignments = np.empty(count, np.int32)
    probabilities = np.empty((count, k), np.float16)
    for block, points in normalized_blocks(features, options, weights):
        logits = points @ weights["weight"].T + weights["bias"]
        assignments[block] = logits.argmax(axis=1)
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities[block] = exponentials / exponentials.sum(axis=1, keepdims=True)
    return Prediction(assignments, probabilities)
