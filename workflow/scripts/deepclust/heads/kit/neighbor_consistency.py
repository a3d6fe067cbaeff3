"""Linear heads that give an image and its neighbors the same cluster; SCAN and the two-stage system share them."""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from deepclust.core.device import choose_device
from deepclust.core.errors import DeepclustError
from deepclust.core.progress import Progress
from deepclust.core.rows import BLOCK
from deepclust.heads.kit.head import HeadOptions, Preparation, SeedResult, TrainingData, Weights
from deepclust.heads.kit.monitors import watched, with_centering
from deepclust.heads.kit.normalization import fit_normalization
from deepclust.heads.kit.self_labelling import SelfLabelling, confident_labels, weighted_cross_entropy
from deepclust.heads.kit.stacked import Rows, adam, draw, draw_each, linear_scores, orders
from deepclust.heads.kit.training import Schedule, Training, train

SMALLEST = 1e-8  # smaller probabilities are raised to it before their logarithm
JUDGED = 5  # nearest neighbors (of each backbone) that the objective looks at
ADVICE = "raise entropy_weight or batch_size"


class ConsistencyOptions(HeadOptions):
    """Options of heads that learn from neighbors."""

    normalize: Preparation = "center"
    """Preparation of the features; see the other heads."""
    heads: int = Field(10, ge=1)
    """Linear heads per seed; the one with the lowest objective is kept."""
    neighbors: int = Field(50, ge=1)
    """Nearest neighbors of an image (of each backbone) that it may be paired with."""
    entropy_weight: float = Field(5.0, ge=0)
    """Weight of the entropy of a batch's mean probabilities, which keeps clusters from running empty."""
    epochs: int = Field(100, ge=1)
    """Passes over the training images."""
    batch_size: int = Field(1024, ge=1)
    """Images per step; must be much larger than the number of clusters."""
    optimizer: Literal["sgd", "adam"] = "sgd"
    """`sgd` has a momentum of 0.9."""
    learning_rate: float = Field(5.0, gt=0)
    """Learning rate, which is constant."""
    self_labelling: SelfLabelling = SelfLabelling()
    """Training on confident predictions after the head's own training."""


def consistency(anchors: Tensor, neighbors: Tensor) -> Tensor:
    """Return the mean negative logarithm of the probability that image and neighbor are in the same cluster.

    Args:
        anchors, neighbors: probabilities [..., K, B].

    Returns:
        [...].
    """
    return -(anchors * neighbors).sum(dim=-2).clamp_min(SMALLEST).log().mean(dim=-1)


def mean_entropy(probabilities: Tensor) -> Tensor:
    """Return the entropy of the mean probabilities of a batch, [..., K, B] → [...]."""
    mean = probabilities.mean(dim=-1)
    return -(mean * mean.clamp_min(SMALLEST).log()).sum(dim=-1)


def scan_loss(anchors: Tensor, neighbors: Tensor, entropy_weight: float) -> Tensor:
    """Return the loss of SCAN (equation 2): the consistency less the weighted entropy of the images' mean.

    Args:
        anchors, neighbors: probabilities [..., K, B].

    Returns:
        [...].
    """
    return consistency(anchors, neighbors) - entropy_weight * mean_entropy(anchors)


