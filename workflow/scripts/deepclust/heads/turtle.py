"""TURTLE: the clustering that linear classifiers in every feature space learn best.

Gadetsky, Jiang, Brbic 2024, "Let Go of Your Labels with Unsupervised Transfer" (ICML), arXiv 2406.07236. A task
encoder per feature space gives soft labels. Classifiers are trained from scratch on these labels in each step. The
labels then change so that the classifiers' loss falls, without the gradient through their training (first-order
hyper-gradient). Options are the published settings.

Departures: batches are consecutive parts of a random order of the images; the authors' code draws each by itself. The
generalization score, which chooses among seeds, is computed on at most `SCORED` images, the same for all, by logistic
regression of at most 100 iterations (theirs has 1000 on most datasets).
"""

import functools
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold
from torch import Tensor, nn

from deepclust.core.device import choose_device
from deepclust.core.progress import Progress
from deepclust.core.rows import blocks
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
from deepclust.heads.kit.normalization import apply_normalization, fit_normalization
from deepclust.heads.kit.stacked import Rows, draw, orders
from deepclust.heads.kit.training import Schedule, Training, train

FACTS = HeadFacts(needs_neighbors=False, max_backbones=None)

LOGGED = 100  # steps between two entries of the log
SCORED = 10_000  # images of the generalization score
FOLDS = 10
BETAS, EPSILON = (0.9, 0.999), 1e-8  # Adam's defaults
SMALLEST = 1e-12  # smaller mean labels are raised to it before their logarithm


class Options(HeadOptions):
    """Options of TURTLE."""

    steps: int = Field(6000, ge=1)
    """Number of steps of the task encoders."""
    batch_size: int = Field(10_000, ge=1)
    """Images per step; all if there are fewer."""
    gamma: float = Field(10.0, ge=0)
    """Weight of the entropy of the mean label, which keeps clusters from running empty."""
    learning_rate: float = Field(1e-3, gt=0)
    """Learning rate of Adam for the task encoders."""
    inner_steps: int = Field(10, ge=1)
    """Number of steps in which classifiers are trained from scratch, at each step of the task encoders."""
    inner_learning_rate: float = Field(1e-3, gt=0)
    """Learning rate of Adam for the classifiers."""


def turtle_loss(tasks: list[Tensor], classifiers: list[Tensor], gamma: float) -> Tensor:
    """Return the loss of the task encoders (equation 9 of the paper, summed over feature spaces).

    It is the cross-entropy of the classifiers on the mean label of all spaces, less gamma times the entropy of each
    space's mean label over the batch.

    Args:
        tasks, classifiers: logits [S, K, B] of every space.

    Returns:
        [S].
    """
    labels = [task.softmax(1) for task in tasks]
    label = mean_label(labels)
    entropies = [-(mean * mean.clamp_min(SMALLEST).log()).sum(1) for mean in (own.mean(2) for own in labels)]
    errors = [-(label * classifier.log_softmax(1)).sum(1).mean(1) for classifier in classifiers]
    return torch.stack(errors).sum(0) - gamma * torch.stack(entropies).sum(0)


def mean_label(labels: list[Tensor]) -> Tensor:
    """Return the mean of the soft labels of several spaces."""
    return labels[0] if len(labels) == 1 else torch.stack(labels).mean(0)


def linear(parameters: Tensor, inputs: Tensor) -> Tensor:
    """Return the float32 logits [S, K, B] of linear classifiers [S, K, D + 1], the bias last, for inputs [S, D, B]."""
    weight, bias = parameters[..., :-1], parameters[..., -1:]
    return torch.bmm(weight.to(inputs.dtype), inputs).float() + bias


def linear_gradient(gradient: Tensor, inputs: Tensor) -> Tensor:
    """Return the gradient of the parameters of `linear`, from that of its logits."""
    weight = torch.bmm(gradient.to(inputs.dtype), inputs.mT).float()
    return torch.cat([weight, gradient.sum(2, keepdim=True)], dim=2)


