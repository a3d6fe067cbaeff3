"""k-means for training: one start, many clusters, rows that need not fit into memory.

Rows are read block by block, from memory or a mapped file, in each of a fixed number of Lloyd's iterations (Lloyd
1982); scores of all clusters are held for one block only. On one device that faiss is faster on, faiss iterates
(Johnson et al. 2017, arXiv 1702.08734); its way with empty clusters is ours, too: a large cluster is split.
"""

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from deepclust.common.device import has_fast_bf16

SCORES = {"cpu": 2**22, "cuda": 2**27}  # scores of rows against centroids that are held at once
ROWS = {"cpu": 2**14, "cuda": 2**17}  # rows that are read at once, at most
SPLIT = 1 / 1024  # by how much the halves of a cluster that is split differ

AddUp = Callable[[Tensor], None]


def alone(values: Tensor) -> None:
    """Adds up over one process."""


@dataclass(frozen=True)
class Clusters:
    """What k-means found."""

    centroids: Tensor
    """Float32 [k, D], on the device."""
    labels: Tensor
    """The nearest centroid of each row, int32 [N] on the CPU."""
    objective: float
    """Sum of squared distances of the rows to their centroids."""


def kmeans(
    rows: Tensor,
    k: int,
    iterations: int,
    seed: int,
    device: torch.device,
    *,
    spherical: bool = False,
    backend: Literal["faiss", "torch"] | None = None,
) -> Clusters:
    """Cluster rows from `k` of them, drawn at random.

    Args:
        rows: float16 or float32 [N, D] on the CPU; lengths around 1.
        spherical: whether centroids have length 1 and a cluster without rows keeps its centroid; otherwise it gets one
            half of a large cluster.
        backend: None: the faster one here.
    """
    generator = torch.Generator().manual_seed(seed)
    start = rows[torch.randperm(len(rows), generator=generator)[:k].sort().values].float().to(device)
    rows = _resident(rows, device)
    if (backend or _fastest(device)) == "faiss" and not spherical:
        centroids = _iterate_with_faiss(rows, start, iterations, device)
    else:
        centroids = iterate(rows, start, iterations, seed, device, spherical=spherical)
    labels, objective = assign(rows, centroids, device)
    return Clusters(centroids, labels, objective)


def iterate(
    rows: Tensor,
    centroids: Tensor,
    iterations: int,
    seed: int,
    device: torch.device,
    *,
    spherical: bool = False,
    add_up: AddUp = alone,
) -> Tensor:
    """Lloyd's iterations from `centroids` [k, D]; returns the last ones.

    Sums of float16 numbers are exact in float64, so that neither the order of the rows nor the number of processes
    changes a bit.

    Args:
        rows: those of this process.
        add_up: adds up a tensor over all processes, in place; every process must start from the same centroids.
    """
    k, dimension = centroids.shape
    generator = torch.Generator().manual_seed(seed)
    for _ in range(iterations):
        sums = torch.zeros(k, dimension, dtype=torch.float64, device=device)
        counts = torch.zeros(k, dtype=torch.int64, device=device)
        for block, labels in _assigned(rows, centroids, device, exact=False):
            sums.index_add_(0, labels, block.double())
            counts += labels.bincount(minlength=k)
        add_up(sums)
        add_up(counts)
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


def assign(rows: Tensor, centroids: Tensor, device: torch.device) -> tuple[Tensor, float]:
    """Labels int32 [N] on the CPU and the sum of squared distances, computed in float32."""
    labels = torch.empty(len(rows), dtype=torch.int32)
    objective = torch.zeros((), dtype=torch.float64, device=device)
    done = 0
    for block, found in _assigned(rows, centroids, device, exact=True):
        labels[done : done + len(found)] = found.int().cpu()
        objective += (block.float() - centroids[found]).square().sum(dtype=torch.float64)
        done += len(found)
    return labels, objective.item()


def _assigned(rows: Tensor, centroids: Tensor, device: torch.device, *, exact: bool) -> Iterator[tuple[Tensor, Tensor]]:
    """Blocks of rows on the device, and their nearest centroids, int64."""
    number = torch.float32 if exact else _coarse(device)
    # What all clusters have in common changes no order, but costs precision.
    offsets = -centroids.square().sum(1) / 2
    matrix = (centroids - centroids.mean(0)).to(number)
    bias = (offsets - offsets.mean()).to(number)
    size = min(ROWS[device.type], max(256, SCORES[device.type] // len(centroids)))
    for block in rows.split(size):
        block = block.to(device)
        yield block, F.linear(block.to(number), matrix, bias).max(1).indices


def _coarse(device: torch.device) -> torch.dtype:
    """In what numbers nearest centroids are looked for, where rows and centroids have lengths around 1."""
    if device.type == "cuda":
        return torch.float16
    return torch.bfloat16 if has_fast_bf16(device) else torch.float32


def _resident(rows: Tensor, device: torch.device) -> Tensor:
    """The rows on the device, if they take no more than half of what is free there."""
    if device.type == "cuda" and rows.nbytes <= torch.cuda.mem_get_info(device)[0] // 2:
        return rows.to(device)
    return rows


def _fastest(device: torch.device) -> Literal["faiss", "torch"]:
    """The backend: faiss where its build has the GPU, and on a CPU without fast bf16 products."""
    if importlib.util.find_spec("faiss") is None:
        return "torch"
    if device.type == "cuda":
        import faiss

        return "faiss" if faiss.get_num_gpus() > 0 else "torch"
    return "torch" if has_fast_bf16(device) else "faiss"


def _iterate_with_faiss(rows: Tensor, start: Tensor, iterations: int, device: torch.device) -> Tensor:
    """As `iterate`; faiss reads float16 rows as codes, so that mapped files stay on disk."""
    import faiss
    import numpy as np

    k, dimension = start.shape
    clustering: Any = faiss.Clustering(dimension, k)
    clustering.niter = iterations
    clustering.min_points_per_centroid, clustering.max_points_per_centroid = 1, 2**31 - 1  # all rows, no sample
    faiss.copy_array_to_vector(start.cpu().numpy().ravel(), clustering.centroids)
    index: Any = faiss.IndexFlatL2(dimension)
    if device.type == "cuda":
        index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), device.index or 0, index)
    host = rows.cpu().numpy()
    if rows.dtype == torch.float32:
        clustering.train(host, index)
    else:
        codec = faiss.IndexScalarQuantizer(dimension, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_L2)
        clustering.train_encoded(host.view(np.uint8), codec, index)
    found = faiss.vector_to_array(clustering.centroids).reshape(k, dimension)
    return torch.from_numpy(found).to(device)
