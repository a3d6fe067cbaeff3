"""How fast TEMI trains, against the obvious implementation and the machine's bf16 matrix products.

Baseline: one module per head, a DataLoader over pairs, fp32 (the order of work of the authors' code, in own words).
Both take turns, some steps of the published settings each, on 50,000 features of 384 dimensions: those named on the
command line (an .npz with `x_train`), else random ones. CPU seconds are compared, because they hardly depend on what
else the machine does.
"""

import copy
import sys
from pathlib import Path

import numpy as np
import torch
from timing import Row, seconds
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "workflow" / "scripts"))

from deepclust.common.device import choose_device
from deepclust.heads import temi
from deepclust.heads.stacked import Rows, product_dtype

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

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(dimensions, 512), nn.GELU(), nn.Linear(512, 256))
        self.last = nn.utils.parametrizations.weight_norm(nn.Linear(256, K, bias=False))

    def forward(self, inputs):
        """Features [B, D] → logits [B, K]."""
        return self.last(nn.functional.normalize(self.layers(inputs), dim=1))


class Baseline:
    """TEMI in the obvious way."""

    def __init__(self, features, neighbors, device) -> None:
        self.device = device
        self.loader = torch.utils.data.DataLoader(
            Pairs(features, neighbors), OPTIONS.batch_size, shuffle=True, drop_last=True
        )
        self.students = nn.ModuleList(Head(features.shape[1]) for _ in range(OPTIONS.heads)).to(device)
        self.teachers = copy.deepcopy(self.students).requires_grad_(False)
        self.priors = [torch.full((K,), 1 / K, device=device) for _ in range(OPTIONS.heads)]
        self.optimizer = torch.optim.AdamW(self.students.parameters(), lr=4e-4, weight_decay=1e-4)
        self.batches = iter(self.loader)

    def step(self) -> None:
        """One step on the next batch."""
        images, neighbors = (part.to(self.device) for part in next(self.batches))
        student = [(head(images) / 0.1, head(neighbors) / 0.1) for head in self.students]
        with torch.no_grad():
            teacher = [((h(images) / 0.1).softmax(1), (h(neighbors) / 0.1).softmax(1)) for h in self.teachers]
            weight = torch.stack([(a * b).sum(1) for a, b in teacher]).mean(0)
        loss = 0.0
        for h in range(OPTIONS.heads):
            for own, other in ((0, 1), (1, 0)):
                joint = (student[h][own].softmax(1) * teacher[h][other]) ** OPTIONS.beta / self.priors[h]
                loss = loss - (weight * joint.sum(1).log()).mean() / 2 / OPTIONS.heads
            self.priors[h] = 0.9 * self.priors[h] + 0.1 * torch.cat(teacher[h]).mean(0)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            for own, other in zip(self.teachers.parameters(), self.students.parameters()):
                own.mul_(0.996).add_(other, alpha=0.004)


def matrix_rate(device) -> float:
    """Operations per second of a large matrix product in the precision that training uses."""
    size = 2048
    a, b, out = (torch.randn(size, size, device=device).to(product_dtype(device)) for _ in range(3))
    torch.mm(a, b, out=out)
    return 2 * size**3 / min(seconds(lambda: torch.mm(a, b, out=out), device) for _ in range(10))


def operations(dimensions: int) -> int:
    """Of the matrix products of one step: two for every image and parameter in each direction, see the comments."""
    first, second, third = dimensions * 512, 512 * 256, 256 * K
    student = 2 * first + 3 * (second + third)  # nothing flows back into the features
    return 2 * 2 * OPTIONS.batch_size * OPTIONS.heads * (student + first + second + third)


def main() -> list[Row]:
    device = choose_device()
    random = np.random.default_rng(0)
    if len(sys.argv) > 1:
        features = np.load(sys.argv[1])["x_train"].astype(np.float32)
    else:
        features = random.normal(size=(50_000, 384)).astype(np.float32)
    features -= features.mean(0)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    neighbors = random.integers(0, len(features), (len(features), OPTIONS.neighbors))
    epoch = len(features) // OPTIONS.batch_size
    baseline = Baseline(features, neighbors, device)
    training = temi.TemiTraining(Rows(features, device), torch.from_numpy(neighbors).to(device), [0], K, OPTIONS)
    step = iter(range(epoch))
    times: tuple[list[float], list[float], list[float]] = ([], [], [])
    for _ in range(ROUNDS):
        times[0].append(seconds(lambda: [baseline.step() for _ in range(STEPS)], device) / STEPS)
        times[1].append(seconds(lambda: [training.step(next(step)) for _ in range(STEPS)], device) / STEPS)
        times[2].append(matrix_rate(device))
    before, now = min(times[0]) * epoch, min(times[1]) * epoch
    share = operations(features.shape[1]) * epoch / now / max(times[2])
    unit = "s" if device.type == "cuda" else "CPU s"
    return [
        Row("TEMI, one epoch, a module per head (baseline)", before, unit, None, 1.0),
        Row("TEMI, one epoch", now, unit, before / 3, before / now),
        Row("TEMI, share of the rate of bf16 matrix products", 100 * share, "%", None, None),
    ]


if __name__ == "__main__":
    print(*main(), sep="\n")
