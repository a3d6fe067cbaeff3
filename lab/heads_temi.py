"""Speed and accuracy of training TEMI, against the obvious implementation and the machine's bf16 matrix products.

    python lab/heads_temi.py [FEATURES]
    python lab/heads_temi.py FEATURES --accuracy [--seeds 0 1 2 3 4] [--epochs 100]

FEATURES are .npz files with x_train, x_test, y_train and y_test; without, random ones are timed. Baseline: one module
per head, a DataLoader over pairs, fp32 (the order of work of the authors' code, in own words), with the options, the
schedule and the choice of a head of ours.

Times: both take turns, some steps of the published settings each. CPU seconds are compared, because they hardly depend
on what else the machine does. Neighbors are random there, which costs the same.

Accuracy: both are trained to the end on the true neighbors. `--epochs` shortens that, and the warm-up with it.
"""

import copy
import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from heads_accuracy import Request, clusters, compare, parse
from heads_on_features import find_neighbors, fit, read
from timing import Row, seconds
from torch import nn

from deepclust.core.device import choose_device
from deepclust.heads import temi
from deepclust.heads.kit import monitors
from deepclust.heads.kit.stacked import Rows, product_dtype

K, STEPS, ROUNDS = 10, 3, 4
OPTIONS = temi.Options()


class Pairs(torch.utils.data.Dataset):
    """An image's features and those of a random neighbor."""

    def __init__(self, features, neighbors) -> None:
        self.features, self.neighbors = features, neighbors

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, index: int):
        partner = self.neighbors[index, torch.randint(self.neighbors.shape[1], ()).item()]
        return self.features[index], self.features[partner]


class Head(nn.Module):
    """One head."""

    def __init__(self, dimensions: int, k: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(dimensions, 512), nn.GELU(), nn.Linear(512, 256))
        last = nn.Linear(256, k, bias=False)
        for layer in (self.layers[0], self.layers[2]):
            nn.init.trunc_normal_(layer.weight, std=0.02)
        nn.init.zeros_(self.layers[0].bias)
        nn.init.zeros_(self.layers[2].bias)
        self.last = nn.utils.parametrizations.weight_norm(last)
        nn.init.ones_(self.last.parametrizations.weight.original0)

    def forward(self, inputs):
        """Features [B, D] → logits [B, K]."""
        return self.last(nn.functional.normalize(self.layers(inputs), dim=1))


