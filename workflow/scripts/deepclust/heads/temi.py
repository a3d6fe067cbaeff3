"""TEMI: heads that agree on the clusters of neighboring images, measured by a weighted pointwise mutual information.

Adaloglou, Michels, Kalisch, Kollmann 2023, "Exploring the Limits of Deep Image Clustering using Pretrained Models"
(BMVC), arXiv 2303.17896. Options are the published settings.

Departures: p_k is updated after each step; the authors' code updates it before the loss. The warm-up begins at the
first step's share of the highest learning rate; theirs begins at 0. The kept head is the one with the lowest training
loss of the last epoch, as published. No checkpoint is chosen by a score.
"""

import functools
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from deepclust.core.device import choose_device
from deepclust.core.errors import DeepclustError
from deepclust.core.progress import Progress
from deepclust.core.seeding import derive_seed
from deepclust.heads.kit.head import (
    Features,
    HeadFacts,
    HeadOptions,
    Prediction,
    SeedResult,
    TrainingData,
    Weights,
    check_enough,
)
from deepclust.heads.kit.monitors import watched, with_centering
from deepclust.heads.kit.normalization import fit_normalization, normalized_blocks
from deepclust.heads.kit.stacked import Rows, orders
from deepclust.heads.kit.stacked_mlp import StackedMLP, build_parameters, last_weight
from deepclust.heads.kit.training import Schedule, Training, train

FACTS = HeadFacts(needs_neighbors=True, max_backbones=1)

ADVICE = "lower beta, raise neighbors or train longer"
WEIGHTS = ("first", "first_bias", "second", "second_bias", "third")


class Options(HeadOptions):
    """Options of TEMI."""

    heads: int = Field(16, ge=1)
    """Heads that are trained together; the one with the lowest loss is kept."""
    neighbors: int = Field(50, ge=1)
    """Nearest neighbors of an image that its partner is drawn from."""
    beta: float = Field(0.6, gt=0, le=1)
    """Exponent of the probabilities; the lower, the more evenly sized the clusters."""
    temperature: float = Field(0.1, gt=0)
    """Temperature of the softmax, of student and teacher."""
    prior_momentum: float = Field(0.9, ge=0, lt=1)
    """Share of the running mean of the cluster probabilities that is kept at each step."""
    teacher_momentum: float = Field(0.996, ge=0, lt=1)
    """Share of the teacher's parameters that is kept at each step."""
    epochs: int = Field(100, ge=1)
    """Passes over the training images."""
    batch_size: int = Field(1024, ge=1)
    """Images per step."""
    learning_rate: float = Field(1e-4, gt=0)
    """Learning rate of AdamW for 256 images per step. It is scaled in proportion to the images per step: `batch_size`,
    or all images if there are fewer."""
    warmup_epochs: int = Field(20, ge=0)
    """Epochs in which the learning rate rises from 0; it is constant after that."""
    weight_decay: float = Field(1e-4, ge=0)
    """Weight decay of AdamW, not applied to biases."""
    frozen_epochs: int = Field(1, ge=0)
    """Epochs at the start in which the last layer stays as it is."""


def temi_loss(student: Tensor, teacher: Tensor, prior: Tensor, beta: float, temperature: float) -> Tensor:
    """Return the loss of every head, for pairs of an image and one of its neighbors.

    It is - w log sum_k (q_s,k(x) q_t,k(x'))^beta / p_k, in both directions, with w = mean over heads of sum_k q_t,k(x)
    q_t,k(x') (equations 6 to 9 of the paper).

    Args:
        student, teacher: logits [S, H, K, 2B]; the second half of the batch are the neighbors of the first.
        prior: p_k, [S, H, K].

    Returns:
        [S, H].
    """
    weight = pair_weights(teacher, temperature)
    return weighted_loss(student, teacher, prior, weight, beta, temperature)


def pair_weights(teacher: Tensor, temperature: float) -> Tensor:
    """Return the weight w of each pair by the teachers' logits (see `temi_loss`): [S, H, K, 2B] → [S, B]."""
    images, neighbors = (teacher / temperature).softmax(2).chunk(2, dim=-1)
    return (images * neighbors).sum(2).mean(1)


