import networkx
import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from deepclust.heads.agreement import LinearFit, align, candidates, cohesion, modularity, one_hot


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
    weight, bias = LinearFit(points).weights(votes)
    design = np.column_stack([points, np.ones(len(points))])
    expected = np.linalg.lstsq(design, votes, rcond=None)[0]
    np.testing.assert_allclose(points @ weight.T + bias, design @ expected, atol=5e-3)


def test_align_undoes_a_permutation(sample):
    votes = one_hot(sample[1], 4)
    np.testing.assert_array_equal(align(votes[:, [3, 1, 0, 2]], votes), votes)


def test_votes_of_noisy_partitions_are_better_than_each_of_them():
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 100)
    points = (np.eye(4)[labels] * 4 + generator.normal(0, 1, (400, 4))).astype(np.float32)
    partitions = []
    for _ in range(7):
        wrong = generator.uniform(size=400) < 0.3
        noisy = np.where(wrong, generator.integers(0, 4, 400), labels)
        partitions.append(one_hot(generator.permutation(4)[noisy], 4))
    found = candidates(partitions, graph_of(points, 10))
    values = [value for _, value in found]
    assert values == sorted(values, reverse=True)
    assert len(found) == 13
    best = align(found[0][0], one_hot(labels, 4)).argmax(1)
    assert (best == labels).mean() > 0.95
    assert all((align(votes, one_hot(labels, 4)).argmax(1) == labels).mean() < 0.85 for votes in partitions)
