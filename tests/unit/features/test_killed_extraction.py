import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from deepclust.core.fingerprint import SCRIPTS
from deepclust.core.images import write_raw
from deepclust.models.description import SPEC_KEYS
from deepclust.models.model import save_model
from deepclust.models.networks import build_network

ARCHITECTURE = {"name": "resnet10_w32", "stem": "cifar", "in_channels": 3}


ENVIRONMENT = {**os.environ, "DEEPCLUST_DEVICE": "cpu"}


def command(folder, output):
    flags = {
        "input.images": "images/images.bin",
        "input.model": "model/model.json",
        "output.features": output,
        "progress": f"{output}.progress",
    }
    words = [word for name, value in flags.items() for word in (f"--{name}", str(folder / value))]
    return [sys.executable, str(SCRIPTS / "extract_features.py"), "--threads", "1", *words]


@pytest.fixture
def prepared(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (400, 3, 96, 96), np.uint8)
    write_raw(tmp_path / "images", [values], (3, 96, 96))
    torch.manual_seed(0)
    spec = dict.fromkeys(SPEC_KEYS) | {"architecture": ARCHITECTURE, "interpolation": "bilinear"}
    spec |= {"crop_fraction": 1.0, "pooling": "avg", "feature_dim": 256}
    save_model(tmp_path / "model" / "model.json", build_network(ARCHITECTURE), spec)
    return tmp_path


def test_killed_at_any_moment_it_continues_to_the_same_bits(prepared):
    whole, output = prepared / "whole" / "features.npy", prepared / "killed" / "features.npy"
    subprocess.run(command(prepared, "whole/features.npy"), check=True, env=ENVIRONMENT, timeout=120)

    def saved_rows():
        markers = list(output.parent.glob(".state-*/progress.json"))
        return json.loads(markers[0].read_text())["rows"] if markers else 0

    kills, seen = 0, 0
    while not output.exists():
        process = subprocess.Popen(command(prepared, "killed/features.npy"), env=ENVIRONMENT)
        while process.poll() is None and (kills == 2 or saved_rows() <= seen):
            time.sleep(0.01)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills, seen = kills + 1, saved_rows()
        assert process.wait() in (0, -signal.SIGKILL)
    assert kills >= 1
    assert 0 < seen < 400
    assert output.read_bytes() == whole.read_bytes()
    assert not list(output.parent.glob(".state-*"))
