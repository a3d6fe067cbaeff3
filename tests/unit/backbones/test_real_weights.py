"""Real images through one network, fetched from the hub, from another server and from a file."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save

from deepclust.backbones.pretrained import Options, fetch
from deepclust.core.images import Images, write_raw
from deepclust.core.progress import Progress
from deepclust.data.downloading import download
from deepclust.features.extract import extract
from deepclust.features.options import ExtractionOptions
from deepclust.models.model import Model
from hub_server import Repository
from tiny_vit import TINY

ROOT = Path(__file__).resolve().parents[3]
SCRIPTS = ROOT / "workflow" / "scripts"
ARCHIVE = ROOT.parent / "shared" / "data" / "cifar-10-binary.tar.gz"
SHIPPED = ROOT / "weights" / "cifar10-simclr-resnet10_w32"
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


def fetch_from_hub(hub, folder, *words):
    """The command with the real client of the hub."""
    command = [
        sys.executable,
        SCRIPTS / "fetch_weights.py",
        *words,
        "--method",
        "pretrained",
        "--output.model",
        "hub/model.json",
    ]
    environment = {**os.environ, **hub.environment(folder / "cache")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder)
    assert done.returncode == 0, done.stderr


def fetched(folder, name, address):
    """A file from a server, as rule `download` gets it."""
    download([address], folder / name, None, Progress())
    return folder / name


def features(cifar, model):
    output = model.parent / "features.npy"
    cpu = [torch.device("cpu")]
    extract(cifar, model, output, ExtractionOptions(), devices=cpu, code="", progress=Progress())
    return np.load(output)


def test_the_same_features_to_the_bit_from_hub_server_and_file(hub, vit, cifar, tmp_path):
    safetensors, checkpoint = save(vit.state_dict()), tmp_path / "checkpoint.pth"
    torch.save({"teacher": {f"backbone.{k}": v for k, v in vit.state_dict().items()}, "epoch": 9}, checkpoint)
    hub.repositories["team/vit"] = repository = Repository()
    repository.commit(model__safetensors=safetensors)
    hub.files["weights/checkpoint.pth"] = checkpoint.read_bytes()
    address = f"{hub.endpoint}/weights/checkpoint.pth"

    words = ["--model", NETWORK["model"], "--pooling", NETWORK["pooling"], "--arguments", json.dumps(TINY)]
    fetch_from_hub(hub, tmp_path, "--weights", "hf://team/vit", *words)
    pins, downloaded = tmp_path / "resources" / "weights", fetched(tmp_path, "downloaded.pth", address)
    for way, weights, file in (("server", address, downloaded), ("file", str(checkpoint), checkpoint)):
        fetch(Options(weights=weights, **NETWORK), file, pins, tmp_path / way / "model.json", Progress())

    found = {way: features(cifar, tmp_path / way / "model.json") for way in ("hub", "server", "file")}
    assert found["hub"].shape == (COUNT, 48)
    assert len(np.unique(found["hub"], axis=0)) == COUNT
    for way in ("server", "file"):
        assert (tmp_path / way / "model.safetensors").read_bytes() == (tmp_path / "hub/model.safetensors").read_bytes()
        assert found[way].tobytes() == found["hub"].tobytes()
    assert {json.loads(path.read_text())["weights"] for path in pins.iterdir()} == {"hf://team/vit", address}


def test_the_shipped_backbone_from_hub_server_and_file(hub, cifar, tmp_path):
    """Self-supervised features, the same to the bit as of the original; its description says all that is needed."""
    description, tensors = SHIPPED / "model.json", SHIPPED / "model.safetensors"
    hub.repositories["team/simclr"] = repository = Repository()
    commit = repository.commit(model__json=description.read_bytes(), model__safetensors=tensors.read_bytes())
    for file in (description, tensors):
        hub.files[f"own/{file.name}"] = file.read_bytes()
    address = f"{hub.endpoint}/own/model.json"

    fetch_from_hub(hub, tmp_path, "--weights", "hf://team/simclr/model.json")
    repository.commit(model__json=b"{}", model__safetensors=b"")  # a later commit of the repository changes nothing
    (tmp_path / "cache").rename(tmp_path / "elsewhere")
    fetch_from_hub(hub, tmp_path, "--weights", "hf://team/simclr/model.json")
    pins = tmp_path / "resources" / "weights"
    downloaded = [
        fetched(tmp_path, f"downloaded.{file.name}", f"{hub.endpoint}/own/{file.name}")
        for file in (description, tensors)
    ]
    fetch(Options(weights=address), downloaded[0], pins, tmp_path / "server" / "model.json", Progress(), downloaded[1])
    fetch(Options(weights=str(description)), description, pins, tmp_path / "file" / "model.json", Progress())

    original = Model.load(description, torch.device("cpu"))
    shutil.copytree(SHIPPED, tmp_path / "original")
    expected = features(cifar, tmp_path / "original" / "model.json")
    assert expected.shape == (COUNT, original.spec["feature_dim"])
    for way in ("hub", "server", "file"):
        made = tmp_path / way / "model.json"
        assert made.with_name(tensors.name).read_bytes() == tensors.read_bytes()
        assert features(cifar, made).tobytes() == expected.tobytes()
        spec = json.loads(made.read_text())
        assert {key for key in spec if spec[key] != original.spec[key]} == {"origin"}
    assert json.loads((tmp_path / "hub" / "model.json").read_text())["origin"]["revision"] == commit
    assert {json.loads(path.read_text())["weights"] for path in pins.iterdir()} == {
        "hf://team/simclr/model.json",
        address,
    }