class Baseline:
    """TEMI in the obvious way."""

    def __init__(self, features, neighbors, k: int, options: temi.Options, device, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.options, self.device = options, device
        batch = min(options.batch_size, len(features))
        self.loader = torch.utils.data.DataLoader(Pairs(features, neighbors), batch, shuffle=True, drop_last=True)
        self.epoch = len(self.loader)
        self.students = nn.ModuleList(Head(features.shape[1], k) for _ in range(options.heads)).to(device)
        self.teachers = copy.deepcopy(self.students).requires_grad_(False)
        self.priors = [torch.full((k,), 1 / k, device=device) for _ in range(options.heads)]
        self.losses = torch.zeros(options.heads, device=device)  # sum over this epoch
        named = list(self.students.named_parameters())
        groups = [
            {"params": [p for name, p in named if not name.endswith("bias")], "weight_decay": options.weight_decay},
            {"params": [p for name, p in named if name.endswith("bias")], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups)
        self.batches = self._endless()

    def _endless(self) -> Iterator:
        for _ in itertools.count():
            yield from self.loader

    def step(self, step: int) -> None:
        """One step on the next batch."""
        temperature, beta = self.options.temperature, self.options.beta
        if step % self.epoch == 0:
            self.losses.zero_()
        images, neighbors = (part.to(self.device) for part in next(self.batches))
        student = [(head(images) / temperature, head(neighbors) / temperature) for head in self.students]
        with torch.no_grad():
            teacher = [[(h(x) / temperature).softmax(1) for x in (images, neighbors)] for h in self.teachers]
            weight = torch.stack([(a * b).sum(1) for a, b in teacher]).mean(0)
        losses = []
        for h, prior in enumerate(self.priors):
            parts = []
            for own, other in ((0, 1), (1, 0)):
                joint = (student[h][own].softmax(1) * teacher[h][other]) ** beta / prior
                parts.append(-(weight * joint.sum(1).log()).mean())
            losses.append(sum(parts) / 2)
            kept = self.options.prior_momentum
            self.priors[h] = kept * prior + (1 - kept) * torch.cat(teacher[h]).mean(0)
        self.optimizer.zero_grad()
        torch.stack(losses).mean().backward()
        if step < self.options.frozen_epochs * self.epoch:
            for head in self.students:
                head.last.zero_grad()
        warmup = self.options.warmup_epochs * self.epoch
        highest = self.options.learning_rate * self.options.batch_size / 256
        for group in self.optimizer.param_groups:
            group["lr"] = highest * min(1.0, (step + 1) / warmup) if warmup else highest
        self.optimizer.step()
        with torch.no_grad():
            for own, other in zip(self.teachers.parameters(), self.students.parameters()):
                own.mul_(self.options.teacher_momentum).add_(other, alpha=1 - self.options.teacher_momentum)
            self.losses += torch.stack(losses)

    def train(self) -> None:
        """All epochs."""
        for step in range(self.options.epochs * self.epoch):
            self.step(step)

    @torch.no_grad()
    def predict(self, features) -> np.ndarray:
        """Clusters by the teacher with the lowest loss of the last epoch, [N]."""
        return self.teachers[int(self.losses.argmin())](features.to(self.device)).argmax(1).cpu().numpy()


def matrix_rate(device) -> float:
    """Operations per second of a large matrix product in the precision that training uses."""
    size = 2048
    a, b, out = (torch.randn(size, size, device=device).to(product_dtype(device)) for _ in range(3))
    torch.mm(a, b, out=out)
    return 2 * size**3 / min(seconds(lambda: torch.mm(a, b, out=out), device) for _ in range(10))


def operations(dimensions: int) -> int:
    """Return the operations of one step's matrix products: two per image, parameter and direction, see the comments."""
    first, second, third = dimensions * 512, 512 * 256, 256 * K
    student = 2 * first + 3 * (second + third)  # nothing flows back into the features
    return 2 * 2 * OPTIONS.batch_size * OPTIONS.heads * (student + first + second + third)


def times(source: str | None) -> list[Row]:
    """Seconds per epoch of both sides."""
    device = choose_device()
    random = np.random.default_rng(0)
    features = random.normal(size=(50_000, 384)) if source is None else read(source).train
    features = features.astype(np.float32)
    neighbors = random.integers(0, len(features), (len(features), OPTIONS.neighbors))
    epoch = len(features) // OPTIONS.batch_size
    baseline = Baseline(torch.from_numpy(features), neighbors, K, OPTIONS, device)
    training = temi.TemiTraining(Rows(features, device), torch.from_numpy(neighbors).to(device), [0], K, OPTIONS)
    before: list[float] = []
    now: list[float] = []
    rates: list[float] = []
    theirs, ours = iter(range(ROUNDS * STEPS)), iter(range(ROUNDS * STEPS))
    for _ in range(ROUNDS):
        before.append(seconds(lambda: [baseline.step(next(theirs)) for _ in range(STEPS)], device) / STEPS)
        now.append(seconds(lambda: [training.step(next(ours)) for _ in range(STEPS)], device) / STEPS)
        rates.append(matrix_rate(device))
    first, second = min(before) * epoch, min(now) * epoch
    share = operations(features.shape[1]) * epoch / second / max(rates)
    unit = "s" if device.type == "cuda" else "CPU s"
    return [
        Row("TEMI, one epoch, a module per head (baseline)", first, unit, None, 1.0),
        Row("TEMI, one epoch", second, unit, first / 3, first / second),
        Row("TEMI, share of the rate of bf16 matrix products", 100 * share, "%", None, None),
    ]


def accuracies(request: Request) -> list[Row]:
    """Accuracy of both sides."""
    assert request.source is not None
    monitors.CONFIDENT = -1.0  # the baseline refuses no probabilities that are nearly uniform, as after few epochs
    data, device = read(request.source), choose_device()
    with tempfile.TemporaryDirectory() as folder:
        neighbors = find_neighbors(data, "temi", Path(folder))
    warmup = round(OPTIONS.warmup_epochs * request.length / OPTIONS.epochs)
    changes = {"epochs": request.length, "warmup_epochs": warmup, "batch_size": min(OPTIONS.batch_size, len(neighbors))}
    options = OPTIONS.model_copy(update=changes)
    train, test = (torch.from_numpy(split.astype(np.float32)) for split in (data.train, data.test))

    def plain(seed: int) -> np.ndarray:
        baseline = Baseline(train, neighbors, data.k, options, device, seed)
        baseline.train()
        return baseline.predict(test)

    def ours(seed: int) -> np.ndarray:
        return clusters(fit("temi", seed, data, neighbors, **changes))

    return compare(f"TEMI, {request.length} epochs", data, request.seeds, plain, ours)


def main() -> list[Row]:
    request = parse(__doc__, "epochs", OPTIONS.epochs)
    return accuracies(request) if request.accuracy else times(request.source)


if __name__ == "__main__":
    print(*main(), sep="\n")
