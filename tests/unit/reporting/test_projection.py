import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier

from deepclust.core.errors import DeepclustError
from deepclust.core.files import write_array
from deepclust.reporting.projection import project, read_features, read_map, sample_ids, write_map


@given(st.integers(0, 5000), st.integers(1, 3000))
def test_the_sample_is_fixed_sorted_and_without_repeats(count, points):
    ids = sample_ids(count, points)
    assert len(ids) == min(count, points)
    assert np.array_equal(ids, np.unique(ids))
    assert not len(ids) or (ids[0] >= 0 and ids[-1] < count)
    assert np.array_equal(ids, sample_ids(count, points))


def test_sampled_features_are_the_rows_of_all_splits_and_backbones_at_unit_length(tmp_path):
    generator = np.random.default_rng(0)
    full, files = [], []
    for backbone, dimension in (("a", 3), ("b", 5)):
        parts = [generator.normal(size=(n, dimension)).astype(np.float16) for n in (20, 11)]
        files.append([tmp_path / f"{backbone}-{split}.npy" for split in ("train", "test")])
        for path, part in zip(files[-1], parts):
            write_array(path, part)
        rows = np.concatenate(parts).astype(np.float64)
        full.append(rows / np.linalg.norm(rows, axis=1, keepdims=True))
    ids, features = read_features(files, 13)
    assert features.dtype == np.float32
    assert np.allclose(features, np.concatenate(full, axis=1)[ids], atol=1e-6)
    everything, _ = read_features(files, 1000)
    assert np.array_equal(everything, np.arange(31))


def test_backbones_of_different_images_are_refused(tmp_path):
    for name, count in (("a", 4), ("b", 5)):
        write_array(tmp_path / f"{name}.npy", np.ones((count, 2), np.float16))
    with pytest.raises(DeepclustError, match=r"\[4, 5\]"):
        read_features([[tmp_path / "a.npy"], [tmp_path / "b.npy"]], 10)


@pytest.fixture(scope="module")
def blobs():
    generator = np.random.default_rng(1)
    labels = np.arange(150) % 3
    features = generator.normal(size=(3, 64))[labels] * 3 + generator.normal(size=(150, 64))
    return (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32), labels


def test_neighbors_stay_neighbors(blobs):
    features, labels = blobs
    xy = project(features, perplexity=15)
    assert xy.shape == (150, 2) and xy.dtype == np.float32
    assert KNeighborsClassifier(5).fit(xy, labels).score(xy, labels) > 0.98


def test_the_same_features_give_the_same_map(blobs):
    features, _ = blobs
    assert np.array_equal(project(features[:60], 10), project(features[:60], 10))


@pytest.mark.parametrize(("count", "dimension"), [(1, 4), (2, 4), (5, 1), (9, 3), (12, 1), (12, 2)])
def test_few_images_and_few_dimensions_have_a_map_too(count, dimension):
    features = np.random.default_rng(0).normal(size=(count, dimension)).astype(np.float32)
    xy = project(features, 30)
    assert xy.shape == (count, 2)
    assert np.isfinite(xy).all()


def test_equal_features_have_a_map_too():
    assert np.isfinite(project(np.ones((30, 8), np.float32), 30)).all()


def test_diverged_features_are_refused():
    with pytest.raises(DeepclustError, match="finite"):
        project(np.full((20, 4), np.nan, np.float32), 5)


def test_a_map_is_read_as_it_was_written(tmp_path):
    ids, xy = np.array([1, 5]), np.array([[0.5, 1], [2, 3]], np.float32)
    write_map(tmp_path / "map.safetensors", ids, xy)
    read_ids, read_xy = read_map(tmp_path / "map.safetensors")
    assert np.array_equal(ids, read_ids) and np.array_equal(xy, read_xy)
