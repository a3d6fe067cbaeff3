"""Self-labelling: training of a classifier on its own confident predictions.

This is the last step of SCAN (Van Gansbeke et al. 2020, arxiv.org/abs/2005.12320, section 2.3). An image whose highest
probability is above a threshold is given that cluster as a label. The classifier learns to predict the label from a
strongly augmented view, with cross-entropy weighted so that all clusters count the same.

Departures, because features are frozen:
- There is no augmentation; dropout on the features stands in for the strong one.
- Labels are given once per epoch, to all images, instead of batch by batch, because the same features always get the
  same prediction from the same weights. The weights of the clusters come from all images, too.
- The surest tenth of each cluster's images is confident even if none passes the threshold. The authors' code stops if
  no image passes, and a cluster vanishes if none of its images does. An empty cluster stays empty:
  `deepclust.heads.kit.monitors` sees it.
"""

import torch
from pydantic import Field
from torch import Tensor

from deepclust.core.options import Options as BaseOptions

ONE_IN = 10  # the surest one in so many images of each cluster is always confident


class SelfLabelling(BaseOptions):
    """Options of self-labelling."""

    epochs: int = Field(0, ge=0)
    """Epochs of self-labelling after the head's own training; 0 leaves it out."""
    threshold: float = Field(0.99, ge=0, lt=1)
    """An image is confident if its highest probability is above this. The surest tenth of each cluster always is."""
    dropout: float = Field(0.2, ge=0, lt=1)
    """Share of each image's features that is set to 0 in training, in place of strong augmentation."""
    learning_rate: float = Field(0.001, gt=0)
    """Learning rate of Adam."""


def confident_labels(probabilities: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Return the labels of all images, and the weight that each has in training.

    Args:
        probabilities: [K, N].

    Returns:
        Labels, int64 [N], and weights, float32 [N]. Weights are 0 for images that are not confident. Those of a
        cluster's confident images sum to 1, so that all clusters count the same.
    """
    clusters = len(probabilities)
    certainty, labels = probabilities.max(dim=0)
    confident = certainty > threshold
    # Rank each image in its cluster, the surest first, and equal ones by their number.
    order = torch.argsort(certainty, descending=True, stable=True)
    order = order[torch.argsort(labels[order], stable=True)]
    sizes = torch.bincount(labels, minlength=clusters)
    starts = torch.cumsum(sizes, 0) - sizes
    rank = torch.empty_like(labels)
    rank[order] = torch.arange(len(labels), device=labels.device) - starts[labels[order]]
    confident |= rank * ONE_IN < sizes[labels]
    counts = torch.bincount(labels[confident], minlength=clusters)
    return labels, confident.float() / counts[labels]


def weighted_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean cross-entropy of the confident images of a batch; 0 if there are none.

    Args:
        logits: [S, H, K, B].
        labels, weights: those of each seed's batch, [S, B]; see `confident_labels`.

    Returns:
        [S, H].
    """
    losses = -logits.log_softmax(dim=2).gather(2, labels[:, None, None].expand(-1, logits.shape[1], 1, -1)).squeeze(2)
    total = weights.sum(dim=1, keepdim=True)
    return (losses * weights.unsqueeze(1)).sum(dim=2) / torch.where(total > 0, total, 1)
