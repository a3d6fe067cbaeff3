import networkx
import numpy as np
import pytest
from head_samples import accuracy
from sklearn.neighbors import NearestNeighbors

from deepclust.core.rows import blocks
from deepclust.heads.kit import agreement
from deepclust.heads.kit.agreement import LinearFit, Votes, alignment, candidates, one_hot
from deepclust.heads.kit.modularity import cohesion, modularity


@pytest.fixture(scope="module")
def sample():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 4, 800).astype(np.int32)
    centers = generator.normal(0, 1, (4, 6))
    return (centers[labels] + generator.normal(0, 1, (800, 6))).astype(np.float32), labels


def graph_of(points, neighbors=5):
    return NearestNeighbors(n_neighbors=neighbors + 1).fit(points).kneighbors(points)[1][:, 1:]


def test_modularity_against_networkx(sample):
    points, labels = sample
    neighbors = graph_of(points)
    graph = networkx.DiGraph((i, int(j)) for i, row in enumerate(neighbors) for j in row)
    expected = networkx.community.modularity(graph, [set(np.flatnonzero(labels == c)) for c in range(4)])
    assert modularity(labels, neighbors, 4) == pytest.approx(expected, abs=1e-9)
    assert modularity(np.array([2, 0, 3, 1])[labels], neighbors, 6) == pytest.approx(expected, abs=1e-9)


def test_modularity_of_trivial_partitions(sample):
    neighbors = graph_of(sample[0])
    assert modularity(np.zeros(800, int), neighbors, 1) == pytest.approx(0)
    assert modularity(np.zeros(800, int), neighbors, 3) == pytest.approx(0)
    assert abs(modularity(np.random.default_rng(9).integers(0, 4, 800), neighbors, 4)) < 0.05
    assert modularity(np.zeros(1, int), np.zeros((1, 0), int), 1) == 0


def test_cohesion():
    neighbors = np.array([[1, 2], [0, 2], [3, 0], [2, 1]])
    np.testing.assert_allclose(cohesion(np.array([0, 0, 1, 1]), neighbors, 3), [0.5, 0.5, 0])


def test_least_squares(sample):
    points, labels = sample
    votes = one_hot(labels, 4)
    weight, bias = LinearFit(points).weights(Votes.of(labels, 4))
    design = np.column_stack([points, np.ones(len(points))])
    expected = np.linalg.lstsq(design, votes, rcond=None)[0]
    np.testing.assert_allclose(points @ weight.T + bias, design @ expected, atol=5e-3)


def test_align_undoes_a_permutation(sample):
    votes = one_hot(sample[1], 4)
    mixed = votes[:, [3, 1, 0, 2]]
    np.testing.assert_array_equal(mixed[:, alignment(Votes.of(mixed, 4), votes)], votes)


def test_votes_of_noisy_partitions_are_better_than_each_of_them():
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 100)
    points = (np.eye(4)[labels] * 4 + generator.normal(0, 1, (400, 4))).astype(np.float32)
    partitions = []
    for _ in range(7):
        wrong = generator.uniform(size=400) < 0.3
        noisy = np.where(wrong, generator.integers(0, 4, 400), labels)
        partitions.append(Votes.of(generator.permutation(4)[noisy], 4))
    found = candidates(partitions, graph_of(points, 10))
    values = [value for _, value in found]
    assert values == sorted(values, reverse=True)
    assert len(found) == 13
    assert accuracy(labels, found[0][0].assignments()) > 0.95
    assert all(accuracy(labels, votes.assignments()) < 0.85 for votes in partitions)


def test_mean_votes_are_put_together_in_blocks(monkeypatch):
    """Clusters and probabilities give what whole matrices would."""
    monkeypatch.setattr(agreement, "blocks", lambda count: blocks(count, 64))
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 50)
    points = (np.eye(3)[labels] * 3 + generator.normal(0, 1, (150, 3))).astype(np.float32)
    noisy = np.where(generator.uniform(size=150) < 0.4, generator.integers(0, 3, 150), labels)
    soft = generator.dirichlet(0.3 + 4 * np.eye(3)[labels].mean(0), 150).astype(np.float16)
    order = np.array([2, 0, 1])
    [mean] = [
        v for v, _ in candidates([Votes.of(order[noisy], 3), Votes.of(soft, 3)], graph_of(points)) if v.columns[1:]
    ]
    hard = one_hot(order[noisy], 3)
    parts = {array.ndim: columns for array, columns in zip(mean.partitions, mean.columns)}
    expected = (hard[:, parts[1]] + soft.astype(np.float32)[:, parts[2]]) / 2
    np.testing.assert_allclose(mean[slice(None)], expected, atol=1e-6)
    np.testing.assert_array_equal(mean.assignments(), expected.argmax(1))
    whole, _ = LinearFit(points).weights(Votes.of(expected, 3))
    np.testing.assert_allclose(LinearFit(points).weights(mean)[0], whole, atol=1e-6)