def train_classifiers(start: Tensor, inputs: Tensor, label: Tensor, steps: int, learning_rate: float) -> Tensor:
    """Train classifiers by some steps of Adam on the cross-entropy with soft labels; return their parameters.

    Args:
        start: parameters at the beginning, [S, K, D + 1].
        inputs: [S, D, B].
        label: [S, K, B].
    """
    parameters = start.clone()
    first, second = torch.zeros_like(start), torch.zeros_like(start)
    for step in range(1, steps + 1):
        error = linear(parameters, inputs).softmax(1).sub_(label).div_(inputs.shape[2])
        gradient = linear_gradient(error, inputs)
        first.lerp_(gradient, 1 - BETAS[0])
        second.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
        scale = second.sqrt().div_(math.sqrt(1 - BETAS[1] ** step)).add_(EPSILON)
        parameters.addcdiv_(first, scale, value=-learning_rate / (1 - BETAS[0] ** step))
    return parameters


def _uniform(parameters: Tensor, generator: torch.Generator) -> None:
    """Draw weights and biases as `torch.nn.Linear` does."""
    bound = 1 / math.sqrt(parameters.shape[1] - 1)
    nn.init.uniform_(parameters, -bound, bound, generator=generator)


class TurtleTraining(Training):
    """Training of the task encoders of some seeds; classifiers live only within a step."""

    def __init__(self, spaces: list[Rows], seeds: Sequence[int], k: int, options: Options) -> None:
        self.spaces, self.seeds, self.k, self.options = spaces, seeds, k, options
        self.count = len(spaces[0].values)
        self.device = spaces[0].values.device
        self.batch = min(options.batch_size, self.count)
        starts = [self._draw(f"task {s}", space) for s, space in enumerate(spaces)]
        self.tasks = [start.requires_grad_() for start in starts]
        gains = [start.detach()[..., :-1].norm(dim=2, keepdim=True) for start in starts]
        self.gains = [gain.requires_grad_() for gain in gains]
        self.optimizers = [torch.optim.Adam([*self.tasks, *self.gains], lr=options.learning_rate, fused=True)]
        self.buffers: dict[str, Tensor] = {}
        self._orders = functools.lru_cache(1)(lambda epoch: orders(seeds, self.count, epoch).to(self.device))

    def step(self, step: int) -> Tensor:
        """Train one step; see `Training`."""
        epoch, position = divmod(step, self.count // self.batch)
        indices = self._orders(epoch)[:, position * self.batch : (position + 1) * self.batch]
        inputs = [space[indices] for space in self.spaces]
        encoders = self.encoders()
        tasks = [linear(e.detach(), x).requires_grad_() for e, x in zip(encoders, inputs)]
        with torch.no_grad():
            label = mean_label([task.softmax(1) for task in tasks])
            classifiers = [linear(self._classifiers(step, s, x, label), x) for s, x in enumerate(inputs)]
        losses = turtle_loss(tasks, classifiers, self.options.gamma)
        gradients = torch.autograd.grad(losses.sum(), tasks)
        parameters = [*self.tasks, *self.gains]
        into = [linear_gradient(gradient, x) for gradient, x in zip(gradients, inputs)]
        for parameter, gradient in zip(parameters, torch.autograd.grad(encoders, parameters, into)):
            parameter.grad = gradient
        self.optimizers[0].step()
        return losses.detach()

    def encoders(self) -> list[Tensor]:
        """Return the task encoders as parameters of `linear`: directions times gains, and biases."""
        return [
            torch.cat([gain * nn.functional.normalize(task[..., :-1], dim=2), task[..., -1:]], dim=2)
            for task, gain in zip(self.tasks, self.gains)
        ]

    def probabilities(self) -> Tensor:
        """Return the probabilities of the watched images; see `Training`."""
        indices = torch.from_numpy(watched(self.count)).to(self.device).expand(len(self.seeds), -1)
        with torch.no_grad():
            logits = [linear(e, space[indices]) for e, space in zip(self.encoders(), self.spaces)]
            return mean_label([own.softmax(1) for own in logits]).mT

    def results(self) -> list[tuple[Weights, None]]:
        """Return the task encoders of every seed, without the objective, which `fit` computes; see `Training`."""
        encoders = [encoder.detach().cpu().numpy() for encoder in self.encoders()]
        return [
            ({f"{s}/encoder": encoder[i] for s, encoder in enumerate(encoders)}, None) for i in range(len(self.seeds))
        ]

    def _classifiers(self, step: int, space: int, inputs: Tensor, label: Tensor) -> Tensor:
        start = self._draw(f"classifier {space} {step}", self.spaces[space])
        return train_classifiers(start, inputs, label, self.options.inner_steps, self.options.inner_learning_rate)

    def _draw(self, purpose: str, space: Rows) -> Tensor:
        # The device itself draws, because this happens in every step and it would wait for the CPU.
        return draw(self.seeds, purpose, (self.k, space.values.shape[1] + 1), _uniform, self.device)


def generalization_score(spaces: list[Features], labels: npt.NDArray[np.int32]) -> float:
    """Return the accuracy of logistic regression on the labels in 10-fold cross-validation, mean over feature spaces.

    Args:
        spaces: float32 [N, D_b] for every space.
        labels: [N], N at least 2.
    """
    generator = np.random.default_rng(derive_seed("generalization"))  # the same images for all seeds
    chosen = np.sort(generator.permutation(len(labels))[:SCORED])
    folds = KFold(min(FOLDS, len(chosen)), shuffle=True, random_state=0)
    return float(
        np.mean([_fold_accuracy(space[chosen], labels[chosen], *f) for space in spaces for f in folds.split(chosen)])
    )


def _fold_accuracy(
    space: Features, labels: npt.NDArray[np.int32], train: npt.NDArray[np.int64], test: npt.NDArray[np.int64]
) -> float:
    if len(set(labels[train])) == 1:
        return float(np.mean(labels[test] == labels[train][0]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # unfinished fits compare as well
        classifier = LogisticRegression(max_iter=100).fit(space[train], labels[train])
    return float(classifier.score(space[test], labels[test]))


def fit(data: TrainingData, k: int, seeds: Sequence[int], options: Options, progress: Progress) -> Iterator[SeedResult]:
    """Run TURTLE for every seed; see `deepclust.heads.kit.head.Head`.

    The objective is 1 - the generalization score. The weights are a task encoder per feature space, [K, D_b + 1] with
    the bias last, and those of the normalisation of each space.

    Raises:
        DeepclustError: there are fewer images than clusters, or features are not finite.
    """
    check_enough(data.count, k)
    device = choose_device()
    normalized: list[Features] = []
    normalization: Weights = {}
    for s, features in enumerate(data.features):
        space, weights = fit_normalization([features], options)
        normalized.append(space)
        normalization |= {f"{s}/{name}": array for name, array in weights.items()}
    spaces = [Rows(space, device) for space in normalized]

    def start(stack: Sequence[int]) -> TurtleTraining:
        return TurtleTraining(spaces, stack, k, options)

    plan = Schedule(options.steps, LOGGED, k, with_centering("raise gamma", options))
    for result in train(start, seeds, plan, device, data.scratch, progress):
        if result.failure is not None:
            yield result
            continue
        result.weights.update(normalization)
        labels = predict(result.weights, data.features, options).assignments
        score = generalization_score(normalized, labels) if k > 1 else 1.0
        yield replace(result, objective=1 - score)


def predict(weights: Weights, features: list[Features], options: Options) -> Prediction:
    """Assign images to the most probable clusters; see `deepclust.heads.kit.head.Head`."""
    device = choose_device()
    names = [f"{s}/encoder" for s in range(len(features))]
    encoders = [torch.from_numpy(np.array(weights[name])).to(device) for name in names]
    own = [
        {name.removeprefix(f"{s}/"): array for name, array in weights.items() if name.startswith(f"{s}/")}
        for s in range(len(features))
    ]
    count = len(features[0])
    probabilities = np.empty((count, len(encoders[0])), np.float16)
    assignments = np.empty(count, np.int32)
    for block in blocks(count):
        spaces = [apply_normalization([f[block]], options, w) for f, w in zip(features, own)]
        inputs = [torch.from_numpy(values).to(device).mT[None] for values in spaces]
        labels = [linear(encoder[None], x).softmax(1) for encoder, x in zip(encoders, inputs)]
        found = mean_label(labels)[0].mT.cpu().numpy()
        assignments[block] = found.argmax(1)
        probabilities[block] = found
    return Prediction(assignments, probabilities)
