"""k-means for training: one start, many clusters, and rows that need not fit into memory nor lie in one process.

Each process has its part of the rows and reads it block by block, from memory or a mapped file, in each of a fixed
number of Lloyd's iterations (Lloyd 1982). Scores of all clusters are held for one block only, and sums are added up
over the processes. faiss (Johnson et al. 2017, arXiv 1702.08734) looks up nearest centroids if it is faster. A large
cluster is split for each empty one, as in faiss.
"""

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from deepclust.core.device import has_fast_bf16
from deepclust.pretraining.engine.distributed import ALONE, Team

SCORES = {"cpu": 2**22, "cuda": 2**27}  # scores of rows against centroids that are held at once
ROWS = {"cpu": 2**14, "cuda": 2**17}  # largest number of rows that are read at once
SPLIT = 1 / 1024  # relative change of the centroids of the halves of a cluster that is split

Backend = Literal["faiss", "torch"]
Nearest = Callable[[Tensor], Tensor]  # from rows on the device to the numbers of their nearest centroids, int64


@dataclass(frozen=True)
class Clusters:
    """Result of k-means."""

    centroids: Tensor
    """Float32 [k, D], on the device."""
    labels: Tensor
    """Nearest centroid of each row of all processes, int32 [N] on the CPU."""
    objective: float
    """Sum of squared distances of all rows to their centroids."""


def kmeans(
    rows: Tensor,
    k: int,
    iterations: int,
    seed: int,
    device: torch.device,
    *,
    spherical: bool = False,
    backend: Backend | None = None,
    team: Team = ALONE,
) -> Clusters:
    """Cluster N rows, starting from `k` of them that are drawn at random.

    The number of processes that share the rows changes the result by rounding only.

    Args:
        rows: rows of this process (`Team.bounds`), float16 or float32 [n, D] on the CPU; lengths around 1.
        spherical: whether centroids have length 1 and a cluster without rows keeps its centroid; otherwise it gets one
            half of a large cluster.
        backend: library that looks up nearest centroids; None for the faster one here.
    """
    count = torch.tensor(len(rows))
    team.all_reduce([count])
    total = int(count)
    start = _some_rows(rows, k, total, seed, team).to(device)
    rows, backend = _resident(rows, device), backend or _fastest(device)
    centroids = iterate(rows, start, iterations, seed, device, spherical=spherical, backend=backend, team=team)
    own_labels, own_objective = assign(rows, centroids, device, team)
    (labels,) = team.all_gather((own_labels,), total)
    objective = torch.tensor(own_objective, dtype=torch.float64)
    team.all_reduce([objective])
    return Clusters(centroids, labels, objective.item())


def _some_rows(rows: Tensor, k: int, total: int, seed: int, team: Team) -> Tensor:
    """Draw `k` of the rows of all processes, in their order, float32 [k, D] on the CPU."""
    chosen = torch.randperm(total, generator=torch.Generator().manual_seed(seed))[:k].sort().values
    first, last = team.bounds(total)
    own = (chosen >= first) & (chosen < last)
    found = torch.zeros(k, rows.shape[1])
    found[own] = rows[chosen[own] - first].float()
    team.all_reduce([found])
    return found


def iterate(
    rows: Tensor,
    centroids: Tensor,
    iterations: int,
    seed: int,
    device: torch.device,
    *,
    spherical: bool = False,
    backend: Backend = "torch",
    team: Team = ALONE,
) -> Tensor:
    """Run Lloyd's iterations from `centroids` [k, D], the same in every process, and return the last ones.

    Sums of float16 numbers are exact in float64, so that neither the order of the rows nor the number of processes
    changes a bit.

    Args:
        rows: rows of this process.
    """
    k, dimension = centroids.shape
    generator = torch.Generator().manual_seed(seed)
    index = _faiss_index(dimension) if backend == "faiss" else None
    for _ in range(iterations):
        team.end_if_asked()
        nearest = _by_products(centroids, _coarse(device)) if index is None else _by_faiss(centroids, index)
        sums = torch.zeros(k, dimension, dtype=torch.float64, device=device)
        counts = torch.zeros(k, dtype=torch.int64, device=device)
        for block in _blocks(rows, k, device, team):
            labels = nearest(block)
            sums.index_add_(0, labels, block.double())
            counts += labels.bincount(minlength=k)
        team.all_reduce([sums])
        team.all_reduce([counts])
        means = (sums / counts.clamp(min=1)[:, None]).float()
        if spherical:
            means = F.normalize(means, dim=1)
        centroids = torch.where(counts[:, None] > 0, means, centroids)
        if not spherical:
            centroids = split_large(centroids, counts, generator)
    return centroids