def weighted_loss(
    student: Tensor, teacher: Tensor, prior: Tensor, weight: Tensor, beta: float, temperature: float
) -> Tensor:
    """Return the loss of some heads (see `temi_loss`); `weight` [S, B] comes from all heads."""
    images, neighbors = (teacher / temperature).log_softmax(2).chunk(2, dim=-1)
    partners = torch.cat([neighbors, images], dim=-1)
    joint = (student / temperature).log_softmax(2) + partners
    information = (beta * joint - prior.log().unsqueeze(-1)).logsumexp(2)
    return -(information * weight.repeat(1, 2).unsqueeze(1)).mean(-1)


class TemiTraining(Training):
    """Students, their teachers and the running cluster probabilities of some seeds."""

    def __init__(self, rows: Rows, neighbors: Tensor, seeds: Sequence[int], k: int, options: Options) -> None:
        """Draw the parameters of students and teachers; `neighbors` is int64 [N, n] on the device of `rows`."""
        self.rows, self.neighbors, self.seeds, self.options = rows, neighbors, seeds, options
        self.count, dimensions = rows.values.shape
        self.device = rows.values.device
        self.batch, self.epoch = batches(self.count, options)
        self.students = build_parameters(seeds, options.heads, dimensions, k, self.device)
        self.teachers = [parameter.clone() for parameter in self.students]
        for parameter in self.students:
            parameter.requires_grad_()
        self.network = StackedMLP(len(seeds), options.heads, 2 * self.batch, rows.values.dtype, self.device)
        decayed = [parameter for i, parameter in enumerate(self.students) if i not in (1, 3)]
        groups = [
            {"params": decayed, "weight_decay": options.weight_decay},
            {"params": [self.students[1], self.students[3]], "weight_decay": 0.0},
        ]
        self.optimizers = [torch.optim.AdamW(groups, fused=True)]
        shape = len(seeds), options.heads
        self.buffers = {
            "prior": torch.full((*shape, k), 1 / k, device=self.device),
            "losses": torch.zeros(shape, device=self.device),  # sum over this epoch
            **{f"teacher/{i}": parameter for i, parameter in enumerate(self.teachers)},
        }
        self._pairs = functools.lru_cache(1)(self._draw_pairs)

    def step(self, step: int) -> Tensor:
        """Train one step; see `Training`."""
        epoch, position = divmod(step, self.epoch)
        if position == 0:
            self.buffers["losses"].zero_()
        inputs = self.rows[self._pairs(epoch)[position]]
        probabilities, losses = self._gradients(inputs, frozen=epoch < self.options.frozen_epochs)
        for group in self.optimizers[0].param_groups:
            group["lr"] = self._learning_rate(step)
        self.optimizers[0].step()
        with torch.no_grad():
            students = [parameter.detach() for parameter in self.students]
            torch._foreach_lerp_(self.teachers, students, 1 - self.options.teacher_momentum)
            self.buffers["prior"].lerp_(probabilities, 1 - self.options.prior_momentum)
            self.buffers["losses"].add_(losses)
        return losses.mean(1)

    def probabilities(self) -> Tensor:
        """Return the probabilities of the watched images by the best teacher of this epoch; see `Training`."""
        values = self.rows.values[torch.from_numpy(watched(self.count)).to(self.device)]
        return torch.stack(
            [_probabilities(self._weights(i), values, self.options.temperature) for i in range(len(self.seeds))]
        )

    def results(self) -> list[tuple[Weights, float]]:
        """Return the best teacher of every seed and its mean loss in the last epoch; see `Training`."""
        objectives = (self.buffers["losses"].amin(1) / self.epoch).tolist()
        weights = [{name: w.cpu().numpy() for name, w in self._weights(i).items()} for i in range(len(self.seeds))]
        return list(zip(weights, objectives))

    def _weights(self, seed: int) -> dict[str, Tensor]:
        head = self.buffers["losses"][seed].argmin()
        chosen = [parameter[seed, head] for parameter in self.teachers]
        return dict(zip(WEIGHTS, [*chosen[:4], last_weight(*chosen[4:])]))

    def _draw_pairs(self, epoch: int) -> Tensor:
        """Draw the row numbers of all images of an epoch, [steps, S, 2B]: images, then a neighbor of each."""
        images = orders(self.seeds, self.count, epoch)[:, : self.epoch * self.batch].to(self.device)
        columns = []
        for seed in self.seeds:
            generator = torch.Generator().manual_seed(derive_seed(seed, "partner", epoch))
            columns.append(torch.randint(self.neighbors.shape[1], images.shape[1:], generator=generator))
        partners = self.neighbors[images, torch.stack(columns).to(self.device)]
        steps = [part.unflatten(1, (self.epoch, self.batch)).transpose(0, 1) for part in (images, partners)]
        return torch.cat(steps, dim=-1)

    def _gradients(self, inputs: Tensor, frozen: bool) -> tuple[Tensor, Tensor]:
        """Write the students' gradients; return the teachers' mean probabilities [S, H, K] and the losses [S, H]."""
        options, network = self.options, self.network
        with torch.no_grad():
            weights = network.cast(self.teachers)
            teacher = torch.cat([network.forward(weights, part, inputs) for part in network.slices], dim=1)
            weight = pair_weights(teacher, options.temperature)
            means = (teacher / options.temperature).softmax(2).mean(-1)
        weights = network.cast([parameter.detach() for parameter in self.students])
        losses, gradients = [], []
        for part in network.slices:
            logits = network.forward(weights, part, inputs).detach().requires_grad_()
            loss = weighted_loss(
                logits, teacher[:, part], self.buffers["prior"][:, part], weight, options.beta, options.temperature
            )
            losses.append(loss.detach())
            (gradient,) = torch.autograd.grad(loss.sum(), logits)
            gradients.append(network.backward(weights, part, inputs, gradient / options.heads))
        *inner, third = (torch.cat(slices, dim=1).float() for slices in zip(*gradients))
        for parameter, gradient in zip(self.students, inner):
            parameter.grad = gradient
        direction, gain = self.students[4:]
        last = (None, None) if frozen else torch.autograd.grad(last_weight(direction, gain), (direction, gain), third)
        direction.grad, gain.grad = last
        return means, torch.cat(losses, dim=1)

    def _learning_rate(self, step: int) -> float:
        highest = self.options.learning_rate * self.batch / 256
        warmup = self.options.warmup_epochs * self.epoch
        return highest * min(1.0, (step + 1) / warmup) if warmup else highest


