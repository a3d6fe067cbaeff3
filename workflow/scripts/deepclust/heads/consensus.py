"""Consensus: one partition out of those that several heads and seeds found on the same features.

Ours. Heads on frozen features tend to follow the few directions in which the features vary most, whether or not these
tell the classes apart. Classes, being what pretraining gathers evidence for, show in very many directions, most of them
of little variance. So the partitions of the members are judged and improved where all directions count the same:

1. Every partition, and the aligned mean of the best two, three, … of them, is scored by Pillai's trace
   (`LinearFit.pillai_trace`), and the best `starts` of these votes are kept.
2. Each vote becomes a linear classifier on the whitened features, by least squares, and is trained on: an image and its
   neighbors among the whitened features shall be in the same cluster and clusters be of similar size (the loss of SCAN,
   Van Gansbeke et al. 2020, arxiv.org/abs/2005.12320), where half of the dimensions are dropped, others for the image
   than for its neighbor. No direction can then decide alone.
3. Per seed, the classifier with the highest trace is the result.

No step sees labels. The loss prefers clusters of similar size: on very imbalanced classes a member that does not may be
better.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from deepclust.common.device import choose_device
from deepclust.common.errors import DeepclustError
from deepclust.common.progress import Progress
from deepclust.common.seeding import derive_seed
from deepclust.heads.agreement import LinearFit, candidates, one_hot
from deepclust.heads.head import (
    CombiningOptions,
    Facts,
    Features,
    Partition,
    Prediction,
    SeedResult,
    TrainingData,
    Weights,
)
from deepclust.heads.linear_classifier import predict_linear
from deepclust.heads.monitors import watched
from deepclust.heads.neighbor_consistency import scan_loss
from deepclust.heads.normalization import BLOCK, Float32, fit_normalization
from deepclust.heads.stacked import Rows, linear, orders
from deepclust.heads.training import Plan, Training, train

FACTS = Facts(needs_neighbors=False, max_backbones=None)
SHARPNESS = 10.0  # least squares predict shares between 0 and 1; times this they are the first logits


class Options(CombiningOptions):
    """Options of the consensus."""

    normalize: Literal["none", "l2", "center", "standardize", "whiten"] = "whiten"
    """What happens to the features first; see the other heads. Anything but `whiten` lets directions of large variance
    decide."""
    components: int = Field(512, ge=1)
    """Principal components that `normalize: whiten` keeps, at most."""
    starts: int = Field(4, ge=1)
    """How many of the best votes are trained on."""
    neighbors: int = Field(20, ge=1)
    """Nearest neighbors of an image among the normalised features."""
    entropy_weight: float = Field(5.0, ge=0)
    """Weight of the entropy of a batch's mean probabilities, which keeps clusters from running empty."""
    dropout: float = Field(0.5, ge=0, lt=1)
    """Share of the dimensions that are dropped in training."""
    epochs: int = Field(30, ge=1)
    """Passes over the training images."""
    batch_size: int = Field(1024, ge=1)
    """Images per step; must be much larger than the number of clusters."""
    learning_rate: float = Field(0.01, gt=0)
    """Learning rate of Adam at the beginning; it falls to 0 in a straight line."""


