import numpy as np
import pytest

from deepclust.core.errors import DeepclustError
from deepclust.core.files import write_array, write_json, write_tensors
from deepclust.evaluation import inputs
from deepclust.evaluation.assignments import read_assignments
from deepclust.evaluation.inputs import read_class_names, read_labels, unit_features


@pytest.mark.parametrize("rows", [None, np.array([0, 3, 4, 9])])
def test_every_backbone_weighs_the_same(tmp_path, monkeypatch, rows):
    monkeypatch.setattr(inputs, "BLOCK", 3)
    generator = np.random.default_rng(0)
    first, second = generator.normal(size=(10, 4)), 1000 * generator.normal(size=(10, 2))
    files = [tmp_path / "a.npy", tmp_path / "b.npy"]
    write_array(files[0], first.astype(np.float32))
    write_array(files[1], second.astype(np.float16))
    found = np.concatenate(list(unit_features(files, rows)))
    cosines = [
        features @ features.T / np.outer(*[np.linalg.norm(features, axis=1)] * 2) for features in (first, second)
    ]
    expected = np.mean(cosines, axis=0)[np.ix_(*[np.arange(10) if rows is None else rows] * 2)]
    assert found.dtype == np.float32
    assert found @ found.T == pytest.approx(expected, abs=2e-3)


def test_zeros_stay_zero_and_large_features_do_not_overflow(tmp_path):
    write_array(tmp_path / "a.npy", np.array([[0, 0], [3e30, 4e30]], np.float32))
    (block,) = unit_features([tmp_path / "a.npy"])
    assert block == pytest.approx(np.array([[0, 0], [0.6, 0.8]]))


def test_features_that_are_not_finite(tmp_path):
    write_array(tmp_path / "a.npy", np.array([[1, np.nan]], np.float32))
    with pytest.raises(DeepclustError, match=r"a\.npy"):
        list(unit_features([tmp_path / "a.npy"]))


def test_features_of_different_lengths(tmp_path):
    for name, rows in (("a", 3), ("b", 4)):
        write_array(tmp_path / f"{name}.npy", np.ones((rows, 2), np.float32))
    with pytest.raises(DeepclustError, match=r"a\.npy: 3.*b\.npy: 4"):
        list(unit_features([tmp_path / "a.npy", tmp_path / "b.npy"]))


@pytest.mark.parametrize("content", [b"", b"not an array", None])
def test_damaged_arrays(tmp_path, content):
    path = tmp_path / "labels.npy"
    if content is None:
        write_array(path, np.arange(100, dtype=np.int32))
        content = path.read_bytes()[:-50]
    path.write_bytes(content)
    with pytest.raises(DeepclustError, match=r"labels\.npy"):
        read_labels(path)


@pytest.mark.parametrize("labels", [np.array([0.5]), np.array([[1]]), np.array([-2])])
def test_labels_that_are_none(tmp_path, labels):
    write_array(tmp_path / "labels.npy", labels)
    with pytest.raises(DeepclustError, match=r"labels\.npy"):
        read_labels(tmp_path / "labels.npy")


def test_class_names_of_several_splits(tmp_path):
    def read(*lists):
        paths = [tmp_path / f"{number}.json" for number in range(len(lists))]
        for path, names in zip(paths, lists, strict=True):
            write_json(path, names)
        return read_class_names(paths)

    assert read() == read([], []) == []
    assert read(["0", "1"], ["0", "1", "2"]) == read(["0", "1", "2"], ["0"], []) == ["0", "1", "2"]
    assert read(["cat", "dog"], ["cat", "dog"]) == ["cat", "dog"]
    with pytest.raises(DeepclustError, match=r"class 1 is 'cow' in .*0\.json but 'dog' in .*1\.json"):
        read(["cat", "cow"], ["cat", "dog", "eel"])


def test_assignments_by_split_and_seed(tmp_path):
    path = tmp_path / "clusters.safetensors"
    tensors = {
        f"seed{seed}/assignments/{split}": np.full(length, seed, np.int32)
        for seed in (0, 1, 3)
        for split, length in (("train", 5), ("test", 2))
    }
    write_tensors(path, tensors)
    test, train = read_assignments(path, [3, 0], ["test", "train"], k=4)
    assert test.tolist() == [[3, 3], [0, 0]]
    assert train.shape == (2, 5)
    with pytest.raises(DeepclustError, match="seed2"):
        read_assignments(path, [2], ["test"], k=4)
    with pytest.raises(DeepclustError, match="0 to 2"):
        read_assignments(path, [3], ["test"], k=3)
    write_tensors(tmp_path / "mixed", tensors | {"seed1/assignments/test": np.zeros(4, np.int32)})
    with pytest.raises(DeepclustError, match="2, 4 images of test"):
        read_assignments(tmp_path / "mixed", [0, 1], ["test"], k=4)
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(DeepclustError, match=r"clusters\.safetensors"):
        read_assignments(path, [3], ["test"], k=4)