def batches(count: int, options: Options) -> tuple[int, int]:
    """Return the images per step and the steps per epoch."""
    batch = min(options.batch_size, count)
    return batch, count // batch


def fit(data: TrainingData, k: int, seeds: Sequence[int], options: Options, progress: Progress) -> Iterator[SeedResult]:
    """Run TEMI for every seed; see `deepclust.heads.kit.head.Head`.

    The objective is the mean training loss of the best head in the last epoch. The weights are those of its teacher and
    those of the normalisation.

    Raises:
        DeepclustError: there are fewer images than clusters, images have no neighbors, or features are not finite.
    """
    check_enough(data.count, k)
    assert data.neighbors is not None
    if not data.neighbors[0].shape[1]:
        raise DeepclustError("temi learns from pairs of neighbors, and these images have none: give more images")
    device = choose_device()
    features, normalization = fit_normalization(data.features, options)
    rows = Rows(features, device)
    del features
    neighbors = torch.from_numpy(data.neighbors[0][:, : options.neighbors].astype(np.int64)).to(device)

    def start(stack: Sequence[int]) -> TemiTraining:
        return TemiTraining(rows, neighbors, stack, k, options)

    _, epoch = batches(data.count, options)
    plan = Schedule(options.epochs * epoch, epoch, k, with_centering(ADVICE, options))
    for result in train(start, seeds, plan, device, data.scratch, progress):
        result.weights.update({} if result.failure else normalization)
        yield result


def predict(weights: Weights, features: list[Features], options: Options) -> Prediction:
    """Assign images to the most probable clusters; see `deepclust.heads.kit.head.Head`."""
    device = choose_device()
    tensors = {name: torch.from_numpy(np.array(weights[name])).to(device) for name in WEIGHTS}
    count = len(features[0])
    probabilities = np.empty((count, len(weights["third"])), np.float16)
    assignments = np.empty(count, np.int32)
    for block, rows in normalized_blocks(features, options, weights):
        found = _probabilities(tensors, torch.from_numpy(rows).to(device), options.temperature).cpu().numpy()
        assignments[block] = found.argmax(1)
        probabilities[block] = found
    return Prediction(assignments, probabilities)


@torch.no_grad()
def _probabilities(weights: dict[str, Tensor], features: Tensor, temperature: float) -> Tensor:
    """Return the probabilities by one head, in float32: [n, D] → [n, K]."""
    functional = torch.nn.functional
    hidden = functional.gelu(functional.linear(features.float(), weights["first"], weights["first_bias"]))
    out = functional.linear(hidden, weights["second"], weights["second_bias"])
    return (functional.linear(functional.normalize(out, dim=1), weights["third"]) / temperature).softmax(1)
