"""Lloyd's iterations of many starts at once, against one start at a time in plain numpy."""

import numpy as np
import pytest
import torch

from deepclust.heads.kit import lloyd
from deepclust.heads.kit.lloyd import Points, assign, iterate, polish
from deepclust.heads.kit.plusplus import exact_sums, plus_plus


def blobs(count=400, dimension=6, centers=7, seed=0):
    generator = np.random.default_rng(seed)
    middle = generator.normal(0, 3, (centers, dimension))
    return (middle[np.arange(count) % centers] + generator.normal(size=(count, dimension))).astype(np.float32)


def plain_lloyd(rows, centroids, iterations, spherical):
    """Centroids and objective after so many iterations, in float64."""
    rows, centroids = rows.astype(np.float64), centroids.astype(np.float64)
    for _ in range(iterations):
        labels = ((rows[:, None] - centroids) ** 2).sum(2).argmin(1)
        centroids = np.stack([rows[labels == c].mean(0) for c in range(len(centroids))])
        if spherical:
            centroids /= np.linalg.norm(centroids, axis=1, keepdims=True)
    return centroids, ((rows - centroids[labels]) ** 2).sum()


@pytest.mark.parametrize("spherical", [False, True])
@pytest.mark.parametrize("iterations", [1, 2, 5])
def test_equals_plain_iterations_of_each_start(spherical, iterations, monkeypatch):
    monkeypatch.setattr(lloyd, "ROWS", 64)  # several blocks
    monkeypatch.setitem(lloyd.SCORES, "cpu", 100)
    rows = blobs()
    if spherical:
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    generator = np.random.default_rng(1)
    starts = np.stack([rows[generator.choice(len(rows), 5, replace=False)] for _ in range(3)])
    results = iterate(Points(torch.from_numpy(rows), spherical), torch.from_numpy(starts), 0, iterations, coarse=False)
    for start, result in zip(starts, results):
        centroids, objective = plain_lloyd(rows, start, iterations, spherical)
        np.testing.assert_allclose(result.centroids.numpy(), centroids, atol=1e-4)
        assert result.objective == pytest.approx(objective, rel=1e-5)
        assert result.iterations <= iterations
        assert result.clusters == 5


def test_starts_do_not_wait_for_each_other():
    """One start is at its end already, the other is far from it."""
    rows = blobs()
    points = Points(torch.from_numpy(rows), spherical=False)
    far = torch.from_numpy(rows[:7] * 0.01)
    [settled] = iterate(points, far[None], 0, 100, coarse=False)
    ended = []
    results = iterate(
        points, torch.stack([settled.centroids, far]), 0, 100, coarse=False, ended=lambda: ended.append(1)
    )
    assert results[0].iterations == 2
    assert results[1].iterations == settled.iterations > 2
    assert results[1].objective == pytest.approx(settled.objective)
    assert len(ended) == 2


def test_an_empty_cluster_gets_the_farthest_point():
    rows = np.float32([[0, 0], [0, 1], [1, 0], [9, 9], [1, 1]])
    starts = torch.tensor([[[0.5, 0.5], [1000.0, 0], [0, 1000.0]]])
    [result] = iterate(Points(torch.from_numpy(rows), spherical=False), starts, 0, 50, coarse=False)
    assert result.clusters == 3
    assert [9.0, 9.0] in result.centroids.tolist()


def test_clusters_without_points_keep_their_centroids():
    starts = torch.tensor([[[0.0, 0.0], [5.0, 5.0]]])
    rows = torch.ones(20, 2)
    [result] = iterate(Points(rows, spherical=False), starts, 0, 50, coarse=False)
    assert result.clusters == 1
    assert result.objective == pytest.approx(0)
    assert [5.0, 5.0] in result.centroids.tolist()


def test_coarse_products_lead_nearly_as_far():
    rows = torch.from_numpy(blobs(2000, 32, 10))
    points = Points(rows - rows.mean(0), spherical=False)
    points.__dict__["coarse"] = points.rows.bfloat16()  # also where the hardware is slow at it
    starts = plus_plus(points.rows, 10, [np.random.default_rng(seed) for seed in range(3)])
    coarse = iterate(points, starts, 1e-4, 100, coarse=True)
    fine = iterate(points, starts, 1e-4, 100, coarse=False)
    assert min(c.objective for c in coarse) == pytest.approx(min(f.objective for f in fine), rel=1e-3)
    [polished] = polish(points, coarse[0].centroids[None], 1e-6, 100)
    assert polished.objective <= coarse[0].objective * (1 + 1e-6)
    labels = assign(points, polished.centroids[None], coarse=False)[:, 0]
    exact = torch.cdist(points.rows.double(), polished.centroids.double())
    np.testing.assert_array_equal(labels, exact.argmin(1))
    assert polished.objective == pytest.approx(exact.min(1).values.square().sum().item(), rel=1e-5)


def test_plus_plus_chooses_different_points_and_a_restart_does_not_depend_on_others():
    rows = torch.from_numpy(np.repeat(blobs(30), 4, axis=0))  # every point four times
    generators = [np.random.default_rng(seed) for seed in range(4)]
    together = plus_plus(rows, 20, generators)
    assert together.shape == (4, 20, 6)
    for seed, chosen in enumerate(together):
        assert len(chosen.unique(dim=0)) == 20
        np.testing.assert_array_equal(plus_plus(rows, 20, [np.random.default_rng(seed)])[0], chosen)


def test_plus_plus_finds_every_group():
    generator = np.random.default_rng(0)
    centers = generator.normal(size=(12, 5)) * 100
    rows = torch.from_numpy((centers[np.arange(600) % 12] + generator.normal(size=(600, 5))).astype(np.float32))
    for chosen in plus_plus(rows, 12, [np.random.default_rng(seed) for seed in range(10)]).numpy():
        nearest = ((chosen[:, None] - centers) ** 2).sum(2).argmin(1)
        assert len(set(nearest.tolist())) >= 11


def test_sums_of_integers_are_those_of_the_distances_and_do_not_depend_on_their_order():
    distances = torch.rand(3, 5000, generator=torch.Generator().manual_seed(0)) ** 8
    distances[1] = 0
    found = exact_sums(distances)
    expected = distances.double().cumsum(1) / distances.amax(1, keepdim=True).double().clamp_min(1e-30) * 2**40
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=5000)
    assert torch.equal(exact_sums(distances.flip(1))[:, -1], found[:, -1])
