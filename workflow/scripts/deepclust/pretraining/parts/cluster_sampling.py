"""Order of an epoch in which every cluster comes up equally often (DeepCluster, arXiv 1807.05520, section 3.2)."""

import torch
from torch import Tensor


def uniform_order(labels: Tensor, count: int, seed: int) -> Tensor:
    """Draw equally many images from all clusters that have any; the numbers of the clusters do not matter.

    Each of the m clusters gives floor(count / m) + 1 images, with replacement if it has no more than these. They are
    shuffled, and the first `count` are kept.

    Args:
        labels: cluster of each image, int [N] on the CPU; images with -1 are never drawn.
        count: length of the order.

    Returns:
        Indices of images, int64 [count].
    """
    generator = torch.Generator().manual_seed(seed)
    # Shuffle the images within each cluster, one cluster after the other.
    shuffled = torch.randperm(len(labels), generator=generator)
    shuffled = shuffled[labels[shuffled] >= 0]
    clusters = _numbered_by_appearance(labels[shuffled].long())
    members = shuffled[clusters.sort(stable=True).indices]
    sizes = clusters.bincount()
    draws = count // len(sizes) + 1
    place = torch.arange(draws).expand(len(sizes), -1)
    numbers = torch.rand(len(sizes), draws, generator=generator, dtype=torch.float64)
    drawn = torch.where((sizes > draws)[:, None], place, (numbers * sizes[:, None]).long())
    order = members[(drawn + (sizes.cumsum(0) - sizes)[:, None]).flatten()]
    return order[torch.randperm(len(order), generator=generator)[:count]]


def _numbered_by_appearance(clusters: Tensor) -> Tensor:
    """Give clusters int64 [n] new numbers from 0, in the order in which they come up first."""
    places = torch.arange(len(clusters))
    first = torch.full((int(clusters.max()) + 1,), len(clusters)).scatter_reduce_(0, clusters, places, "amin")
    return first.argsort().argsort()[clusters]
