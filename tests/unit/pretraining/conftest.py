"""Small images and a small training that the tests of this room share."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from teams import Teams

from deepclust.core.images import Images, write_raw
from deepclust.core.progress import Progress
from deepclust.pretraining import simclr
from deepclust.pretraining.engine import pretraining as engine

COUNT = 40
# What is watched of every method that clusters, without labels, from the second epoch on.
MONITORS = {
    *("loss", "feature_std", "mean_max_probability", "agreement"),
    *("cluster_min", "cluster_max", "cluster_entropy", "empty_clusters"),
}


def goes_on_from_clusters(module):
    return getattr(getattr(module, "FACTS", None), "needs_clusters", False)


@pytest.fixture
def monitors():
    """Names of the monitors that every method that clusters logs."""
    return MONITORS


@pytest.fixture(scope="session")
def teams():
    """Starts processes that train together; one for all tests of this room, because it imports so much."""
    made = Teams()
    yield made
    made.close()


@pytest.fixture
def images(tmp_path):
    """40 grey images of 8x8 pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (COUNT, 1, 8, 8), dtype=np.uint8)
    write_raw(tmp_path / "images", [pixels], (1, 8, 8))
    return Images(tmp_path / "images")


@pytest.fixture
def train(tmp_path, images):
    """Trains in this process: `train(module, folder, **options)`; gives the folder that holds the backbone."""

    def run(module=simclr, name="backbone", session=None, splits=None, start_model=None, neighbors=(), **options):
        folder = tmp_path / name
        small = {"dataset": "noise", "architecture": "resnet10_w32", "epochs": 2, "batch_size": 16, "precision": "fp32"}
        facts = {
            "device": torch.device("cpu"),
            "progress": Progress(tmp_path / "progress"),
            "code": "0",
            "checkpoint_seconds": 1000,
            "listen": lambda stop: None,
        }
        files = engine.TrainingFiles(
            splits or [images],
            start_model,
            folder / "model.json",
            folder / "training.jsonl",
            folder / "tensorboard",
            folder / "snapshots",
            list(neighbors),
            start_model.with_name("native.safetensors") if start_model and goes_on_from_clusters(module) else None,
        )
        options = module.Options(**small | options)
        remove_state = engine.pretrain("method", module, options, files, engine.Session(**facts | (session or {})))
        remove_state()
        return SimpleNamespace(
            path=folder,
            weights=(folder / "model.safetensors").read_bytes(),
            states=sorted(folder.glob(".state-*")),
        )

    return run