def split_large(centroids: Tensor, counts: Tensor, generator: torch.Generator) -> Tensor:
    """Give each cluster without rows one half of another one, drawn with a probability in proportion to its size.

    Args:
        centroids: [k, D].
        counts: int64 [k].
    """
    empty = (counts == 0).nonzero().flatten().tolist()
    if not empty:
        return centroids
    centroids, sizes = centroids.clone(), counts.double().cpu()
    signs = (torch.arange(centroids.shape[1], device=centroids.device) % 2) * 2.0 - 1
    for cluster in empty:
        weights = (sizes - 1).clamp(min=0)
        if not weights.any():
            break
        large = int(weights.multinomial(1, generator=generator))
        centroids[cluster] = centroids[large] * (1 + SPLIT * signs)
        centroids[large] = centroids[large] * (1 - SPLIT * signs)
        sizes[cluster] = sizes[large] / 2
        sizes[large] /= 2
    return centroids


def assign(rows: Tensor, centroids: Tensor, device: torch.device, team: Team = ALONE) -> tuple[Tensor, float]:
    """Return labels int32 [n] on the CPU and the sum of squared distances of these rows, computed in float32."""
    nearest = _by_products(centroids, torch.float32)
    labels = torch.empty(len(rows), dtype=torch.int32)
    objective = torch.zeros((), dtype=torch.float64, device=device)
    done = 0
    for block in _blocks(rows, len(centroids), device, team):
        found = nearest(block)
        labels[done : done + len(found)] = found.int().cpu()
        objective += (block.float() - centroids[found]).square().sum(dtype=torch.float64)
        done += len(found)
    return labels, objective.item()


def _blocks(rows: Tensor, k: int, device: torch.device, team: Team = ALONE) -> Iterator[Tensor]:
    """Yield the rows on the device, in blocks whose scores for k clusters can be held."""
    size = min(ROWS[device.type], max(256, SCORES[device.type] // k))
    for block in rows.split(size):
        team.end_if_asked(together=False)
        yield block.to(device)


def _by_products(centroids: Tensor, number: torch.dtype) -> Nearest:
    """Look nearest centroids up by scores of this type."""
    # The nearest centroid maximises x·c - |c|²/2. A part that all clusters share changes no order but costs precision,
    # so it is subtracted.
    offsets = -centroids.square().sum(1) / 2
    matrix = (centroids - centroids.mean(0)).to(number)
    bias = (offsets - offsets.mean()).to(number)
    return lambda block: F.linear(block.to(number), matrix, bias).max(1).indices


def _by_faiss(centroids: Tensor, index: Any) -> Nearest:
    """Look nearest centroids up in an index of faiss."""
    index.reset()
    index.add(centroids.cpu().numpy())
    return lambda block: torch.from_numpy(index.search(block.float().cpu().numpy(), 1)[1][:, 0]).to(block.device)


def _faiss_index(dimension: int) -> Any:
    """Make an exact index."""
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())  # the share of this process
    return faiss.IndexFlatL2(dimension)


def _coarse(device: torch.device) -> torch.dtype:
    """Return the type in which nearest centroids are looked up, for rows and centroids of lengths around 1."""
    if device.type == "cuda":
        return torch.float16
    return torch.bfloat16 if has_fast_bf16(device) else torch.float32


def _resident(rows: Tensor, device: torch.device) -> Tensor:
    """Move the rows to the device if they take no more than half of its free memory."""
    if device.type == "cuda" and rows.nbytes <= torch.cuda.mem_get_info(device)[0] // 2:
        return rows.to(device)
    return rows


def _fastest(device: torch.device) -> Backend:
    """Return the faster backend: faiss on a CPU without fast bf16 products, else torch."""
    if device.type == "cuda" or has_fast_bf16(device) or importlib.util.find_spec("faiss") is None:
        return "torch"
    return "faiss"
