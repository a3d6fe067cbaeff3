import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import silhouette_samples

from deepclust.evaluation import labelfree
from deepclust.evaluation.labelfree import neighbor_agreement, silhouette, size_entropy, stability


def unit(features):
    return (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)


def blocks_of(features, size=7):
    return lambda: (features[i : i + size] for i in range(0, len(features), size))


@given(st.integers(3, 40), st.integers(2, 6), st.integers(0, 2**32 - 1))
def test_silhouette_agrees_with_all_pairs(images, k, seed):
    generator = np.random.default_rng(seed)
    features = unit(generator.normal(size=(images, 5)) + 1)
    assignments = generator.integers(k, size=(3, images))
    values = silhouette(blocks_of(features), assignments, k)
    for clusters, found in zip(assignments, values):
        if 2 <= len(np.unique(clusters)) < images:
            expected = silhouette_samples(features.astype(float), clusters, metric="cosine")
            assert found == pytest.approx(expected, abs=1e-4)
        else:
            assert np.isnan(found).all()


def test_silhouette_in_pieces_is_the_same(monkeypatch):
    """A few rows and one seed at a time, as with thousands of clusters."""
    generator = np.random.default_rng(2)
    features, assignments = unit(generator.normal(size=(50, 5)) + 1), generator.integers(6, size=(3, 50))
    whole = silhouette(blocks_of(features, 50), assignments, 6)
    monkeypatch.setattr(labelfree, "DISTANCES", 20)
    monkeypatch.setattr(labelfree, "MEANS", 40)
    assert silhouette(blocks_of(features, 50), assignments, 6) == pytest.approx(whole, abs=1e-6)


def test_silhouette_of_zero_vectors():
    """A vector of zeros has distance 1 to everything, as in scikit-learn."""
    features = np.concatenate([unit(np.random.default_rng(0).normal(size=(8, 3))), np.zeros((2, 3), np.float32)])
    clusters = np.array([0, 0, 0, 1, 1, 1, 1, 1, 0, 0])
    expected = silhouette_samples(features.astype(float), clusters, metric="cosine")
    assert silhouette(blocks_of(features), clusters[None], 4)[0] == pytest.approx(expected, abs=1e-5)


def test_silhouette_tells_good_clusters_from_bad():
    generator = np.random.default_rng(1)
    truth = np.repeat([0, 1, 2], 20)
    features = unit(np.eye(3)[truth] + generator.normal(0, 0.1, size=(60, 3)))
    good, bad = silhouette(blocks_of(features), np.stack([truth, generator.permutation(truth)]), 3).mean(axis=1)
    assert good > 0.8
    assert abs(bad) < 0.1


@given(st.integers(2, 30), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_neighbor_agreement_counts_neighbors(images, k, seed):
    generator = np.random.default_rng(seed)
    neighbors = generator.integers(images, size=(images, 4)).astype(np.int32)
    clusters = generator.integers(k, size=images)
    expected = [sum(clusters[n] == clusters[i] for n in neighbors[i]) / 4 for i in range(images)]
    assert neighbor_agreement(neighbors, clusters).tolist() == expected


@pytest.mark.parametrize(
    ("sizes", "expected"), [([5, 5, 5], 1.0), ([15, 0, 0], 0.0), ([7], None), ([8, 8, 0, 0], 0.5), ([0, 0], 0.0)]
)
def test_size_entropy(sizes, expected):
    assert size_entropy(sizes) == (expected if expected is None else pytest.approx(expected))


def test_stability_is_the_mean_over_pairs():
    first = np.array([0, 0, 1, 1])
    second = np.array([0, 1, 0, 1])  # ARI -0.5 with the others
    assert stability(first[None]) is None
    assert stability(np.stack([first, 1 - first])) == 1.0
    assert stability(np.stack([first, 1 - first, second])) == pytest.approx((1 - 0.5 - 0.5) / 3)
