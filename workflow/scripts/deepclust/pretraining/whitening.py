"""Principal components with equal variance and length 1: what DeepCluster clusters (arXiv 1807.05520, section 3.3).

The components are those of at most `SAMPLE` images; the features of all images are never held at once.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

SAMPLE = 2**17  # images that the components are computed from
CHUNK = 2**15  # images whose features are held at once, beyond those
MEMORY = 2**32  # bytes of reduced features in memory; more are kept in a file
ROWS = 2**14  # rows on the device at once
LEAST = 1e-6  # variance of a component, as a share of the largest, below which it is rounding


@dataclass(frozen=True)
class Whitening:
    """An affine map to components of variance 1."""

    mean: Tensor
    """Float32 [D]."""
    matrix: Tensor
    """Float32 [D, d]."""

    def components(self, features: Tensor) -> Tensor:
        """[n, D] → [n, d] on the same device; a component that has no variance is 0."""
        return (features - self.mean) @ self.matrix


def fit_whitening(features: Tensor, components: int, device: torch.device) -> Whitening:
    """Components of the largest variance of `features`, float [n, D] on the CPU, at most D of them."""
    count, dimension = features.shape
    mean = torch.zeros(dimension, dtype=torch.float64, device=device)
    for block in features.split(ROWS):
        mean += block.to(device).sum(0, dtype=torch.float64)
    mean /= count
    covariance = torch.zeros(dimension, dimension, dtype=torch.float64, device=device)
    for block in features.split(ROWS):
        centred = block.to(device) - mean.float()
        covariance += centred.T @ centred
    values, vectors = torch.linalg.eigh(covariance / max(1, count - 1))
    largest = values.flip(0)[:components]
    scales = torch.where(largest > LEAST * largest[0], largest.clamp(min=1e-30).rsqrt(), 0)
    # The sign of an eigenvector is arbitrary; clusters do not depend on it.
    matrix = vectors.flip(1)[:, :components] * scales
    return Whitening(mean.float(), matrix.float())


def whitened_features(
    features: Callable[..., Tensor], count: int, components: int, seed: int, device: torch.device
) -> Tensor:
    """Whitened features of all images, each scaled to length 1.

    Args:
        features: gives features float32 [n, D] of the images with the given indices, on the CPU.
        count: number of images N.

    Returns:
        float16 [N, d] with d = min(components, D) on the CPU, in a file without a name if it is large.
    """
    sample = torch.arange(count)
    if count > SAMPLE:
        sample = torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:SAMPLE].sort().values
    sampled = features(sample)
    whitening = fit_whitening(sampled, components, device)
    reduced = _allocate(count, whitening.matrix.shape[1])
    for chunk in torch.arange(count).split(CHUNK):
        part = features(chunk) if count > SAMPLE else sampled[chunk]
        place = slice(int(chunk[0]), int(chunk[-1]) + 1)
        for rows, target in zip(part.split(ROWS), reduced[place].split(ROWS)):
            target.copy_(F.normalize(whitening.components(rows.to(device)), dim=1))
    return reduced


def _allocate(count: int, dimension: int) -> Tensor:
    """Float16 [count, dimension] in memory, or in a file that is gone as soon as nothing uses it."""
    if 2 * count * dimension <= MEMORY:
        return torch.empty(count, dimension, dtype=torch.float16)
    with tempfile.TemporaryFile() as file:
        return torch.from_numpy(np.memmap(file, np.float16, "w+", shape=(count, dimension)))
