"""Scores of snapshots: by the functions, and by the command on a backbone that tells classes apart or does not."""

import json

import numpy as np
import pytest
import torch
from commands import run_command
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from deepclust.core.files import write_array, write_json
from deepclust.core.images import write_raw
from deepclust.core.progress import Progress
from deepclust.evaluation.inputs import UNKNOWN
from deepclust.evaluation.options import ProbeOptions
from deepclust.evaluation.probes import Split
from deepclust.evaluation.snapshots import cluster_scores, probe_scores
from deepclust.models.model import SPEC_KEYS, save_model
from deepclust.models.networks import build_network
from deepclust.pretraining.engine.native import NativeHead, write_native


@pytest.fixture
def split(tmp_path):
    def write(features, labels):
        write_array(tmp_path / "features.npy", np.asarray(features, np.float32))
        write_array(tmp_path / "labels.npy", np.asarray(labels, np.int32))
        return Split((tmp_path / "features.npy",), tmp_path / "labels.npy")

    return write


def test_images_of_unknown_class_do_not_count(split):
    random = np.random.default_rng(0)
    labels, clusters = random.integers(3, size=200), random.integers(4, size=200)
    hidden = np.where(np.arange(200) < 50, UNKNOWN, labels)
    scores = cluster_scores(split(np.ones((200, 2)), hidden), {"kmeans": clusters})["kmeans"]
    assert scores.keys() == {"acc", "nmi", "ari"}
    assert scores["nmi"] == pytest.approx(normalized_mutual_info_score(labels[50:], clusters[50:]))
    assert scores["ari"] == pytest.approx(adjusted_rand_score(labels[50:], clusters[50:]))


def test_without_labels_there_is_nothing_to_score(split):
    unlabelled = split(np.ones((20, 2)), np.full(20, UNKNOWN))
    assert cluster_scores(unlabelled, {"native": np.zeros(20, int)}) == {}
    scores = probe_scores(unlabelled, unlabelled, ProbeOptions(), linear=True, progress=Progress())
    assert scores == {"knn_acc": None, "linear_acc": None}


def test_the_command_scores_every_snapshot(tmp_path):
    """Images of two shades; the network's own clusters know them at epoch 2 and call all images one cluster before."""
    shades = np.arange(40) % 2
    pixels = (60 + 140 * shades).astype(np.uint8).repeat(64).reshape(40, 1, 8, 8)
    write_raw(tmp_path / "images", [pixels], (1, 8, 8))
    write_array(tmp_path / "labels.npy", shades.astype(np.int32))
    write_json(tmp_path / "classes.json", ["dark", "light"])
    architecture = {"name": "resnet10_w32", "stem": "stl", "in_channels": 1}
    torch.manual_seed(0)
    network = build_network(architecture)
    features = network.eval()(torch.from_numpy(pixels[:2] / np.float32(255))).detach()
    between = torch.stack([features[0] - features[1], features[1] - features[0]])
    spec = dict.fromkeys(SPEC_KEYS) | {
        "architecture": architecture,
        "interpolation": "bilinear",
        "crop_fraction": 1.0,
        "pooling": "avg",
        "feature_dim": network.feature_dim,
    }
    for epoch, bias in ((0, torch.tensor([1e6, 0.0])), (2, -between @ features.mean(0))):
        model = tmp_path / "snapshots" / f"epoch-{epoch}" / "model.json"
        save_model(model, network, spec)
        write_native(model.with_name("native.safetensors"), NativeHead(torch.nn.Sequential(), between, bias, False))
    files = {"input.snapshots": "snapshots", "input.classes": "classes.json", "output.scores": "scores.json"}
    files |= {f"input.images_{role}": "images/images.bin" for role in ("train", "score")}
    files |= {f"input.labels_{role}": "labels.npy" for role in ("train", "score")}
    words = [word for name, file in files.items() for word in (f"--{name}", tmp_path / file)]
    done = run_command("score_snapshots", "--threads", "1", *words)
    assert done.returncode == 0, done.stderr
    first, last = json.loads((tmp_path / "scores.json").read_text())["epochs"]
    assert (first["epoch"], last["epoch"]) == (0, 2)
    assert first["native"] == {"acc": 0.5, "nmi": 0, "ari": 0}
    assert last["native"] == pytest.approx({"acc": 1, "nmi": 1, "ari": 1})
    assert first["kmeans"] == last["kmeans"] == pytest.approx({"acc": 1, "nmi": 1, "ari": 1})
    assert last["knn_acc"] == 1 and last["linear_acc"] is None
    assert not list(tmp_path.glob(".state*"))
