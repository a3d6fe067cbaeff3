"""UMAP: its graph against the paper's formulas, and the division of its layout."""

import numpy as np
import pytest
from head_samples import accuracy, fit, mixture, nearest, predict
from scipy import sparse

from deepclust.heads import umap


def memberships(distances):
    """Those of an image's neighbors (paper, definition 7 and algorithm 3), found by bisection.

    umap-learn counts the image itself among the n neighbors whose memberships add up to log2(n).
    """
    least, wanted = distances.min(), np.log2(len(distances) + 1)
    low, high = 0.0, 1000.0
    for _ in range(200):
        middle = (low + high) / 2
        total = np.exp(-np.maximum(distances - least, 0) / middle).sum()
        low, high = (middle, high) if total < wanted else (low, middle)
    return np.exp(-np.maximum(distances - least, 0) / middle)


def plain_graph(near, rows):
    graph = np.zeros((len(rows), len(rows)))
    for image, others in enumerate(near):
        graph[image, others] = memberships(np.linalg.norm(rows[image] - rows[others], axis=1))
    return graph + graph.T - graph * graph.T


def test_graph_is_that_of_the_paper():
    rows = np.random.default_rng(0).normal(size=(80, 4)).astype(np.float32)
    several = [nearest(rows, 8), nearest(rows + 1, 8)]
    found = umap.fuzzy_graph(several[:1], rows).toarray()
    assert np.allclose(found, plain_graph(several[0], rows), atol=2e-4)  # umap-learn stops at 1e-5 of the sum
    both = umap.fuzzy_graph(several, rows).toarray()
    assert np.allclose(both, np.mean([plain_graph(near, rows) for near in several], axis=0), atol=2e-4)


def test_copies_of_an_image_take_no_place_of_a_neighbor():
    rows = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    twice = np.concatenate([rows, rows])
    near = nearest(twice, 9)  # the copy and four others, each twice
    found = umap.fuzzy_graph([near], twice).toarray()
    copies = np.arange(40)
    assert np.allclose(found[copies, copies + 40], 1)
    others = found.copy()
    others[copies, copies + 40] = others[copies + 40, copies] = 0
    for image in range(80):
        neighbors = [other for other in near[image] if other % 40 != image % 40]
        assert (found[image, neighbors] > 0.01).sum() >= len(neighbors) / 2


@pytest.mark.parametrize("divide", ["kmeans", "mixture", "best"])
def test_the_better_division_is_kept(divide):
    points, labels = mixture(200, 3)
    results, options = fit("umap", points, 3, divide=divide)
    [result] = results.values()
    worth = {entry["division"]: entry["modularity"] for entry in result.log}
    assert set(worth) == ({"kmeans", "mixture"} if divide == "best" else {divide})
    assert result.objective == -max(worth.values())
    assert accuracy(labels, predict("umap", result, points, options).assignments) == 1


def test_neighbors_attract_in_the_layout():
    """Images of two groups that no edge joins end farther apart than images of one."""
    points, labels = mixture(100, 2)
    near = nearest(points, 5)
    weights = umap.fuzzy_graph([near], points.astype(np.float32))
    assert sparse.issparse(weights)
    start = np.random.default_rng(0).normal(size=(len(points), 2)).astype(np.float32)
    layout = umap.lay_out(weights, start, umap.Options(epochs=100), 1)
    apart = np.linalg.norm(layout[:, None] - layout[None], axis=2)
    same = labels[:, None] == labels[None]
    assert np.median(apart[~same]) > 2 * np.median(apart[same])
    assert np.array_equal(layout, umap.lay_out(weights, start, umap.Options(epochs=100), 1))
