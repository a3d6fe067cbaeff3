"""Real images through one network, fetched from the hub, from another server and from a file."""

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save

from deepclust.backbones.pretrained import Options, fetch
from deepclust.common.images import Images, write_raw
from deepclust.common.progress import Progress
from deepclust.data.downloading import download
from deepclust.features.extract import extract
from deepclust.features.options import ExtractionOptions
from hub_server import Repository
from tiny_vit import TINY

ROOT = Path(__file__).resolve().parents[3]
SCRIPTS = ROOT / "workflow" / "scripts"
ARCHIVE = ROOT.parent / "shared" / "data" / "cifar-10-binary.tar.gz"
COUNT = 300
NETWORK = {"model": "vit_tiny_patch16_224", "arguments": TINY, "pooling": "class+avg"}


@pytest.fixture
def cifar(shared_archive, tmp_path):
    """The first images of CIFAR-10's test split, prepared."""
    with tarfile.open(shared_archive) as file:
        records = file.extractfile("cifar-10-batches-bin/test_batch.bin").read(COUNT * 3073)
    images = np.frombuffer(records, np.uint8).reshape(COUNT, 3073)[:, 1:].reshape(COUNT, 3, 32, 32)
    write_raw(tmp_path / "images", [images], (3, 32, 32))
    return Images(tmp_path / "images")


@pytest.fixture
def shared_archive():
    if not ARCHIVE.is_file():
        if os.environ.get("DEEPCLUST_REQUIRE_SHARED"):
            pytest.fail(f"{ARCHIVE} is missing")
        pytest.skip(f"no {ARCHIVE}")
    return ARCHIVE


def test_the_same_features_to_the_bit_from_hub_server_and_file(hub, vit, cifar, tmp_path):
    safetensors, checkpoint = save(vit.state_dict()), tmp_path / "checkpoint.pth"
    torch.save({"teacher": {f"backbone.{k}": v for k, v in vit.state_dict().items()}, "epoch": 9}, checkpoint)
    hub.repositories["team/vit"] = repository = Repository()
    repository.commit(model__safetensors=safetensors)
    hub.files["weights/checkpoint.pth"] = checkpoint.read_bytes()
    address = f"{hub.endpoint}/weights/checkpoint.pth"

    words = ["--weights", "hf://team/vit", "--model", NETWORK["model"], "--pooling", NETWORK["pooling"]]
    words += ["--arguments", json.dumps(TINY), "--output", "hub/model.json"]
    environment = {**os.environ, **hub.environment(tmp_path / "cache")}
    command = [sys.executable, SCRIPTS / "fetch_weights.py", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr

    pins = tmp_path / "resources" / "weights"
    downloaded = tmp_path / "downloaded.pth"
    download([address], downloaded, None, Progress())
    for way, weights, file in (("server", address, downloaded), ("file", str(checkpoint), checkpoint)):
        fetch(Options(weights=weights, **NETWORK), file, pins, tmp_path / way / "model.json", Progress())

    features = {}
    for way in ("hub", "server", "file"):
        output = tmp_path / way / "features.npy"
        model = tmp_path / way / "model.json"
        cpu = [torch.device("cpu")]
        extract(cifar, model, output, ExtractionOptions(), devices=cpu, code="", progress=Progress())
        features[way] = np.load(output)
    assert features["hub"].shape == (COUNT, 48)
    assert len(np.unique(features["hub"], axis=0)) == COUNT
    for way in ("server", "file"):
        assert (tmp_path / way / "model.safetensors").read_bytes() == (tmp_path / "hub/model.safetensors").read_bytes()
        assert features[way].tobytes() == features["hub"].tobytes()
    assert {json.loads(path.read_text())["weights"] for path in pins.iterdir()} == {"hf://team/vit", address}
