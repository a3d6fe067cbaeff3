import numpy as np
import pytest

from deepclust.evaluation import half_whitening
from deepclust.evaluation.half_whitening import half_whitened_graph, half_whitened_neighbors


def nearest(features, count):
    """By an eigendecomposition and all pairs, as sets."""
    centred = features - features.mean(axis=0)
    variances, axes = np.linalg.eigh(np.cov(centred.T))
    points = centred @ axes / variances**0.25
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    similarity = points @ points.T
    np.fill_diagonal(similarity, -np.inf)
    return np.sort(np.argsort(-similarity, axis=1)[:, :count], axis=1)


def sample(count=600, seed=0):
    """Directions of very different variance."""
    generator = np.random.default_rng(seed)
    return (generator.normal(size=(count, 8)) * 10.0 ** (-np.arange(8) / 3) + 1).astype(np.float32)


def test_nearest_by_half_whitened_features(monkeypatch):
    features = sample().astype(np.float64)
    monkeypatch.setattr(half_whitening, "BLOCK", 100)
    found = np.sort(half_whitened_neighbors(features), axis=1)
    assert (found == nearest(features, half_whitening.NEIGHBORS)).mean() > 0.99


def test_images_of_several_splits_and_backbones(tmp_path, monkeypatch):
    """The sample is spread over the splits, and each neighbor is a position in it."""
    monkeypatch.setattr(half_whitening, "SAMPLE", 200)
    features = [[sample(300), sample(300, 1)], [sample(100, 2), sample(100, 3)]]
    files = [[tmp_path / f"{split}{backbone}.npy" for backbone in (0, 1)] for split in (0, 1)]
    for arrays, paths in zip(features, files):
        for array, path in zip(arrays, paths):
            np.save(path, array)
    chosen, neighbors = half_whitened_graph(files, 4)
    assert len(chosen) == len(set(chosen)) == 200
    assert (chosen[0], chosen[-1]) == (0, 399)
    unit = [np.concatenate(arrays) for arrays in zip(*features)]
    unit = [array / np.linalg.norm(array, axis=1, keepdims=True) for array in unit]
    joined = np.concatenate(unit, axis=1)[chosen] / np.sqrt(2)
    expected = half_whitened_neighbors(joined.astype(np.float32))
    assert (np.sort(neighbors, axis=1) == np.sort(expected, axis=1)).mean() > 0.95
    assert neighbors.max() < 200
    assert len(half_whitened_graph(files, 5)[0]) == 250  # more clusters need more images


@pytest.mark.parametrize("features", [sample(20), np.ones((50, 4), np.float32)])
def test_few_or_constant_features_have_no_such_neighbors(features):
    assert half_whitened_neighbors(features) is None


def test_more_dimensions_than_images():
    """Two groups that differ in one of many directions keep to themselves."""
    generator = np.random.default_rng(0)
    group = np.repeat([0, 1], 30)
    features = generator.normal(size=(60, 200)).astype(np.float32)
    features[:, 0] += 40 * group
    assert (group[half_whitened_neighbors(features)] == group[:, None]).mean() > 0.6
