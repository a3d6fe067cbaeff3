"""How fast TURTLE trains, against the obvious implementation.

Baseline: torch modules, autograd, fp32, new classifiers and a new optimizer in every step. Both take turns, some steps
of the published settings each, on 50,000 features of 384 dimensions: those named on the command line (an .npz with
`x_train`), else random ones. CPU seconds are compared, because they depend less on what else the machine does.
"""

import sys

import numpy as np
import torch
from timing import Row, seconds
from torch import nn
from torch.nn.functional import cross_entropy

from deepclust.common.device import choose_device
from deepclust.heads import turtle
from deepclust.heads.stacked import Rows

K, STEPS, ROUNDS = 10, 4, 6
OPTIONS = turtle.Options()


class Baseline:
    """TURTLE in the obvious way, on one feature space."""

    def __init__(self, features, device) -> None:
        self.features = torch.from_numpy(features).to(device)
        self.task = nn.utils.parametrizations.weight_norm(nn.Linear(features.shape[1], K)).to(device)
        self.optimizer = torch.optim.Adam(self.task.parameters(), lr=1e-3)

    def step(self) -> None:
        """One step on a random batch."""
        batch = self.features[torch.randperm(len(self.features))[: OPTIONS.batch_size].to(self.features.device)]
        label = self.task(batch).softmax(1)
        classifier = nn.Linear(batch.shape[1], K, device=batch.device)
        inner = torch.optim.Adam(classifier.parameters(), lr=1e-3)
        for _ in range(OPTIONS.inner_steps):
            inner.zero_grad()
            cross_entropy(classifier(batch), label.detach()).backward()
            inner.step()
        mean = label.mean(0)
        loss = cross_entropy(classifier(batch).detach(), label) + OPTIONS.gamma * (mean * mean.log()).sum()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def main() -> list[Row]:
    device = choose_device()
    if len(sys.argv) > 1:
        features = np.load(sys.argv[1])["x_train"].astype(np.float32)
    else:
        features = np.random.default_rng(0).normal(size=(50_000, 384)).astype(np.float32)
    baseline = Baseline(features, device)
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


if __name__ == "__main__":
    print(*main(), sep="\n")
