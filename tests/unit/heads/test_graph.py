"""The neighbor graph, and the votes that assign images outside of it."""

import numpy as np
import pytest
from head_samples import accuracy, mixture, nearest
from scipy.sparse.csgraph import connected_components

from deepclust.heads.kit import graph as module
from deepclust.heads.kit import voting
from deepclust.heads.kit.graph import neighbor_graph
from deepclust.heads.kit.head import HeadOptions
from deepclust.heads.kit.voting import VOTERS, filled, landmarks, vote


def test_weights_of_mutual_and_one_sided_neighbors():
    rows = np.float32([[0, 0], [1, 0], [2, 0]])
    neighbors = np.int32([[1], [0], [1]])
    expected = [[0, 1, 0], [1, 0, 0.5], [0, 0.5, 0]]
    np.testing.assert_array_equal(neighbor_graph([neighbors], 5, rows).toarray(), expected)


def test_several_backbones_and_a_limit():
    generator = np.random.default_rng(0)
    points = [generator.normal(size=(50, 4)) for _ in range(2)]
    both = neighbor_graph([nearest(p, 9) for p in points], 9, points[0].astype(np.float32))
    each = [neighbor_graph([nearest(p, 9)], 9, points[0].astype(np.float32)) for p in points]
    np.testing.assert_allclose(both.toarray(), (each[0] + each[1]).toarray() / 2)
    few = neighbor_graph([nearest(points[0], 9)], 3, points[0].astype(np.float32))
    assert (few != neighbor_graph([nearest(points[0], 3)], 9, points[0].astype(np.float32))).nnz == 0


@pytest.mark.parametrize("parts", [2, 3, 40])
def test_bridges_join_what_no_neighbors_join(parts, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 7)
    generator = np.random.default_rng(0)
    size = 5
    rows = (10 * np.repeat(np.arange(parts), size)[:, None] + generator.normal(size=(parts * size, 3))).astype("f4")
    inside = (np.arange(parts * size) // size * size)[:, None] + (np.arange(parts * size)[:, None] + [1, 2]) % size
    graph = neighbor_graph([inside.astype(np.int32)], 2, rows)
    assert connected_components(graph)[0] == 1
    part = np.arange(parts * size) // size
    between = np.argwhere(np.triu(graph.toarray()) * (part[:, None] != part))
    assert len(between) == parts - 1


def test_identical_parts_are_joined_too():
    neighbors = np.int32([[1], [0], [3], [2], [5], [4]])
    graph = neighbor_graph([neighbors], 1, np.ones((6, 2), np.float32))
    assert connected_components(graph)[0] == 1


def test_small_clusters_keep_their_voters(monkeypatch):
    monkeypatch.setattr(voting, "LANDMARKS", 100)
    labels = np.repeat([0, 1, 2], [2000, 30, 3])
    rows = np.random.default_rng(0).normal(size=(len(labels), 4)).astype(np.float32)
    weights = landmarks(rows, labels, 3, seed=0, unit=False)
    counts = np.bincount(weights["landmark_clusters"])
    assert len(weights["landmarks"]) == 100
    assert counts[0] > 50
    assert counts[1] >= VOTERS
    assert counts[2] == 3
    again = landmarks(rows, labels, 3, seed=0, unit=False)
    assert all(np.array_equal(weights[name], again[name]) for name in weights)


def test_votes_generalise_and_training_images_keep_their_cluster():
    points, labels = mixture(600, 6, spread=0.5)
    others, other_labels = mixture(300, 6, spread=0.5)
    weights = landmarks(points.astype(np.float32), labels, 6, seed=0, unit=False)
    prediction = vote(weights, [others], HeadOptions())
    assert accuracy(other_labels, prediction.assignments) >= 0.95
    np.testing.assert_allclose(prediction.probabilities.astype(float).sum(1), 1, atol=0.01)
    shuffled = np.random.default_rng(0).permutation(labels)
    weights = landmarks(points.astype(np.float32), shuffled, 6, seed=0, unit=False)
    np.testing.assert_array_equal(vote(weights, [points], HeadOptions()).assignments, shuffled)


def test_votes_tell_clusters_apart_that_differ_in_length():
    """And go by direction alone where that is wanted."""
    generator = np.random.default_rng(0)
    points = np.float32([[1, 2]] * 200) + generator.normal(size=(200, 2), scale=0.1).astype(np.float32)
    labels = np.arange(200) % 2
    points[labels == 1] *= 10
    fit, rest = slice(0, 100), slice(100, 200)
    weights = landmarks(points[fit], labels[fit], 2, seed=0, unit=False)
    assert accuracy(labels[rest], vote(weights, [points[rest]], HeadOptions()).assignments) == 1
    angles = generator.uniform(0, 1.5, 200)
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1) * generator.uniform(0.1, 10, (200, 1))
    labels = (angles > 0.75).astype(int)
    weights = landmarks(points[fit].astype(np.float32), labels[fit], 2, seed=0, unit=True)
    assert accuracy(labels[rest], vote(weights, [points[rest]], HeadOptions()).assignments) >= 0.97


@pytest.mark.parametrize("unit", [True, False])
def test_votes_are_those_of_the_formula(unit):
    """exp(-d² / 0.14) of the 20 nearest landmarks; d between directions, or in units of the spread."""
    generator = np.random.default_rng(0)
    points = (generator.normal(size=(90, 5)) + 1).astype(np.float32)
    labels = generator.permutation(np.arange(60) % 3)
    weights = landmarks(points[:60], labels, 3, seed=0, unit=unit)
    shares = vote(weights, [points[60:]], HeadOptions()).probabilities
    points = points.astype(np.float64)
    if unit:
        points /= np.linalg.norm(points, axis=1, keepdims=True)
    spread = 1 if unit else np.sqrt(np.mean(np.sum((points[:60] - points[:60].mean(0)) ** 2, axis=1)))
    for row, found in zip(points[60:], shares):
        squares = np.sum((points[:60] - row) ** 2, axis=1) / spread**2
        nearest = np.argsort(squares)[:20]
        votes = np.bincount(labels[nearest], np.exp(-squares[nearest] / 0.14), minlength=3)
        np.testing.assert_allclose(found.astype(float), votes / votes.sum(), atol=5e-3)


@pytest.mark.parametrize("offset", [0, 1, 30])
def test_training_images_keep_their_cluster_however_alike_all_are(offset):
    """Cosines of 0.998 and more at an offset of 30, where float16 has directions only roughly."""
    points = np.random.default_rng(0).normal(size=(800, 64)).astype(np.float32) + np.float32(offset)
    labels = np.random.default_rng(1).permutation(np.arange(800) % 200)
    weights = landmarks(points, labels, 200, seed=0, unit=False)
    np.testing.assert_array_equal(vote(weights, [points], HeadOptions()).assignments, labels)
    assert filled(weights) == 200


def test_equal_features_fill_one_cluster():
    rows = np.ones((30, 4), np.float32)
    assert filled(landmarks(rows, np.arange(30) % 3, 3, seed=0, unit=False)) == 1
