"""Speed and accuracy of training TURTLE, against the obvious implementation.

    python lab/heads_turtle.py [FEATURES]
    python lab/heads_turtle.py FEATURES --accuracy [--seeds 0 1 2 3 4] [--steps 6000]

FEATURES are .npz files with x_train, x_test, y_train and y_test; without, random ones are timed. Baseline: torch
modules, autograd, fp32, new classifiers and a new optimizer in every step, with the options of ours.

Times: both take turns, some steps of the published settings each. CPU seconds are compared, because they depend less on
what else the machine does. Accuracy: both are trained to the end, or for `--steps`.
"""

import numpy as np
import torch
from heads_accuracy import Request, clusters, compare, parse
from heads_on_features import fit, read
from timing import Row, seconds
from torch import nn
from torch.nn.functional import cross_entropy

from deepclust.core.device import choose_device
from deepclust.heads import turtle
from deepclust.heads.kit.stacked import Rows

K, STEPS, ROUNDS = 10, 4, 6
OPTIONS = turtle.Options()


class Baseline:
    """TURTLE in the obvious way, on one feature space."""

    def __init__(self, features, k: int, device, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.k, self.features = k, features.to(device)
        self.task = nn.utils.parametrizations.weight_norm(nn.Linear(features.shape[1], k)).to(device)
        self.optimizer = torch.optim.Adam(self.task.parameters(), lr=OPTIONS.learning_rate)

    def step(self) -> None:
        """One step on a random batch."""
        batch = self.features[torch.randperm(len(self.features))[: OPTIONS.batch_size].to(self.features.device)]
        label = self.task(batch).softmax(1)
        classifier = nn.Linear(batch.shape[1], self.k, device=batch.device)
        inner = torch.optim.Adam(classifier.parameters(), lr=OPTIONS.inner_learning_rate)
        for _ in range(OPTIONS.inner_steps):
            inner.zero_grad()
            cross_entropy(classifier(batch), label.detach()).backward()
            inner.step()
        mean = label.mean(0)
        loss = cross_entropy(classifier(batch).detach(), label) + OPTIONS.gamma * (mean * mean.log()).sum()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    @torch.no_grad()
    def predict(self, features) -> np.ndarray:
        """Clusters [N]."""
        return self.task(features.to(self.features.device)).argmax(1).cpu().numpy()


def times(source: str | None) -> list[Row]:
    """Seconds of a training of either side."""
    device = choose_device()
    features = np.random.default_rng(0).normal(size=(50_000, 384)) if source is None else read(source).train
    features = features.astype(np.float32)
    baseline = Baseline(torch.from_numpy(features), K, device)
    training = turtle.TurtleTraining([Rows(features, device)], [0], K, OPTIONS)
    step = iter(range(STEPS * ROUNDS))
    before, now = [], []
    for _ in range(ROUNDS):
        before.append(seconds(lambda: [baseline.step() for _ in range(STEPS)], device) / STEPS)
        now.append(seconds(lambda: [training.step(next(step)) for _ in range(STEPS)], device) / STEPS)
    first, second = min(before) * OPTIONS.steps, min(now) * OPTIONS.steps
    unit = "s" if device.type == "cuda" else "CPU s"
    return [
        Row("TURTLE, 6000 steps, modules and autograd (baseline)", first, unit, None, 1.0),
        Row("TURTLE, 6000 steps", second, unit, first / 2, first / second),
    ]


def accuracies(request: Request) -> list[Row]:
    """Accuracy of both sides."""
    assert request.source is not None
    data, device = read(request.source), choose_device()
    train, test = (torch.from_numpy(split.astype(np.float32)) for split in (data.train, data.test))

    def plain(seed: int) -> np.ndarray:
        baseline = Baseline(train, data.k, device, seed)
        for _ in range(request.length):
            baseline.step()
        return baseline.predict(test)

    def ours(seed: int) -> np.ndarray:
        neighbors = np.empty((len(data.train), 0), np.int32)  # of which it needs none
        return clusters(fit("turtle", seed, data, neighbors, steps=request.length, batch_size=OPTIONS.batch_size))

    return compare(f"TURTLE, {request.length} steps", data, request.seeds, plain, ours)


def main() -> list[Row]:
    request = parse(__doc__, "steps", OPTIONS.steps)
    return accuracies(request) if request.accuracy else times(request.source)


if __name__ == "__main__":
    print(*main(), sep="\n")
