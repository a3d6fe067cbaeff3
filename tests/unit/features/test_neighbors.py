import json

import hypothesis.strategies as st
import numpy as np
import pytest
from commands import run_command
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp

from deepclust.core import rows
from deepclust.core.errors import DeepclustError
from deepclust.core.progress import Progress
from deepclust.features import neighbors as module
from deepclust.features.neighbors import find_neighbors
from deepclust.features.options import NeighborOptions


def search(features, k, folder, half_whiten=False, **options):
    path = folder / "features.npy"
    np.save(path, features)
    options = NeighborOptions(k=k, **options)
    recall = find_neighbors([path], folder / "neighbors.npy", options, Progress(), half_whiten)
    assert recall >= options.recall
    return np.load(folder / "neighbors.npy")


def cosines(features):
    values = features.astype(np.float64)
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    directions = np.divide(values, lengths, out=np.zeros_like(values), where=lengths > 0)
    return directions @ directions.T


def check(neighbors, features):
    count, k = neighbors.shape
    assert neighbors.dtype == np.int32
    assert not (neighbors == np.arange(count)[:, None]).any(), "its own neighbor"
    assert all(len(set(row)) == k for row in neighbors.tolist()), "twice the same"
    similarity = cosines(features)
    found = np.take_along_axis(similarity, neighbors, axis=1)
    np.fill_diagonal(similarity, -np.inf)
    best = -np.sort(-similarity, axis=1)[:, :k]
    np.testing.assert_allclose(found, best, atol=2e-6)


# Few different values, so that duplicates, opposite and zero vectors are common.
small_features = hnp.arrays(
    np.float32,
    st.tuples(st.integers(2, 40), st.integers(1, 4)),
    elements=st.sampled_from([-1, 0, 0, 0.5, 1, 2, 1e-20, 1e20]),
)


@settings(deadline=None)
@given(small_features, st.integers(1, 39))
def test_equal_those_of_an_exhaustive_search(tmp_path_factory, features, k):
    k = min(k, len(features) - 1)
    check(search(features, k, tmp_path_factory.mktemp("n")), features)


def half_whitened(features, components):
    """By an eigendecomposition."""
    directions = features / np.linalg.norm(features, axis=1, keepdims=True)
    variances, axes = np.linalg.eigh(np.cov(directions.T))
    kept = slice(len(variances) - components, None)
    return (directions - directions.mean(axis=0)) @ axes[:, kept] / variances[kept] ** 0.25


@pytest.mark.parametrize("components", [3, 7])
@pytest.mark.parametrize("wide", [False, True])
def test_neighbors_among_half_whitened_features(tmp_path, monkeypatch, components, wide):
    """One direction varies a hundred times as much as another; all images are in the sample that wide ones take."""
    monkeypatch.setattr(module, "COMPONENTS", components)
    monkeypatch.setattr(rows, "WIDE", 6 if wide else 7)
    features = np.random.default_rng(0).normal(size=(400, 7)) @ np.diag(np.logspace(1, -1, 7)) + 3
    found = search(features.astype(np.float32), 9, tmp_path, half_whiten=True)
    check(found, half_whitened(features, components))
    assert (found != search(features.astype(np.float32), 9, tmp_path)).any()


def test_half_whitened_features_of_more_dimensions_than_a_sample_has_images(tmp_path, monkeypatch):
    """Principal axes of a third of the images lead to nearly the same neighbors."""
    points = np.random.default_rng(0).normal(size=(300, 6)) * np.logspace(0, -1, 6)
    features = (points @ np.random.default_rng(1).normal(size=(6, 150)) + 1).astype(np.float32)
    exact = search(features, 8, tmp_path, half_whiten=True)
    monkeypatch.setattr(rows, "WIDE", 149)
    monkeypatch.setattr(rows, "SAMPLED", 100)
    found = search(features, 8, tmp_path, half_whiten=True)
    assert np.mean([np.isin(*pair).mean() for pair in zip(exact, found)]) > 0.9


@pytest.mark.parametrize("wide", [False, True])
def test_half_whitened_features_that_do_not_differ(tmp_path, monkeypatch, wide):
    """But for their lengths, which do not count."""
    monkeypatch.setattr(rows, "WIDE", 3 if wide else 4)
    features = np.outer(np.arange(1, 31), [0.1, 0.2, 0.3, 0.7]).astype(np.float32)
    check(search(features, 5, tmp_path, half_whiten=True), np.zeros((30, 4)))


