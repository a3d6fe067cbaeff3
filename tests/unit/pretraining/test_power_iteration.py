"""Power iteration clustering against loops over images."""

import math

import pytest
import torch
from torch.nn import functional as F

from deepclust.pretraining.parts import power_iteration
from deepclust.pretraining.parts.power_iteration import nearest, power_iteration_clusters

CPU = torch.device("cpu")


def plain(rows, sigma, neighbors=5):
    """The steps of the authors' code (which adds 0.999 of the start to 0.001 of what flows), image by image."""
    count = len(rows)
    squared = [[float((a - b).square().sum()) for b in rows] for a in rows]
    near = [sorted((j for j in range(count) if j != i), key=lambda j: squared[i][j])[:neighbors] for i in range(count)]
    weights = [[0.0] * count for _ in range(count)]
    for i in range(count):
        for j in near[i]:
            weight = math.exp(-squared[i][j] / sigma**2)
            weights[i][j] += weight
            weights[j][i] += weight
    values = [1 / count] * count
    for _ in range(200):
        flowed = [sum(weights[i][j] * values[i] for i in range(count)) for j in range(count)]
        mixed = [0.001 * value + 0.999 / count for value in flowed]
        values = [value / sum(mixed) for value in mixed]
    leads = []
    for i in range(count):
        rises = [weights[i][j] * (values[j] - values[i]) for j in range(count)]
        best = max(range(count), key=lambda j: rises[j])
        leads.append(best if rises[best] > 0 else i)
    summits = []
    for i in range(count):
        while leads[i] != i:
            i = leads[i]
        summits.append(i)
    for i in range(count):
        if summits.count(summits[i]) == 1:
            others = [j for j in near[i] if summits.count(summits[j]) > 1]
            if others:
                summits[i] = summits[others[0]]
    return summits


def partition(labels):
    groups = {}
    for place, label in enumerate(labels):
        groups.setdefault(label, set()).add(place)
    return {frozenset(group) for group in groups.values()}


def some_rows(count=60):
    generator = torch.Generator().manual_seed(3)
    centers = torch.randn(6, 4, generator=generator)
    chosen = torch.randint(6, (count,), generator=generator)
    return F.normalize(centers[chosen] + 0.3 * torch.randn(count, 4, generator=generator), dim=1).double()


@pytest.mark.parametrize("sigma", [0.2, 0.6])
def test_clusters_are_those_of_the_plain_steps(monkeypatch, sigma):
    monkeypatch.setattr(power_iteration, "SIGMA", sigma)
    rows = some_rows()
    labels = power_iteration_clusters(rows, 60, CPU)
    assert partition(labels.tolist()) == partition(plain(rows, sigma))
    sizes = labels.bincount()
    assert (sizes.diff() <= 0).all() and len(sizes) > 1


def test_only_the_largest_are_kept():
    rows = some_rows()
    every = power_iteration_clusters(rows, 60, CPU)
    some = power_iteration_clusters(rows, 2, CPU)
    assert torch.equal(some, torch.where(every < 2, every, -1))


def test_neighbors_are_exact_in_blocks(monkeypatch):
    rows = some_rows()
    monkeypatch.setitem(nearest.__globals__["SCORES"], "cpu", 7 * 60)
    found, squared = nearest(rows, 5, CPU)
    distances = torch.cdist(rows, rows) + torch.eye(60) * 9
    assert torch.allclose(squared.double(), distances.topk(5, largest=False).values.square(), atol=1e-5)
    assert torch.equal(found, distances.topk(5, largest=False).indices)
