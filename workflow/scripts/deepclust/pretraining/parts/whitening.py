"""Principal components of equal variance, scaled to length 1, for DeepCluster (arXiv 1807.05520, section 3.3).

The components are those of at most `SAMPLE` images. The features of all images are never held at once. Each process
computes its part of them: moments are added up, and the results stay in the process.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from deepclust.core.errors import DeepclustError
from deepclust.pretraining.engine.distributed import ALONE, Team

SAMPLE = 2**17  # images that the components are computed from
CHUNK = 2**15  # images whose features a process holds at once beside those
MEMORY = 2**32  # bytes of reduced features in a process's memory; more are kept in a file
ROWS = 2**14  # rows on the device at once
LEAST = 1e-6  # a component is rounding if its variance is below this share of the largest


@dataclass(frozen=True)
class Whitening:
    """Affine map to components of variance 1."""

    mean: Tensor
    """Mean of the features, float32 [D]."""
    matrix: Tensor
    """Scaled components, float32 [D, d]."""

    def components(self, features: Tensor) -> Tensor:
        """Map features [n, D] to components [n, d] on the same device; a component without variance is 0."""
        return (features - self.mean) @ self.matrix


def fit_whitening(features: Tensor, components: int, device: torch.device, team: Team = ALONE) -> Whitening:
    """Find the components of the largest variance, at most D of them, equal in all processes.

    Args:
        features: features of this process's images, float [n, D] on the CPU.
    """
    dimension = features.shape[1]
    mean = torch.zeros(dimension, dtype=torch.float64, device=device)
    for block in features.split(ROWS):
        mean += block.to(device).sum(0, dtype=torch.float64)
    counted = torch.tensor(len(features))
    team.all_reduce([counted])
    team.all_reduce([mean])
    count = int(counted)
    mean /= count
    covariance = torch.zeros(dimension, dimension, dtype=torch.float64, device=device)
    for block in features.split(ROWS):
        centred = block.to(device) - mean.float()
        covariance += centred.T @ centred
    team.all_reduce([covariance])
    values, vectors = torch.linalg.eigh(covariance / max(1, count - 1))
    largest = values.flip(0)[:components]
    scales = torch.where(largest > LEAST * largest[0], largest.clamp(min=1e-30).rsqrt(), 0)
    # The sign of an eigenvector is arbitrary. Clusters do not depend on it if all processes take that of one.
    whitening = Whitening(mean.float(), (vectors.flip(1)[:, :components] * scales).float())
    team.broadcast([whitening.mean, whitening.matrix])
    return whitening


def whitened_features(
    features: Callable[[Tensor], Tensor],
    count: int,
    components: int,
    seed: int,
    device: torch.device,
    team: Team = ALONE,
) -> Tensor:
    """Return whitened features of this process's images (`Team.bounds`), each scaled to length 1.

    Args:
        features: function from indices of images to their features, float32 [n, D] on the CPU.
        count: number of images of all processes, N.

    Returns:
        float16 [n, d] with d = min(components, D) on the CPU, in a file without a name if it is large.

    Raises:
        DeepclustError: the disk has no space for that file.
    """
    own = sample = torch.arange(*team.bounds(count))
    if count > SAMPLE:
        drawn = torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:SAMPLE].sort().values
        sample = drawn[slice(*team.bounds(SAMPLE))]
    sampled = torch.cat([features(chunk) for chunk in _chunks(sample, min(count, SAMPLE), team)])
    team.end_if_asked()
    whitening = fit_whitening(sampled, components, device, team)
    reduced = _allocate(len(own), whitening.matrix.shape[1])
    done = 0
    for chunk in _chunks(own, count, team):
        part = features(chunk) if count > SAMPLE else sampled[done : done + len(chunk)]
        for rows in part.split(ROWS):
            reduced[done : done + len(rows)] = F.normalize(whitening.components(rows.to(device)), dim=1)
            done += len(rows)
    return reduced


def _chunks(own: Tensor, count: int, team: Team) -> Iterator[Tensor]:
    """Yield parts of a process's share of `count` images; before each part the process ends if asked to."""
    everyones = count // team.count // CHUNK  # chunks that every process has
    for number, chunk in enumerate(own.split(CHUNK)):
        team.end_if_asked(together=number < everyones)
        yield chunk


def _allocate(count: int, dimension: int) -> Tensor:
    """Allocate float16 [count, dimension] in memory, or in a file that is gone as soon as nothing uses it."""
    size = 2 * count * dimension
    if size <= MEMORY:
        return torch.empty(count, dimension, dtype=torch.float16)
    with tempfile.TemporaryFile() as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)  # a mapped file that runs out of space later kills the process
        except OSError as error:
            raise DeepclustError(
                f"the reduced features of {count} images need {size / 1e9:.3g} GB in {tempfile.gettempdir()} "
                f"({error.strerror}): set TMPDIR to a folder with more room"
            ) from error
        return torch.from_numpy(np.memmap(file, np.float16, "r+", shape=(count, dimension)))
