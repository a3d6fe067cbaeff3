"""Power iteration clustering (Lin & Cohen 2010) in the variant of DeepCluster (arXiv 1807.05520, appendix).

On the graph of nearest neighbors a little of each image's value flows to its neighbors until values have settled. From
each image the path leads to the neighbor to which the weighted rise is steepest, and so on. Images whose paths end at
the same summit are a cluster. The number of clusters comes out of the data.

Departure: values are float64. In float32, as in the authors' code, the flow between images that are not very close is
lost in rounding, and they stay clusters of their own.
"""

import torch
from torch import Tensor

from deepclust.pretraining.engine.distributed import ALONE, Team

NEIGHBORS = 5
SIGMA = 0.2  # width of the kernel: weights are exp(-squared distance / sigma²)
ALPHA = 0.001  # weight of the flow in each iteration; the rest is the start
ITERATIONS = 200
SCORES = {"cpu": 2**24, "cuda": 2**28}  # products of rows that are held at once


def power_iteration_clusters(rows: Tensor, most: int, device: torch.device, team: Team = ALONE) -> Tensor:
    """Cluster rows of length 1.

    Args:
        rows: float [N, D] on the CPU.
        most: number of the largest clusters, which are kept.
        team: processes that all do this, on the same rows.

    Returns:
        Clusters int32 [N] on the CPU, numbered from the largest on; -1 beyond `most`.
    """
    neighbors, squared = nearest(rows, min(NEIGHBORS, len(rows) - 1), device, team)
    clusters = climb(*_flow(neighbors, torch.exp(-squared / SIGMA**2), team))
    clusters = _merge_singletons(clusters, neighbors)
    _, numbered, sizes = clusters.unique(return_inverse=True, return_counts=True)
    rank = sizes.sort(descending=True, stable=True).indices.argsort()
    labels = rank[numbered]
    return torch.where(labels < most, labels, -1).int()


def nearest(rows: Tensor, count: int, device: torch.device, team: Team = ALONE) -> tuple[Tensor, Tensor]:
    """Return the `count` nearest others of each row and squared distances, int64 and float32 [N, count] on the CPU."""
    whole = rows.to(device).float()
    found, squared = [], []
    for start in range(0, len(rows), size := max(1, SCORES[device.type] // len(rows))):
        team.end_if_asked()
        cosines = whole[start : start + size] @ whole.T
        places = torch.arange(len(cosines), device=device)
        cosines[places, start + places] = -torch.inf  # a row is not its own neighbor
        best = cosines.topk(count, dim=1)
        found.append(best.indices.cpu())
        squared.append((2 - 2 * best.values).clamp(min=0).cpu())
    return torch.cat(found), torch.cat(squared)


def _flow(neighbors: Tensor, weights: Tensor, team: Team) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return edges of the symmetric graph and the settled values: sources, targets, weights [2 N n], values [N]."""
    count, width = neighbors.shape
    here, there = torch.arange(count).repeat_interleave(width), neighbors.flatten()
    source, target = torch.cat([here, there]), torch.cat([there, here])
    weight = weights.double().flatten().repeat(2)
    start = torch.full((count,), 1 / count, dtype=torch.float64)
    values = start
    for _ in range(ITERATIONS):
        team.end_if_asked()
        # v ← α W v + (1 - α) / N, scaled to sum 1 (DeepCluster's variant of Lin & Cohen 2010).
        flowed = torch.zeros_like(values).index_add_(0, target, weight * values[source])
        values = ALPHA * flowed + (1 - ALPHA) * start
        values = values / values.sum()
    return source, target, weight, values


def climb(source: Tensor, target: Tensor, weight: Tensor, values: Tensor) -> Tensor:
    """Return the summit that each image leads to, int64 [N], along the edges of the steepest weighted rise."""
    # An edge that is in the graph twice has the weight of both.
    count = len(values)
    edges, place = (source * count + target).unique(return_inverse=True)
    weight = torch.zeros(len(edges), dtype=weight.dtype).index_add_(0, place, weight)
    source, target = edges // count, edges % count
    rise = weight * (values[target] - values[source])
    order = rise.sort(stable=True).indices  # the last entry that is written for a source is its steepest
    order = order[source[order].sort(stable=True).indices]
    last = torch.ones(len(order), dtype=torch.bool)
    last[:-1] = source[order][1:] != source[order][:-1]
    best = order[last]
    upward = best[rise[best] > 0]
    leads = torch.arange(count)
    leads[source[upward]] = target[upward]
    while not torch.equal(further := leads[leads], leads):
        leads = further
    return leads


def _merge_singletons(clusters: Tensor, neighbors: Tensor) -> Tensor:
    """Merge every cluster of one image into that of its nearest neighbor that is not alone."""
    alone = clusters.bincount(minlength=len(clusters))[clusters] == 1
    accompanied = ~alone[neighbors]
    first = neighbors.gather(1, accompanied.byte().argmax(1, keepdim=True)).squeeze(1)
    return torch.where(alone & accompanied.any(1), clusters[first], clusters)
