"""Clusters of arrays are those that the workflow finds; bad input is one line."""

import json
import subprocess
import sys
import warnings

import numpy as np
import pytest
from sklearn.datasets import load_digits, make_blobs

import deepclust
from deepclust.core.errors import DeepclustError
from deepclust.core.files import write_tensors
from deepclust.core.fingerprint import SCRIPTS
from deepclust.core.registry import files
from deepclust.heads.kit.store import METADATA, read_tensors

FEATURES, CLASSES = make_blobs(90, 6, centers=3, random_state=1, cluster_std=0.5)
FEATURES = FEATURES.astype(np.float32)
TRAINED = {"neighbors": 5, "epochs": 2, "batch_size": 45}
QUICK = {
    "agglomerative": {"neighbors": 5},
    "scan": {**TRAINED, "heads": 1},
    "spectral": {"neighbors": 5},
    "temi": {**TRAINED, "heads": 2},
    "turtle": {"steps": 3},
    "two_stage": TRAINED,
    "umap": {"neighbors": 5, "epochs": 20},
}
ONLY_IN_THE_WORKFLOW = {"consensus", "native"}


def test_same_clusters_as_the_command(tmp_path):
    features = load_digits().data.astype(np.float32)
    np.save(tmp_path / "f.npy", features)
    words = ["--method", "kmeans", "--k", "10", "--seeds", "0", "1", "--train", "train", "--splits", "train"]
    words += ["--backbones", "pixels", "--n_init", "2", "--input.features", "f.npy"]
    words += ["--output.clusters", "clusters.safetensors", "--output.seeds", "seeds.json"]
    command = [sys.executable, str(SCRIPTS / "cluster.py"), *words]
    subprocess.run(command, cwd=tmp_path, check=True)
    found = deepclust.cluster(features, 10, seeds=2, n_init=2)
    description, tensors = read_tensors(tmp_path / "clusters.safetensors")
    assert description["selected"] == found.description["selected"]
    seed = f"seed{description['selected']}"
    assert np.array_equal(found.labels_, tensors[f"{seed}/assignments/train"])
    assert np.array_equal(found.weights["centroids"], tensors[f"{seed}/weights/centroids"])
    assert np.array_equal(found.predict(features), found.labels_)
    loaded = deepclust.load(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(loaded.predict(features), found.labels_)
    with pytest.raises(DeepclustError, match=r"does not say what pixels was"):  # nothing told whose features they are
        loaded.predict(tmp_path / "f.npy")
    assert set(deepclust.load(tmp_path, seed=1).predict(features)) == set(range(10))


def test_a_chosen_seed_reads_files_as_arrays(tmp_path):
    features = load_digits().data.astype(np.float32)
    found = deepclust.cluster(features, 10, seeds=1)
    path = tmp_path / "features.npy"
    np.save(path, features)
    (tmp_path / "features.provenance.json").write_text('{"options": {"identity": "mine"}}')
    weights = {
        f"seed{seed}/weights/{name}": array[:: 1 - 2 * seed].copy()
        for seed in (0, 1)
        for name, array in found.weights.items()
    }  # the second has its clusters in the opposite order
    description = found.description | {"identities": ["mine"], "selected": 0}
    write_tensors(tmp_path / "clusters.safetensors", weights, {METADATA: json.dumps(description)})
    for seed, expected in ((None, found.labels_), (0, found.labels_), (1, 9 - found.labels_)):
        head = deepclust.load(tmp_path, seed=seed)
        assert np.array_equal(head.predict(str(path)), head.predict(features))
        assert np.array_equal(head.predict(path), expected)


@pytest.mark.parametrize("head", [path.stem for path in files("heads")])
def test_every_head_that_reads_features_alone(head):
    if head in ONLY_IN_THE_WORKFLOW:
        with pytest.raises(DeepclustError, match="run it in the workflow"):
            deepclust.cluster(FEATURES, 3, head)
        return
    found = deepclust.cluster(FEATURES, 3, head, seeds=2, **QUICK.get(head, {}))
    assert found.labels_.shape == (90,) and len(found.seeds) == 2
    assert found.predict(FEATURES).dtype == np.int32


def test_several_backbones():
    found = deepclust.cluster([FEATURES, FEATURES[:, :2]], 3, seeds=1)
    assert deepclust.score(CLASSES, found.labels_)["acc"] == 1
    assert np.array_equal(found.predict((FEATURES, FEATURES[:, :2])), found.labels_)
    with pytest.raises(DeepclustError, match=r"dimensions \[6, 2\]|\[6, 2\] dimensions"):
        found.predict(FEATURES)


def test_probabilities():
    found = deepclust.cluster(FEATURES, 3, "gmm", seeds=1)
    assert found.probabilities_.shape == (90, 3)
    assert np.array_equal(found.predict_proba(FEATURES).argmax(axis=1), found.labels_)
    assert deepclust.cluster(FEATURES, 3, seeds=1).predict_proba(FEATURES) is None


def test_what_kind_of_numbers_does_not_matter():
    expected = deepclust.cluster(FEATURES, 3, seeds=1).labels_
    for features in (FEATURES.astype(np.float64), FEATURES.tolist(), FEATURES.astype(np.float64).tolist()):
        assert np.array_equal(deepclust.cluster(features, 3, seeds=1).labels_, expected)


BROKEN = FEATURES.copy()
BROKEN[4, 1] = np.nan


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((BROKEN, 3), {}, "1 images, the first in row 4, have NaN"),
        ((FEATURES * 1e16, 3), {}, "90 images, the first in row 0"),
        ((FEATURES.astype(np.float64) * 1e50, 3), {}, "infinite values"),
        ((FEATURES, 91), {}, "91 clusters need at least 91 images, there are 90"),
        ((FEATURES, 0), {}, "k must be a number of clusters, 1 or more, not 0"),
        ((FEATURES, 2.5), {}, "not 2.5"),
        ((FEATURES, True), {}, "not True"),
        ((FEATURES[0], 3), {}, r"the shape \[images, dimensions\], not \[6\]"),
        ((FEATURES[None], 3), {}, r"not \[1, 90, 6\]"),
        ((FEATURES[:0], 3), {}, r"not \[0, 6\]"),
        ((["cat", "dog"], 2), {}, "must be numbers"),
        ((FEATURES.astype(str), 2), {}, "must be numbers"),
        (([[1, 2], [3]], 2), {}, "must be numbers"),
        (("features.npy", 2), {}, "must be numbers"),
        (([FEATURES, FEATURES[:50]], 2), {}, "these have 50, 90 rows"),
        ((FEATURES, 3, "kmean"), {}, "unknown head 'kmean'; did you mean 'kmeans'?"),
        ((FEATURES, 3, "kit"), {}, "unknown head 'kit'"),
        ((FEATURES, 3), {"n_inits": 3}, "the head kmeans has no option 'n_inits'; did you mean 'n_init'?"),
        ((FEATURES, 3), {"n_init": 0}, "options of the head kmeans: n_init: Input should be greater"),
        ((FEATURES, 3), {"seeds": 0}, "seeds must be their number"),
        ((FEATURES, 3), {"seeds": [1, 1]}, "different numbers"),
        ((FEATURES, 3), {"seeds": "ab"}, "seeds must be"),
        ((np.ones((9, 2)), 3), {}, "kmeans found no clusters with any seed: only 1 of 3 clusters have points"),
    ],
)
def test_bad_input_is_one_line(arguments, options, message):
    with pytest.raises(DeepclustError, match=message.replace("?", r"\?")) as caught:
        deepclust.cluster(*arguments, **options)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_loaded(tmp_path):
    with pytest.raises(DeepclustError, match="is missing"):
        deepclust.load(tmp_path)
    (tmp_path / "clusters.safetensors").write_bytes(b"nothing")
    with pytest.raises(DeepclustError, match="is damaged"):
        deepclust.load(tmp_path / "clusters.safetensors")
    deepclust.cluster(FEATURES, 3, seeds=1).save(tmp_path / "saved.safetensors")
    with pytest.raises(DeepclustError, match="no result of seed 7"):
        deepclust.load(tmp_path / "saved.safetensors", seed=7)


def test_scores():
    perfect = deepclust.score(["a", "b", "b", "c"], [2, 0, 0, 1])
    assert perfect == {"acc": 1, "nmi": pytest.approx(1), "ari": 1, "ami": pytest.approx(1), "purity": 1}
    assert deepclust.score([0, 0, 1, -1], [5, 5, 5, 9])["acc"] == pytest.approx(2 / 3)
    for y, labels, message in (
        ([0, 1], [0], "classes of 2 images, and clusters of 1"),
        ([-1], [0], "no image has a known class"),
        ([0.5], [0], "classes must be whole numbers or texts"),
        ([0], ["a"], "clusters must be whole numbers"),
        ([], [], "classes must be|no image"),
    ):
        with pytest.raises(DeepclustError, match=message):
            deepclust.score(y, labels)
