import os
from pathlib import Path

import numpy as np
import pytest

from deepclust.core.errors import DeepclustError
from deepclust.core.files import write_array
from deepclust.core.progress import Progress
from deepclust.evaluation import probes
from deepclust.evaluation.options import ProbeOptions
from deepclust.evaluation.probes import Split, probe

SHARED = Path(os.environ.get("DEEPCLUST_SHARED", Path(__file__).resolve().parents[4] / "shared"))


@pytest.fixture
def split(tmp_path):
    def write(name, features, labels):
        features = features if isinstance(features, list) else [features]
        paths = tuple(tmp_path / f"{name}{i}.npy" for i in range(len(features)))
        for path, array in zip(paths, features):
            write_array(path, array.astype(np.float32))
        write_array(tmp_path / f"{name}.labels.npy", np.asarray(labels, np.int32))
        return Split(paths, tmp_path / f"{name}.labels.npy")

    return write


def measure(train, score, **options):
    return probe(train, score, ProbeOptions(**options), Progress())


def blobs(images, seed, noise=0.6, classes=4, dimension=8):
    generator = np.random.default_rng(seed)
    labels = generator.integers(classes, size=images)
    centres = np.random.default_rng(0).normal(size=(classes, dimension)) + 1
    return centres[labels] + generator.normal(0, noise, size=(images, dimension)), labels


def plain_knn(train, train_labels, features, labels, k, itself):
    """Weighted k-NN (Wu et al. 2018), one image at a time."""
    train, features = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (train, features))
    right = 0
    for i, feature in enumerate(features):
        similarity = train @ feature
        order = [j for j in np.argsort(-similarity) if not (itself and i == j)][:k]
        votes = np.zeros(train_labels.max() + 1)
        for j in order:
            votes[train_labels[j]] += np.exp(similarity[j] / 0.07)
        right += votes.argmax() == labels[i]
    return right / len(features)


@pytest.mark.parametrize("k", [1, 5, 1000])
def test_knn_by_definition(split, k):
    train, score = blobs(150, 1), blobs(90, 2)
    result = measure([split("train", *train)], [split("test", *score)], knn=k)
    assert result["knn_acc"] == pytest.approx(plain_knn(*train, *score, k, itself=False), abs=1e-12)
    assert (result["n_train"], result["n_score"], result["knn"], result["cross_validated"]) == (150, 90, k, False)


@pytest.mark.parametrize("k", [1, 5, 1000])
def test_knn_leaves_an_image_out_of_its_own_vote(split, k, monkeypatch):
    monkeypatch.setattr(probes, "BLOCK", 64)
    data = blobs(150, 1)
    files = split("all", *data)
    result = measure([files], [files], knn=k)
    assert result["knn_acc"] == pytest.approx(plain_knn(*data, *data, k, itself=True), abs=1e-12)
    assert result["cross_validated"]


def test_linear_probe_reads_linear_classes(split):
    train, score = blobs(300, 1, noise=0.2), blobs(200, 2, noise=0.2)
    assert measure([split("train", *train)], [split("test", *score)])["linear_acc"] > 0.98


@pytest.mark.parametrize("scored", ["train", "both"])
def test_nothing_is_learned_from_the_scored_images(split, scored):
    """Random labels can be memorised in many dimensions; an honest score of them is chance."""
    generator = np.random.default_rng(3)
    train = split("train", generator.normal(size=(200, 150)), generator.integers(2, size=200))
    test = split("test", generator.normal(size=(100, 150)), generator.integers(2, size=100))
    result = measure([train], [train] if scored == "train" else [train, test])
    assert result["cross_validated"]
    assert result["n_train"] == 200
    assert 0.35 < result["knn_acc"] < 0.65
    assert 0.35 < result["linear_acc"] < 0.65


def test_unlabelled_images_are_ignored(split):
    (features, labels), score = blobs(150, 1), blobs(90, 2)
    junk = np.full((50, features.shape[1]), -1.0)
    mixed = np.insert(features, np.arange(50), junk, axis=0), np.insert(labels, np.arange(50), -1)
    plain = measure([split("plain", features, labels)], [split("test", *score)])
    assert measure([split("mixed", *mixed)], [split("test", *score)]) == plain


def test_several_splits_are_one_set(split):
    (features, labels), score = blobs(150, 1), split("test", *blobs(90, 2))
    parts = [split("first", features[:60], labels[:60]), split("second", features[60:], labels[60:])]
    assert measure(parts, [score]) == measure([split("whole", features, labels)], [score])


def test_several_backbones_complete_each_other(split):
    """Each backbone tells one of two bits of the class."""
    generator = np.random.default_rng(4)

    def bits(images):
        labels = generator.integers(4, size=images)
        noise = generator.normal(0, 0.3, size=(2, images, 3))
        return [np.eye(3)[labels // 2] + noise[0], 100 * (np.eye(3)[labels % 2] + noise[1])], labels

    result = measure([split("train", *bits(300))], [split("test", *bits(200))])
    assert result["knn_acc"] > 0.9
    assert result["linear_acc"] > 0.9


@pytest.mark.parametrize(("train", "score"), [(-1, 0), (0, -1), (-1, -1)])
def test_without_labels_there_are_no_ceilings(split, train, score):
    features = np.random.default_rng(5).normal(size=(20, 3))
    result = measure([split("train", features, [train] * 20)], [split("test", features, [score] * 20)])
    assert (result["knn_acc"], result["linear_acc"]) == (None, None)


def test_a_single_class_has_no_linear_probe(split):
    features = np.random.default_rng(5).normal(size=(20, 3))
    result = measure([split("train", features, [0] * 20)], [split("test", features, [0] * 20)])
    assert (result["knn_acc"], result["linear_acc"]) == (1.0, None)


def test_a_single_image(split):
    files = split("all", np.ones((1, 3)), [0])
    result = measure([files], [files])
    assert (result["knn_acc"], result["linear_acc"], result["n_train"]) == (None, None, 1)


def test_large_sets_are_sampled(split):
    train, score = split("train", *blobs(1000, 1)), split("test", *blobs(600, 2))
    small, whole = measure([train], [score], samples=200), measure([train], [score])
    assert (small["n_train"], small["n_score"], whole["n_score"]) == (1000, 200, 600)
    assert small == measure([train], [score], samples=200)
    assert small["linear_acc"] == pytest.approx(whole["linear_acc"], abs=0.1)


def test_files_that_do_not_belong_together(split):
    features, labels = blobs(20, 1)
    good = split("good", features, labels)
    with pytest.raises(DeepclustError, match=r"short0\.npy: 20"):
        measure([split("short", features, labels[:10])], [good])
    with pytest.raises(DeepclustError, match="dimensions"):
        measure([split("narrow", features[:, :3], labels)], [good])


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared")
def test_ceilings_of_real_features(split):
    """All of CIFAR-10 gives 78 % and 84 %; a fifth of it is enough to tell that the numbers are right."""
    with np.load(SHARED / "data" / "cifar10_vits_features.npz") as data:
        train = split("train", data["x_train"][::5], data["y_train"][::5])
        test = split("test", data["x_test"][::5], data["y_test"][::5])
    result = measure([train], [test])
    assert result["knn_acc"] == pytest.approx(0.74, abs=0.03)
    assert result["linear_acc"] == pytest.approx(0.82, abs=0.03)