def test_half_whitened_features_of_few_images(tmp_path):
    """Have enough components to tell groups apart."""
    groups = np.arange(15) % 3
    features = np.eye(6)[groups] + np.random.default_rng(0).normal(0, 0.1, (15, 6))
    found = search(features.astype(np.float32), 4, tmp_path, half_whiten=True)
    assert (groups[found] == groups[:, None]).mean() > 0.9


def test_in_several_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 64)
    features = np.random.default_rng(0).normal(size=(300, 16)).astype(np.float16)
    check(search(features, 20, tmp_path), features)


def test_no_image_is_its_own_neighbor_among_many_duplicates(tmp_path):
    features = np.tile(np.float32([[3, 4]]), (500, 1))
    check(search(features, 7, tmp_path), features)


def test_equally_near_ones_come_by_index(tmp_path):
    features = np.float32([[1, 0], [0, 1], [1, 0], [1, 0], [0, -1]])
    assert search(features, 3, tmp_path).tolist() == [[2, 3, 1], [0, 2, 3], [0, 3, 1], [0, 2, 1], [0, 2, 3]]


@pytest.mark.parametrize("half_whiten", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3, 5, 20, 21])
def test_of_few_images_all_others_are_neighbors(tmp_path, count, half_whiten):
    features = np.random.default_rng(0).normal(size=(count, 6)).astype(np.float32)
    found = search(features, 20, tmp_path, half_whiten)
    assert found.dtype == np.int32
    assert [sorted(row) for row in found.tolist()] == [[n for n in range(count) if n != row] for row in range(count)]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite(tmp_path, value):
    features = np.eye(5, dtype=np.float16)
    features[3, 2] = value
    with pytest.raises(DeepclustError, match="NaN or infinite"):
        search(features, 2, tmp_path)


@pytest.mark.parametrize("count", [30, 5000])
@pytest.mark.parametrize("dimension", [3, 24])
def test_approximate_search_reaches_the_recall_it_is_told_to(tmp_path, count, dimension):
    generator = np.random.default_rng(0)
    centers = generator.normal(size=(50, dimension))
    features = (centers[np.arange(count) % 50] + 0.5 * generator.normal(size=(count, dimension))).astype(np.float32)
    found = search(features, 10, tmp_path, recall=0.95)
    assert not (found == np.arange(count)[:, None]).any()
    assert all(len(set(row)) == 10 for row in found.tolist())
    similarity = cosines(features)
    np.fill_diagonal(similarity, -np.inf)
    truth = np.argsort(-similarity, axis=1)[:, :10]
    assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(truth.tolist(), found.tolist())]) >= 0.93


def test_approximate_search_among_duplicates(tmp_path):
    features = np.tile(np.float32([[3, 4], [1, 0]]), (3000, 1))
    found = search(features, 7, tmp_path, recall=0.5)
    assert not (found == np.arange(6000)[:, None]).any()
    assert (found % 2 == np.arange(6000)[:, None] % 2).all()


def test_which_of_many_duplicates_are_found_does_not_count(tmp_path):
    """Else one picture that is there hundreds of times lets every search fall short, until it is exact."""
    generator = np.random.default_rng(0)
    features = generator.normal(size=(6000, 16)).astype(np.float32)
    features[generator.permutation(6000)[:900]] = features[0]
    np.save(tmp_path / "features.npy", features)
    options = NeighborOptions(k=20, recall=0.97)
    recall = find_neighbors([tmp_path / "features.npy"], tmp_path / "neighbors.npy", options, Progress())
    assert 0.97 <= recall < 1


def test_splits_are_searched_together(tmp_path):
    features = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float16)
    paths = [tmp_path / name for name in ("train.npy", "test.npy")]
    for path, part in zip(paths, np.split(features, [45])):
        np.save(path, part)
    find_neighbors(paths, tmp_path / "neighbors.npy", NeighborOptions(k=50), Progress())
    check(np.load(tmp_path / "neighbors.npy"), features)
    np.save(paths[1], features[45:, :5])
    with pytest.raises(DeepclustError, match=r"train.npy has 8, .*test.npy has 5"):
        find_neighbors(paths, tmp_path / "neighbors.npy", NeighborOptions(k=5), Progress())


def test_the_command(tmp_path):
    features = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float16)
    np.save(tmp_path / "features.npy", features)
    flags = [
        "--input.features",
        "features.npy",
        "--output.neighbors",
        "neighbors.npy",
        "--k",
        "3",
        "--provenance",
        "provenance.json",
    ]
    done = run_command("find_neighbors", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    check(np.load(tmp_path / "neighbors.npy"), features)
    options = json.loads((tmp_path / "provenance.json").read_text())["options"]
    assert options == {"half_whiten": False, "k": 3, "recall": 1.0, "measured_recall": 1.0}
