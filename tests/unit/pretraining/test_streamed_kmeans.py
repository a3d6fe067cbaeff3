import numpy as np
import pytest
import torch
from torch.nn import functional as F

from deepclust.pretraining.parts.streamed_kmeans import _blocks, assign, iterate, kmeans, split_large

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def rows():
    """5000 unit vectors around 60 centres, as float16."""
    generator = torch.Generator().manual_seed(0)
    centers = torch.randn(60, 32, generator=generator)
    chosen = torch.randint(60, (5000,), generator=generator)
    return F.normalize(centers[chosen] + 0.7 * torch.randn(5000, 32, generator=generator), dim=1).half()


def faiss_objective(rows, k, start=None):
    import faiss

    values = rows.float().numpy()
    clustering = faiss.Kmeans(rows.shape[1], k, niter=20, max_points_per_centroid=10**6, seed=3)
    clustering.train(values, init_centroids=start)
    return clustering.index.search(values, 1)[0].sum()


@pytest.mark.parametrize("backend", ["torch", "faiss"])
def test_as_good_as_faiss(rows, backend):
    found = kmeans(rows, 100, 20, 1, CPU, backend=backend)
    start = rows[torch.randperm(5000, generator=torch.Generator().manual_seed(1))[:100].sort().values].float().numpy()
    assert found.objective == pytest.approx(faiss_objective(rows, 100, start), rel=0.005)
    distances = torch.cdist(rows.double(), found.centroids.double())
    assert found.objective == pytest.approx(distances.min(1).values.square().sum().item(), rel=1e-4)
    nearest = distances.gather(1, found.labels.long()[:, None]).squeeze(1)
    assert torch.allclose(nearest, distances.min(1).values, atol=1e-4)


@pytest.mark.parametrize("backend", ["torch", "faiss"])
def test_rows_in_a_file_give_the_same(rows, tmp_path, backend):
    np.save(tmp_path / "rows.npy", rows.numpy())
    mapped = torch.from_numpy(np.load(tmp_path / "rows.npy", mmap_mode="r+"))
    kept, read = (kmeans(values, 20, 5, 1, CPU, backend=backend) for values in (rows, mapped))
    assert torch.equal(kept.labels, read.labels) and torch.equal(kept.centroids, read.centroids)


def test_scores_are_held_for_a_block_only(rows, monkeypatch):
    whole = iterate(rows, rows[:50].float(), 3, 0, CPU)
    monkeypatch.setitem(iterate.__globals__["SCORES"], "cpu", 256 * 50)
    sizes = [len(block) for block in _blocks(rows, 50, CPU)]
    assert max(sizes) == 256 and sum(sizes) == 5000
    assert torch.allclose(iterate(rows, rows[:50].float(), 3, 0, CPU), whole, atol=1e-3)


def test_an_empty_cluster_gets_half_of_another_one():
    centroids = torch.tensor([[1.0, 0.0], [0.0, 1.0], [5.0, 5.0]])
    counts = torch.tensor([90, 1, 0])
    split = split_large(centroids, counts, torch.Generator().manual_seed(0))
    assert torch.equal(split[1], centroids[1])
    assert torch.allclose(split[2], centroids[0], atol=0.01) and torch.allclose(split[0], centroids[0], atol=0.01)
    assert not torch.equal(split[0], split[2])
    assert torch.equal(split_large(centroids, torch.tensor([3, 2, 1]), torch.Generator()), centroids)


def test_starting_from_equal_rows_still_fills_clusters():
    rows = torch.cat([torch.zeros(50, 2) + torch.tensor([1.0, 0.0]), F.normalize(torch.randn(50, 2), dim=1)])
    start = torch.tensor([[1.0, 0.0]]).repeat(8, 1)
    centroids = iterate(rows, start, 15, 0, CPU)
    labels, _ = assign(rows, centroids, CPU)
    assert len(labels.unique()) >= 6


def test_spherical_centroids_have_length_one_and_empty_ones_stay():
    rows = F.normalize(torch.tensor([[1.0, 0.1], [1.0, -0.1], [-0.1, 1.0]]), dim=1)
    start = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    centroids = iterate(rows, start, 4, 0, CPU, spherical=True)
    assert torch.allclose(centroids.norm(dim=1), torch.ones(3), atol=1e-6)
    assert torch.equal(centroids[2], start[2])
    assert torch.allclose(centroids[0], torch.tensor([1.0, 0.0]), atol=1e-6)