def steps_per_epoch(count: int, options: ConsistencyOptions) -> int:
    """Return the number of batches of one pass over `count` images; the images left over wait for another epoch."""
    return max(1, count // options.batch_size)


def fit_consistency(
    data: TrainingData, k: int, seeds: Sequence[int], options: ConsistencyOptions, progress: Progress
) -> Iterator[SeedResult]:
    """Train linear heads for every seed; see `deepclust.heads.kit.head.Head`.

    The objective is the consistency with the nearest neighbors less the entropy of the mean probabilities. The weights
    are `weight` [k, D] and `bias` [k] on the normalised features, float32.

    Raises:
        DeepclustError: there are fewer images than clusters, or features are not finite.
    """
    if k > data.count:
        raise DeepclustError(f"{k} clusters are more than the {data.count} images")
    features, normalization = fit_normalization(data.features, options)
    near = [array[:, : options.neighbors] for array in data.neighbors or []]
    if sum(array.shape[1] for array in near) == 0:
        near = [np.arange(data.count, dtype=np.int32)[:, None]]  # an image without neighbors is its own
    device = choose_device()
    rows = Rows(features, device)
    neighbors, judged = (
        torch.from_numpy(np.concatenate(arrays, axis=1).astype(np.int64)).to(device)
        for arrays in (near, [array[watched(data.count), :JUDGED] for array in near])
    )
    epoch = steps_per_epoch(data.count, options)
    plan = Schedule((options.epochs + options.self_labelling.epochs) * epoch, epoch, k, with_centering(ADVICE, options))

    def start(stack: Sequence[int]) -> Training:
        return ConsistencyTraining(rows, neighbors, judged, stack, k, options)

    for result in train(start, seeds, plan, device, data.scratch, progress):
        yield result if result.failure else replace(result, weights=result.weights | normalization)


class ConsistencyTraining(Training):
    """Training in two phases: all heads learn from neighbors, then the best one may learn from its own predictions.

    The log has the objective of the best head so far, and at the end that of the head that was trained on its own
    predictions. The objective does not decide between the two, because it rises with certainty if neighbors are in
    different clusters.
    """

    logged = ("objective",)

    def __init__(
        self, rows: Rows, neighbors: Tensor, judged: Tensor, seeds: Sequence[int], k: int, options: ConsistencyOptions
    ) -> None:
        """Draw the parameters of the heads.

        Args:
            neighbors: int64 [N, n].
            judged: neighbors of the watched images that the objective looks at, int64 [w, j].
        """
        self.rows, self.neighbors, self.judged, self.seeds, self.options = rows, neighbors, judged, seeds, options
        self.count, dimensions = rows.values.shape
        device = rows.values.device
        self.batch = min(options.batch_size, self.count)
        self.epoch = steps_per_epoch(self.count, options)
        self.turn = options.epochs * self.epoch  # the step at which self-labelling begins
        self.steps = self.turn + options.self_labelling.epochs * self.epoch
        self.watched = torch.from_numpy(watched(self.count)).to(device).expand(len(seeds), -1)

        def parameter(*shape: int, purpose: str | None = None) -> Tensor:
            bound = dimensions**-0.5  # as torch.nn.Linear begins
            fill = functools.partial(torch.nn.init.uniform_, a=-bound, b=bound)
            values = torch.zeros(len(seeds), *shape) if purpose is None else draw(seeds, purpose, shape, fill)
            return values.to(device).requires_grad_()

        self.heads = [
            parameter(options.heads, k, dimensions, purpose="weight"),
            parameter(options.heads, k, purpose="bias"),
        ]
        self.chosen = [parameter(1, k, dimensions), parameter(1, k)]
        first: torch.optim.Optimizer = (
            torch.optim.SGD(self.heads, lr=options.learning_rate, momentum=0.9)
            if options.optimizer == "sgd"
            else adam(self.heads, options.learning_rate)
        )
        self.optimizers = [first, adam(self.chosen, options.self_labelling.learning_rate)]
        self.buffers = {"objective": torch.full((len(seeds),), torch.inf, device=device)}
        if options.self_labelling.epochs:
            shape = len(seeds), self.count
            self.buffers["labels"] = torch.zeros(shape, dtype=torch.int64, device=device)
            self.buffers["weights"] = torch.zeros(shape, device=device)
        self._orders = functools.lru_cache(1)(lambda epoch: orders(seeds, self.count, epoch).to(device))

    def step(self, step: int) -> Tensor:
        """Take one step of the phase that `step` belongs to; see `Training`."""
        epoch, position = divmod(step, self.epoch)
        indices = self._orders(epoch)[:, position * self.batch : (position + 1) * self.batch]
        if step < self.turn:
            losses = self._neighbor_step(indices, step)
            if position == self.epoch - 1:
                self._choose()
        else:
            if position == 0:
                self._label()
            losses = self._self_labelling_step(indices, step)
            if step == self.steps - 1:
                self.buffers["objective"].copy_(self._objectives(self.chosen)[:, 0])
        return losses

    def _neighbor_step(self, indices: Tensor, step: int) -> Tensor:
        draw_columns = functools.partial(torch.randint, self.neighbors.shape[1], (self.batch,))
        [columns] = draw_each(self.seeds, step, indices.device, draw_columns)
        anchors = linear_scores(self.heads, self.rows[indices])
        neighbors = linear_scores(self.heads, self.rows[self.neighbors[indices, columns]])
        losses = scan_loss(anchors.softmax(2), neighbors.softmax(2), self.options.entropy_weight)
        self._descend(self.optimizers[0], losses)
        return losses.detach().mean(dim=1)

    def _self_labelling_step(self, indices: Tensor, step: int) -> Tensor:
        inputs = self.rows[indices]
        keep = 1 - self.options.self_labelling.dropout
        [drawn] = draw_each(self.seeds, step, indices.device, functools.partial(torch.rand, inputs.shape[1:]))
        logits = linear_scores(self.chosen, inputs * (drawn < keep) / keep)
        labels, weights = (self.buffers[name].gather(1, indices) for name in ("labels", "weights"))
        losses = weighted_cross_entropy(logits, labels, weights)
        self._descend(self.optimizers[1], losses)
        return losses.detach()[:, 0]

    @staticmethod
    def _descend(optimizer: torch.optim.Optimizer, losses: Tensor) -> None:
        optimizer.zero_grad()
        losses.sum().backward()
        optimizer.step()

    @torch.no_grad()
    def _objectives(self, parameters: Sequence[Tensor]) -> Tensor:
        """Return the consistency with the nearest neighbors less the entropy, over the watched images, [S, H]."""
        anchors = linear_scores(parameters, self.rows[self.watched]).softmax(2)
        parts = [
            consistency(anchors, linear_scores(parameters, self.rows[near.expand(len(self.seeds), -1)]).softmax(2))
            for near in self.judged.T
        ]
        return torch.stack(parts).mean(dim=0) - mean_entropy(anchors)

    @torch.no_grad()
    def _choose(self) -> None:
        """Keep the head with the lowest objective of all epochs so far."""
        objectives = self._objectives(self.heads)
        for seed, head in enumerate(objectives.argmin(dim=1)):
            objective = objectives[seed, head]
            better = objective < self.buffers["objective"][seed]
            self.buffers["objective"][seed] = torch.where(better, objective, self.buffers["objective"][seed])
            for kept, trained in zip(self.chosen, self.heads):
                kept[seed, 0] = torch.where(better, trained[seed, head], kept[seed, 0])

    @torch.no_grad()
    def _label(self) -> None:
        """Give the images the clusters that the chosen head is confident of."""
        for seed in range(len(self.seeds)):
            own = [parameter[seed : seed + 1] for parameter in self.chosen]
            blocks = torch.arange(self.count, device=self.watched.device).split(BLOCK)
            probabilities = torch.cat([linear_scores(own, self.rows[b[None]])[0, 0].softmax(0) for b in blocks], dim=1)
            labels, weights = confident_labels(probabilities, self.options.self_labelling.threshold)
            self.buffers["labels"][seed] = labels
            self.buffers["weights"][seed] = weights

    @torch.no_grad()
    def probabilities(self) -> Tensor:
        """Return the probabilities of the watched images by the head chosen so far, [S, n, k]."""
        return linear_scores(self.chosen, self.rows[self.watched])[:, 0].softmax(1).transpose(1, 2)

    def results(self) -> list[tuple[Weights, float]]:
        """Return `weight` [k, D], `bias` [k] and the objective of every seed."""
        weight, bias = (parameter.detach()[:, 0].cpu().numpy() for parameter in self.chosen)
        objectives = self.buffers["objective"].tolist()
        return [({"weight": w, "bias": b}, o) for w, b, o in zip(weight, bias, objectives)]
