"""Other images assigned by the vote of training images: for heads that only divide the training images.

Votes are weighted by exp(cosine similarity / `TEMPERATURE`), as in k-NN classification on features (Wu et al. 2018,
arXiv 1805.01978). At most `LANDMARKS` of the training images vote, so that what is saved stays small.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from deepclust.common.device import choose_device
from deepclust.common.rows import BLOCK, scale_rows
from deepclust.heads.head import Features, HeadOptions, Prediction, Weights
from deepclust.heads.normalization import normalized_blocks

LANDMARKS = 10_000
VOTERS = 20  # nearest landmarks that vote
TEMPERATURE = 0.07
SAME = 1 - 1e-5  # an image as similar as this to a landmark is that landmark


def landmarks(rows: npt.NDArray[np.float32], labels: npt.NDArray[Any], k: int, seed: int) -> Weights:
    """What `vote` needs: features and clusters of randomly drawn training images, of every cluster at least `VOTERS`.

    Args:
        rows: normalised features [N, D].
        labels: clusters [N].

    Returns:
        `landmarks`, float16 [M, D], of length 1; `landmark_clusters`, int32 [M]; `clusters`, int32 [1], which is k.
    """
    order = np.random.default_rng(seed).permutation(len(rows))
    # How many of its cluster come before an image.
    by_cluster = order[np.argsort(labels[order], kind="stable")]
    starts = np.searchsorted(labels[by_cluster], np.arange(k))
    rank = np.empty(len(rows), np.int64)
    rank[by_cluster] = np.arange(len(rows)) - starts[labels[by_cluster]]
    chosen = order[np.argsort(rank[order] >= VOTERS, kind="stable")]
    chosen = np.sort(chosen[: max(LANDMARKS, int((rank < VOTERS).sum()))])
    directions = rows[chosen].astype(np.float32)
    scale_rows(directions)
    return {
        "landmarks": directions.astype(np.float16),
        "landmark_clusters": labels[chosen].astype(np.int32),
        "clusters": np.array([k], np.int32),
    }


def filled(weights: Weights) -> int:
    """How many clusters have images when the landmarks themselves are assigned: equal features have one cluster."""
    matrix = _directions(weights["landmarks"])
    parts = [_shares(weights, matrix, block).argmax(1).unique() for block in matrix.split(BLOCK)]
    return len(torch.cat(parts).unique())


def vote(weights: Weights, features: list[Features], options: HeadOptions) -> Prediction:
    """Clusters of any images, and the shares of the votes as probabilities; see `deepclust.heads.head.Head`."""
    matrix = _directions(weights["landmarks"])
    assignments = np.empty(len(features[0]), np.int32)
    probabilities = np.empty((len(features[0]), int(weights["clusters"][0])), np.float16)
    for block, rows in normalized_blocks(features, options, weights):
        scale_rows(rows)
        shares = _shares(weights, matrix, _directions(rows.astype(np.float16))).cpu()
        assignments[block] = shares.argmax(1).numpy()
        probabilities[block] = shares.numpy()
    return Prediction(assignments, probabilities)


def _directions(rounded: npt.NDArray[np.float16]) -> Tensor:
    """Rows of length 1: float16 alone leaves lengths, and the similarity of a row to itself, 1e-3 off."""
    rows = rounded.astype(np.float32)
    scale_rows(rows)
    return torch.from_numpy(rows).to(choose_device())


def _shares(weights: Weights, matrix: Tensor, directions: Tensor) -> Tensor:
    """Share of the votes of every cluster, float32 [n, k]; `matrix` are the landmarks' directions [M, D]."""
    clusters = torch.from_numpy(weights["landmark_clusters"].astype(np.int64)).to(directions.device)
    similarity, nearest = (directions @ matrix.T).topk(min(VOTERS, len(matrix)))
    votes = ((similarity - similarity[:, :1]) / TEMPERATURE).exp()
    votes[:, 1:] *= (similarity[:, :1] < SAME).float()
    # In a fixed order, which additions by index do not have on a GPU.
    shares = torch.zeros(len(directions), int(weights["clusters"][0]), device=directions.device)
    rows = torch.arange(len(directions), device=directions.device)
    for voter in range(votes.shape[1]):
        shares[rows, clusters[nearest[:, voter]]] += votes[:, voter]
    return shares / shares.sum(1, keepdim=True)