def fit(data: TrainingData, k: int, seeds: Sequence[int], options: Options, progress: Progress) -> Iterator[SeedResult]:
    """One classifier per seed out of the same votes; see `deepclust.heads.head.Head`.

    The objective is Pillai's trace, negative. The weights are `weight` [k, D] and `bias` [k] on the normalised
    features, float32.

    Raises:
        DeepclustError: no member has a result.
    """
    if k > data.count:
        raise DeepclustError(f"{k} clusters need at least {k} images, there are {data.count}: lower k")
    points, normalization = fit_normalization(data.features, options)
    if not data.members:
        raise DeepclustError(f"no result of {', '.join(options.members)} to combine: cluster with them first")
    points *= np.sqrt(points.shape[1], dtype=np.float32)  # values of about 1, for which the learning rate is meant
    linear_fit = LinearFit(points)
    votes = candidates([_votes(partition, k) for partition in data.members], linear_fit)[: options.starts]
    device = choose_device()
    rows = Rows(points, device)
    neighbors = nearest(rows.values, min(options.neighbors, data.count - 1), progress)
    first = [linear_fit.weights(vote) for vote, _ in votes]

    def start(stack: Sequence[int]) -> Training:
        return ConsensusTraining(rows, neighbors, first, linear_fit, stack, options)

    epoch = max(1, data.count // options.batch_size)
    plan = Plan(options.epochs * epoch, epoch, k, "raise entropy_weight or batch_size, or name other members")
    for result in train(start, seeds, plan, device, data.scratch, progress):
        yield result if result.failure else replace(result, weights=_unscaled(result.weights) | normalization)


def predict(weights: Weights, features: list[Features], options: Options) -> Prediction:
    """The cluster with the highest probability; see `deepclust.heads.head.Head`."""
    return predict_linear(weights, features, options)


def _votes(partition: Partition, k: int) -> Float32:
    if partition.probabilities is None:
        return one_hot(partition.assignments, k)
    return partition.probabilities.astype(np.float32)


def _unscaled(weights: Weights) -> Weights:
    """Weights for features that are not multiplied by the root of their dimension."""
    weight = weights["weight"]
    return weights | {"weight": weight * np.sqrt(weight.shape[1], dtype=np.float32)}


def nearest(rows: Tensor, count: int, progress: Progress) -> Tensor:
    """Row numbers of the `count` nearest others by inner product, int64 [N, count], exact but for the precision.

    Args:
        rows: [N, D] on the device.
    """
    found = torch.zeros(len(rows), count, dtype=torch.int64, device=rows.device)
    blocks = torch.arange(len(rows), device=rows.device).split(BLOCK // 4)
    with progress.task("neighbors", len(rows), "images") as task:
        for block in blocks if count else []:
            similarity = (rows[block] @ rows.T).float()
            similarity[torch.arange(len(block), device=rows.device), block] = -torch.inf
            found[block] = similarity.topk(count, dim=1).indices
            task.advance(len(block))
    return found


class ConsensusTraining(Training):
    """Linear classifiers, H for every seed, each from a vote of its own."""

    def __init__(
        self,
        rows: Rows,
        neighbors: Tensor,
        first: Sequence[tuple[np.ndarray, np.ndarray]],
        linear_fit: LinearFit,
        seeds: Sequence[int],
        options: Options,
    ) -> None:
        """Args: `first` weight [k, D] and bias [k] of every vote, which predict shares between 0 and 1."""
        self.rows, self.neighbors, self.linear_fit = rows, neighbors, linear_fit
        self.seeds, self.options = seeds, options
        self.count, self.dimensions = rows.values.shape
        self.batch = min(options.batch_size, self.count)
        self.epoch = max(1, self.count // options.batch_size)
        device = rows.values.device

        def stacked(index: int) -> Tensor:
            votes = torch.from_numpy(np.stack([start[index] for start in first])).float() * SHARPNESS
            return votes.to(device).expand(len(seeds), *votes.shape).clone().requires_grad_()

        self.parameters = [stacked(0), stacked(1)]
        self.optimizers = [torch.optim.Adam(self.parameters, lr=options.learning_rate)]
        self.buffers = {}
        self._orders = functools.lru_cache(1)(lambda epoch: orders(seeds, self.count, epoch).to(device))
        self.watched = torch.from_numpy(watched(self.count)).to(device).expand(len(seeds), -1)

    def step(self, step: int) -> Tensor:
        """One batch; see `Training`."""
        epoch, position = divmod(step, self.epoch)
        indices = self._orders(epoch)[:, position * self.batch : (position + 1) * self.batch]
        generators = [torch.Generator().manual_seed(derive_seed(seed, "step", step)) for seed in self.seeds]
        width = self.neighbors.shape[1]
        columns = self._each(generators, lambda g: torch.randint(max(1, width), (self.batch,), generator=g))
        paired = self.neighbors[indices, columns] if width else indices
        anchors, others = (
            self._forward(self.rows[drawn] * self._mask(generators)).softmax(2) for drawn in (indices, paired)
        )
        losses = scan_loss(anchors, others, self.options.entropy_weight)
        [optimizer] = self.optimizers
        for group in optimizer.param_groups:
            group["lr"] = self.options.learning_rate * (1 - step / (self.options.epochs * self.epoch))
        optimizer.zero_grad()
        losses.sum().backward()
        optimizer.step()
        return losses.detach().mean(dim=1)

    def _mask(self, generators: Sequence[torch.Generator]) -> Tensor:
        """Inverted dropout, [S, D, B]."""
        keep, shape = 1 - self.options.dropout, (self.dimensions, self.batch)
        return self._each(generators, lambda g: torch.rand(shape, generator=g) < keep) / keep

    def _each(self, generators: Sequence[torch.Generator], sample: Callable[[torch.Generator], Tensor]) -> Tensor:
        return torch.stack([sample(generator) for generator in generators]).to(self.watched.device)

    def _forward(self, inputs: Tensor) -> Tensor:
        weight, bias = self.parameters
        return linear(weight, inputs.to(self.rows.values.dtype)).float() + bias.unsqueeze(-1)

    @torch.no_grad()
    def probabilities(self) -> Tensor:
        """Of the watched images, by the classifier from the best vote, [S, n, k]."""
        return self._forward(self.rows[self.watched])[:, 0].softmax(1).transpose(1, 2)

    @torch.no_grad()
    def results(self) -> list[tuple[Weights, float]]:
        """`weight` [k, D], `bias` [k] and objective of every seed's best classifier."""
        blocks = torch.arange(self.count, device=self.watched.device).split(BLOCK)
        everywhere = (self._forward(self.rows[b.expand(len(self.seeds), -1)]).argmax(2) for b in blocks)
        assignments = torch.cat(list(everywhere), dim=2).cpu().numpy()
        weight, bias = (parameter.detach().cpu().numpy() for parameter in self.parameters)
        found = []
        for seed in range(len(self.seeds)):
            traces = [self.linear_fit.pillai_trace(row, bias.shape[2]) for row in assignments[seed]]
            best = int(np.argmax(traces))
            found.append(({"weight": weight[seed, best], "bias": bias[seed, best]}, -traces[best]))
        return found
