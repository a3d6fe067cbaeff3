"""Clusters that the backbone's own pretraining method found, as a head beside the others.

One-stage methods (SeCu and the like) learn clusters together with the backbone. They write them to
`native.safetensors` beside it, as a small network from features to one score per cluster. Nothing is fitted here, so
all seeds are the same.

Tensors of that file: `projector.{i}.weight` [out, in] and `projector.{i}.bias` [out] for i = 0, 1, ... (may be none),
affine layers with ReLU between them; `clusters.weight` [k, D] and `clusters.bias` [k]. Metadata `deepclust`, as JSON:
`normalize`, true if the projector's outputs are scaled to length 1 before they are compared with the clusters. The
softmax of the scores is the probability of each cluster.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from safetensors import safe_open
from scipy.special import log_softmax

from deepclust.core.errors import DeepclustError
from deepclust.core.progress import Progress
from deepclust.core.rows import BLOCK, scale_rows
from deepclust.heads.kit.head import Features, HeadFacts, HeadOptions, Prediction, SeedResult, TrainingData, Weights

FACTS = HeadFacts(needs_neighbors=False, max_backbones=1, needs_native=True)


class Options(HeadOptions):
    """Options of the backbone's own clusters."""

    normalize: Literal["none"] = "none"
    """Preparation of the features: none, because the clusters belong to the features as they are."""


def fit(data: TrainingData, k: int, seeds: Sequence[int], options: Options, progress: Progress) -> Iterator[SeedResult]:
    """Yield the same clusters for every seed; see `deepclust.heads.kit.head.Head`.

    The objective is the mean surprise -log max_k p_k of the training images. The weights are the tensors of
    `native.safetensors` and `normalize`.

    Raises:
        DeepclustError: the backbone has no clusters of its own, another number of them, or other features.
    """
    assert data.native is not None
    weights = _read(data.native, k, data.features[0].shape[1])
    blocks = (log_softmax(scores, axis=1).max(axis=1) for scores in _scores(weights, data.features[0]))
    objective = -float(np.concatenate(list(blocks)).mean(dtype=np.float64))
    for seed in seeds:
        yield SeedResult(seed, weights, objective)


def predict(weights: Weights, features: list[Features], options: Options) -> Prediction:
    """Assign images to the likeliest clusters; see `deepclust.heads.kit.head.Head`."""
    assignments, probabilities = [], []
    for scores in _scores(weights, features[0]):
        assignments.append(scores.argmax(axis=1).astype(np.int32))
        probabilities.append(np.exp(log_softmax(scores, axis=1)).astype(np.float16))
    return Prediction(np.concatenate(assignments), np.concatenate(probabilities))


def clusters_in(path: Path) -> int:
    """Return the number of clusters in a `native.safetensors`; 0 if the method does not cluster."""
    with safe_open(path, "numpy") as file:
        return len(file.get_tensor("clusters.weight")) if "clusters.weight" in file.keys() else 0  # noqa: SIM118


def _read(path: Path, k: int, dimension: int) -> Weights:
    with safe_open(path, "numpy") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
        facts = json.loads(file.metadata()["deepclust"])
    if "clusters.weight" not in weights:
        raise DeepclustError(
            f"{path} holds no clusters: the method of this backbone does not cluster, use another head"
        )
    clusters = len(weights["clusters.weight"])
    if clusters != k:
        raise DeepclustError(f"{path} holds {clusters} clusters, not {k}: cluster into {clusters}")
    expected = weights.get("projector.0.weight", weights["clusters.weight"]).shape[1]
    if expected != dimension:
        raise DeepclustError(
            f"{path} belongs to features of {expected} dimensions, these have {dimension}: use pooling avg"
        )
    return {**weights, "normalize": np.array(facts["normalize"], np.uint8)}


def _scores(weights: Weights, features: Features) -> Iterator[npt.NDArray[np.float32]]:
    """Yield the scores of all clusters, block by block, each [n, k]; one empty block if there are no images."""
    layers = sum(name.endswith(".weight") and name.startswith("projector.") for name in weights)
    for first in range(0, max(1, len(features)), BLOCK):
        values = features[first : first + BLOCK].astype(np.float32)
        if not np.isfinite(values).all():
            raise DeepclustError("features have NaN or infinite values: extract them again")
        for i in range(layers):
            values = np.maximum(values, 0) if i else values
            values = values @ weights[f"projector.{i}.weight"].T + weights[f"projector.{i}.bias"]
        if weights["normalize"]:
            scale_rows(values)
        yield values @ weights["clusters.weight"].T + weights["clusters.bias"]
