"""Monitors that watch a training without labels and end it when it is lost."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from deepclust.core.errors import DeepclustError

# Logged name: the value below which a training is lost, its meaning, and advice.
LIMITS = {
    "feature_std": (
        1e-3,
        "the features of all images are the same",
        "a lower learning_rate, more warmup_epochs or stronger augmentation",
    ),
    "projection_std": (
        1e-3,
        "the projections of all images are the same",
        "stronger augmentation, a lower learning_rate or a higher temperature",
    ),
    "confident": (
        1e-3,
        "hardly any image is predicted with enough confidence",
        "a lower threshold or more epochs before self-labelling",
    ),
    "assignment_contrast": (
        0.01,
        "every image belongs to all clusters alike",
        "a lower assignment_temperature, a higher cluster_weight or larger batches",
    ),
    "cluster_entropy": (
        0.1,
        "nearly all images are in one cluster",
        "a stronger constraint on cluster sizes or a lower learning_rate of the clusters",
    ),
}

UNIFORM = 1.02  # K clusters tell no images apart if the mean highest probability is below this multiple of 1 / K


class LostTraining(DeepclustError):
    """Training that more epochs would not save."""


def check_finite(means: dict[str, float], epoch: int) -> None:
    """Check that all numbers are finite.

    Raises:
        LostTraining: the training diverged.
    """
    for name, value in means.items():
        if not math.isfinite(value):
            raise LostTraining(
                f"training diverged in epoch {epoch + 1}: {name} is {value}; "
                "try a lower learning_rate, more warmup_epochs or precision: fp32"
            )


def feature_spread(features: Tensor) -> float:
    """Return the spread of L2-normalised features [n, D]: near 1 if all directions are used alike, 0 if all are equal.

    It is the standard deviation over images, averaged over dimensions, times the square root of D (as watched by Chen &
    He 2021, arXiv 2011.10566, section 4.1).
    """
    normalised = F.normalize(features, dim=1)
    return normalised.std(0).mean().item() * math.sqrt(features.shape[1])


def cluster_record(labels: Tensor, before: Tensor, clusters: int) -> dict[str, float]:
    """Return the numbers to log of a clustering at the end of an epoch.

    Args:
        labels: cluster of each image now, int [N]; -1 for none yet.
        before: cluster of each image at the start of the epoch, int [N].

    Returns:
        Sizes (`cluster_min`, `cluster_max`, as multiples of the mean size), `cluster_entropy` (of the sizes; 1 if all
        are equal), `empty_clusters`, and `agreement`: the share of images that stayed in their cluster, if any had one.
    """
    sizes = labels[labels >= 0].long().bincount(minlength=clusters).double()
    shares = sizes / sizes.sum()
    record = {
        "cluster_min": shares.min().item() * clusters,
        "cluster_max": shares.max().item() * clusters,
        "cluster_entropy": torch.special.entr(shares).sum().item() / math.log(clusters),
        "empty_clusters": float((sizes == 0).sum().item()),
    }
    both = (labels >= 0) & (before >= 0)
    if both.any():
        record["agreement"] = (labels == before)[both].double().mean().item()
    return record


def common_information(before: Tensor, labels: Tensor) -> dict[str, float]:
    """Return `nmi` of a clustering int [N] and the one before, or nothing if no image is in a cluster of both."""
    if not ((before >= 0) & (labels >= 0)).any():
        return {}
    return {"nmi": mutual_information(before, labels)}


def mutual_information(first: Tensor, second: Tensor) -> float:
    """Return the mutual information of two clusterings int [N], normalised by the mean of their entropies.

    Images with -1 are left out. The result is 1 for two clusterings of one cluster each. At least one image must be in
    a cluster of both.
    """
    both = (first >= 0) & (second >= 0)
    first, second = first[both].long(), second[both].long()
    pairs = first * (second.max() + 1) + second
    entropies = [_entropy(labels.unique(return_counts=True)[1]) for labels in (first, second, pairs)]
    # I(X; Y) = H(X) + H(Y) - H(X, Y)
    mean = (entropies[0] + entropies[1]) / 2
    return (entropies[0] + entropies[1] - entropies[2]) / mean if mean > 0 else 1.0


def _entropy(sizes: Tensor) -> float:
    shares = sizes.double() / sizes.sum()
    return float(torch.special.entr(shares).sum())


def check_collapse(record: dict[str, float], epoch: int, clusters: int | None = None) -> None:
    """Check that a training still tells images apart.

    Args:
        record: numbers that are logged of an epoch; keys without a limit are ignored.
        epoch: number of the epoch, from 0.
        clusters: number of clusters that `mean_max_probability` is about, if it is to be watched. The first epoch, in
            which clusters are only found, is not watched.

    Raises:
        LostTraining: the training collapsed.
    """
    for name, (limit, meaning, advice) in LIMITS.items():
        if record.get(name, math.inf) < limit:
            raise LostTraining(
                f"training collapsed in epoch {epoch + 1}: {name} is {record[name]:.2g}, {meaning}; try {advice}"
            )
    probability = record.get("mean_max_probability", math.inf)
    if clusters is not None and epoch > 0 and probability < UNIFORM / clusters:
        raise LostTraining(
            f"training collapsed in epoch {epoch + 1}: mean_max_probability is {probability:.2g}, which is next to "
            f"1/{clusters}: every image belongs to all clusters alike; try a lower learning_rate, a lower temperature "
            "of the clusters or a better backbone to start from"
        )
