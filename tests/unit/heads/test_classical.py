"""Mixture of Gaussians, spectral and agglomerative clustering against scikit-learn and what each claims."""

import numpy as np
import pytest
from head_samples import accuracy, fit, mixture, nearest, predict
from sklearn.cluster import AgglomerativeClustering, SpectralClustering
from sklearn.datasets import make_circles
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture

from deepclust.heads import spectral
from deepclust.heads.kit import graph as graphs
from deepclust.heads.kit.graph import neighbor_graph


def assignments(name, points, k, **options):
    results, chosen = fit(name, points, k, **options)
    return predict(name, results[0], points, chosen).assignments


@pytest.mark.parametrize("covariance", ["diag", "full"])
def test_probabilities_of_the_mixture_are_scikit_learns(covariance):
    points, _ = mixture(400, 4, spread=0.5)
    results, options = fit("gmm", points, 4, covariance=covariance, dimensions=5)
    prediction = predict("gmm", results[0], points, options)
    components = PCA(5).fit(points.astype(np.float64))
    projected = components.transform(points.astype(np.float64)) / np.sqrt(components.explained_variance_.mean())
    start = np.eye(4)[prediction.assignments].T @ projected / np.bincount(prediction.assignments)[:, None]
    reference = GaussianMixture(4, covariance_type=covariance, means_init=start, reg_covar=1e-4, max_iter=500)
    expected = reference.fit(projected).predict(projected)
    assert adjusted_rand_score(expected, prediction.assignments) > 0.95
    assert -results[0].objective == pytest.approx(reference.lower_bound_, rel=0.02)


def test_a_mixture_tells_wide_from_narrow_clusters():
    generator = np.random.default_rng(0)
    labels = np.arange(800) % 2
    points = generator.normal(size=(800, 4)) * np.where(labels, 4, 0.3)[:, None] + 1.5 * labels[:, None]
    assert accuracy(labels, assignments("gmm", points.astype(np.float32), 2)) > 0.93


def on_a_sphere(points):
    """Points of the plane where cosine tells what distance tells in the plane."""
    return np.column_stack([points / 10, np.ones(len(points))]).astype(np.float32)


def test_spectral_follows_the_graph_where_k_means_cannot():
    points, labels = make_circles(1200, factor=0.4, noise=0.04, random_state=0)  # more than are done densely
    points = on_a_sphere(points)
    assert accuracy(labels, assignments("spectral", points, 2, neighbors=10)) >= 0.99
    assert accuracy(labels, assignments("kmeans", points, 2)) < 0.8


def test_spectral_agrees_with_scikit_learn():
    points, _ = mixture(450, 5, spread=0.8)
    graph = neighbor_graph([nearest(points, 10)], 10, points.astype(np.float32))
    reference = SpectralClustering(5, affinity="precomputed", random_state=0, n_init=10).fit_predict(graph)
    assert adjusted_rand_score(reference, assignments("spectral", points, 5, neighbors=10)) > 0.9


def test_eigenvectors_are_the_same_by_both_ways(monkeypatch):
    points, _ = mixture(300, 3, spread=0.8)
    graph = neighbor_graph([nearest(points, 10)], 10, points.astype(np.float32))
    dense = spectral.embedding(graph, 3)
    monkeypatch.setattr(graphs, "DENSE", 10)
    np.testing.assert_allclose(
        dense @ dense.T, spectral.embedding(graph, 3) @ spectral.embedding(graph, 3).T, atol=0.02
    )


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_as_many_clusters_as_images(monkeypatch, missing):
    monkeypatch.setattr(graphs, "DENSE", 10)
    points, _ = mixture(40, 4, spread=0.8)
    graph = neighbor_graph([nearest(points, 5)], 5, points.astype(np.float32))
    embedded = spectral.embedding(graph, 40 - missing)
    assert embedded.shape == (40, 40 - missing)
    np.testing.assert_allclose(np.linalg.norm(embedded, axis=1), 1, rtol=1e-5)


def test_agglomerative_is_scikit_learns_ward_on_the_graph():
    points, _ = mixture(300, 4, spread=1.2)
    rows = points.astype(np.float32)
    graph = neighbor_graph([nearest(points, 12)], 12, rows)
    reference = AgglomerativeClustering(4, connectivity=graph).fit_predict(rows)
    results, options = fit("agglomerative", points, 4, [0, 1], neighbors=12)
    for result in results.values():
        found = predict("agglomerative", result, points, options).assignments
        assert adjusted_rand_score(reference, found) == 1
    within = sum(((rows[reference == c] - rows[reference == c].mean(0)) ** 2).sum() for c in range(4))
    assert results[0].objective == results[1].objective == pytest.approx(within, rel=1e-5)
