"""Assignment of other images by the vote of training images, for heads that only divide the training images.

Votes are weighted by exp(-d² / (2 `TEMPERATURE`)) at a distance d. If directions count, d is the distance of features
of length 1, so that the weight is the exp(cosine similarity / `TEMPERATURE`) of k-NN classification on features (Wu et
al. 2018, arXiv 1805.01978). Else d is in units of the features' spread. At most `LANDMARKS` of the training images vote
(more only if clusters would lack `VOTERS`), so that the saved weights stay small.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from deepclust.core.device import choose_device
from deepclust.core.rows import BLOCK, scale_rows
from deepclust.heads.kit.head import Features, HeadOptions, Prediction, SeedResult, Weights
from deepclust.heads.kit.normalization import normalized_blocks

LANDMARKS = 10_000
VOTERS = 20  # nearest landmarks that vote
TEMPERATURE = 0.07
SAME = 2e-5  # an image is a landmark if their squared distance is at most this share of the image's squared length

LARGEST = float(np.finfo(np.float16).max)

Float32 = npt.NDArray[np.float32]


def landmarks(rows: Float32, labels: npt.NDArray[Any], k: int, seed: int, *, unit: bool) -> Weights:
    """Draw training images for `vote`, at least `VOTERS` of every cluster, and return their features and clusters.

    Args:
        rows: normalised features [N, D].
        labels: clusters [N].
        unit: whether only the directions of features count.

    Returns:
        `landmarks`, float16 [M, D]: the features less their mean, in units of `spread`; `origin`, float32 [D]: that
        mean; `spread`, float32 [1]: root mean square distance of the features from it; `sharpness`, float32 [1]: how
        fast the logarithm of a vote falls with half the squared distance in these units; `unit`, bool [1];
        `landmark_clusters`, int32 [M]; `clusters`, int32 [1]: k.
    """
    order = np.random.default_rng(seed).permutation(len(rows))
    # The rank of an image is the number of images of its cluster that come before it.
    by_cluster = order[np.argsort(labels[order], kind="stable")]
    starts = np.searchsorted(labels[by_cluster], np.arange(k))
    rank = np.empty(len(rows), np.int64)
    rank[by_cluster] = np.arange(len(rows)) - starts[labels[by_cluster]]
    chosen = order[np.argsort(rank[order] >= VOTERS, kind="stable")]
    chosen = np.sort(chosen[: max(LANDMARKS, int((rank < VOTERS).sum()))])
    points = rows[chosen]
    if unit:
        scale_rows(points)
    # float16 has few digits. It tells the points apart best around their mean.
    origin = points.mean(axis=0, dtype=np.float64).astype(np.float32)
    lengths = np.linalg.norm(points - origin, axis=1).astype(np.float64)
    spread = float(np.sqrt(np.square(lengths).mean())) or 1.0
    weights = {"origin": origin, "spread": np.array([spread], np.float32), "unit": np.array([unit])}
    return weights | {
        "landmarks": _rounded(points, weights),
        "sharpness": np.array([(spread**2 if unit else 1.0) / TEMPERATURE], np.float32),
        "landmark_clusters": labels[chosen].astype(np.int32),
        "clusters": np.array([k], np.int32),
    }


def _rounded(points: Float32, weights: Weights) -> npt.NDArray[np.float16]:
    return ((points - weights["origin"]) / weights["spread"]).clip(-LARGEST, LARGEST).astype(np.float16)


def checked(result: SeedResult, advice: str) -> SeedResult:
    """Return `result`, or a failure with `advice` if landmarks are too much alike to fill all clusters."""
    clusters, k = filled(result.weights), int(result.weights["clusters"][0])
    if clusters == k:
        return result
    reason = f"only {clusters} of {k} clusters have images: features are too much alike"
    return SeedResult(result.seed, {}, None, f"{reason}: {advice}")


def filled(weights: Weights) -> int:
    """Return the number of clusters that have images when the landmarks themselves are assigned.

    It can be lower than k, because equal features get one cluster.
    """
    matrix = _positions(weights["landmarks"])
    parts = [_shares(weights, matrix, block).argmax(1).unique() for block in matrix.split(BLOCK)]
    return len(torch.cat(parts).unique())


def vote(weights: Weights, features: list[Features], options: HeadOptions) -> Prediction:
    """Assign any images, with the shares of the votes as probabilities; see `deepclust.heads.kit.head.Head`.

    `weights` are those of `landmarks` and of the normalisation.
    """
    matrix = _positions(weights["landmarks"])
    assignments = np.empty(len(features[0]), np.int32)
    probabilities = np.empty((len(features[0]), int(weights["clusters"][0])), np.float16)
    for block, rows in normalized_blocks(features, options, weights):
        if weights["unit"][0]:
            scale_rows(rows)
        shares = _shares(weights, matrix, _positions(_rounded(rows, weights))).cpu()
        assignments[block] = shares.argmax(1).numpy()
        probabilities[block] = shares.numpy()
    return Prediction(assignments, probabilities)


def _positions(rounded: npt.NDArray[np.float16]) -> Tensor:
    return torch.from_numpy(rounded.astype(np.float32)).to(choose_device())


def _shares(weights: Weights, matrix: Tensor, points: Tensor) -> Tensor:
    """Return every cluster's share of the votes for `points` [n, D], float32 [n, k]; `matrix` [M, D] are landmarks."""
    clusters = torch.from_numpy(weights["landmark_clusters"].astype(np.int64)).to(points.device)
    nearness = torch.addmm(-matrix.square().sum(1) / 2, points, matrix.T)
    nearness, nearest = nearness.topk(min(VOTERS, len(matrix)))  # half the squared distance is length² / 2 - nearness
    votes = ((nearness - nearness[:, :1]) * float(weights["sharpness"][0])).exp()
    lengths = points.square().sum(1)
    votes[:, 1:] *= (lengths - 2 * nearness[:, 0] > SAME * lengths)[:, None]
    # The votes are added one by one, because additions by index have no fixed order on a GPU.
    shares = torch.zeros(len(points), int(weights["clusters"][0]), device=points.device)
    rows = torch.arange(len(points), device=points.device)
    for voter in range(votes.shape[1]):
        shares[rows, clusters[nearest[:, voter]]] += votes[:, voter]
    return shares / shares.sum(1, keepdim=True)
