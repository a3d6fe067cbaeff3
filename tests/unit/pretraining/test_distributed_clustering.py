"""Several processes cluster what one would have: each its part of the rows."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from deepclust.pretraining import deepcluster, deepcluster_v2
from deepclust.pretraining.engine.distributed import ALONE, team_of_environment
from deepclust.pretraining.engine.method import Epoch, ImageFacts
from deepclust.pretraining.parts import whitening
from deepclust.pretraining.parts.streamed_kmeans import kmeans
from deepclust.pretraining.parts.whitening import fit_whitening, whitened_features

CPU = torch.device("cpu")
COUNT = 1501
FLIPPED = 0.002  # share of rows between two centroids, which rounding may assign to either


def groups(dimension=12, seed=0):
    """Features around 30 centres."""
    generator = torch.Generator().manual_seed(seed)
    centers = 3 * torch.randn(30, dimension, generator=generator)
    chosen = torch.randint(30, (COUNT,), generator=generator)
    return centers[chosen] + torch.randn(COUNT, dimension, generator=generator) + 2


def share_k_means(backend, spherical):
    """Of rows of which half are the same, so that clusters without rows come up."""
    rows = F.normalize(groups(), dim=1).half()
    rows[::2] = rows[0]
    expected = kmeans(rows, 40, 6, 1, CPU, spherical=spherical, backend=backend)
    with team_of_environment(CPU) as team:
        own = rows[slice(*team.bounds(COUNT))]
        found = kmeans(own, 40, 6, 1, CPU, spherical=spherical, backend=backend, team=team)
        assert (found.labels != expected.labels).float().mean() <= FLIPPED
        assert found.objective == pytest.approx(expected.objective, rel=1e-4)
        torch.testing.assert_close(found.centroids, expected.centroids, rtol=0, atol=1e-3)
        everyones = team.all_gather((found.centroids[None],), team.count)[0]
        assert (everyones == found.centroids).all()
        team.barrier()


@pytest.mark.parametrize(("backend", "spherical"), [("torch", False), ("torch", True), ("faiss", False)])
def test_k_means(teams, tmp_path, backend, spherical):
    teams.call(3, tmp_path / "log", share_k_means, backend, spherical)


def share_whitening():
    features = groups()
    with team_of_environment(CPU) as team:
        own = slice(*team.bounds(COUNT))
        expected, found = fit_whitening(features, 12, CPU), fit_whitening(features[own], 12, CPU, team)
        cosines = F.cosine_similarity(expected.matrix, found.matrix, dim=0)
        torch.testing.assert_close(cosines.abs(), torch.ones(12), atol=1e-4, rtol=0)
        components = found.components(features)
        torch.testing.assert_close(components.T.cov(), torch.eye(12), atol=1e-3, rtol=0)
        # Of a sample, chunk by chunk, into files.
        whitening.SAMPLE, whitening.CHUNK, whitening.MEMORY = 700, 200, 0
        asked = []

        def some(indices):
            asked.append(len(indices))
            return features[indices]

        whole = whitened_features(features.__getitem__, COUNT, 6, 1, CPU)
        rows = whitened_features(some, COUNT, 6, 1, CPU, team)
        first, last = team.bounds(COUNT)
        assert len(rows) == last - first and max(asked[1:]) == 200
        assert sum(asked) == len(rows) + 350
        signs = (whole[own].float() * rows.float()).mean(0).sign()
        torch.testing.assert_close(rows.float(), whole[own].float() * signs, atol=2e-3, rtol=0)
        team.barrier()


def test_whitening(teams, tmp_path):
    teams.call(2, tmp_path / "log", share_whitening)


class Features(nn.Module):
    feature_dim = 12


def started(name, team):
    """A method after the clustering at its start, with the features of an epoch."""
    torch.manual_seed(0)
    facts, features, asked = ImageFacts(COUNT, (8, 8), [0.5], [0.25]), groups(), []
    if name == "deepcluster_v2":
        deepcluster_v2.CHUNK = 750  # the last chunk is one image: some process has none of it
        options = deepcluster_v2.Options(dataset="d", clusters=20, heads=2, projection_hidden=16, projection_dim=8)
        method = deepcluster_v2.DeepClusterV2(options, Features(), facts)
    else:
        options = deepcluster.Options(dataset="d", clusters=30, components=6, clustering=name)
        method = deepcluster.DeepCluster(options, Features(), facts)

    def some(indices):
        asked.extend(indices.tolist())
        return features[indices]

    method.start_epoch(Epoch(0, 1, some, lambda parameters: None, team))
    return method, asked


def share_the_start_of_an_epoch(name):
    with team_of_environment(CPU) as team:
        expected, _ = started(name, ALONE)
        found, asked = started(name, team)
        assert len(set(asked)) == len(asked) <= COUNT / 2 + 2  # the other process has computed the others
        assert (found.labels != expected.labels).float().mean() <= FLIPPED
        for buffer, other in zip(found.buffers(), expected.buffers(), strict=True):
            if buffer.is_floating_point():
                torch.testing.assert_close(buffer, other, atol=2e-3, rtol=0)
        team.barrier()


@pytest.mark.parametrize("name", ["kmeans", "pic", "deepcluster_v2"])
def test_the_start_of_an_epoch(teams, tmp_path, name):
    teams.call(2, tmp_path / "log", share_the_start_of_an_epoch, name)
