"""Trainings that are killed in the middle of k-means go on as if nothing had happened, by one process and by two."""

import itertools
import json
import os
import signal
import tempfile
from pathlib import Path

import pytest
import torch

from deepclust.common.images import Images
from deepclust.common.progress import Progress
from deepclust.pretraining import deepcluster, deepcluster_v2, engine, streamed_kmeans, whitening
from deepclust.pretraining.distributed import team_of_environment

COMMON = {"dataset": "noise", "architecture": "resnet10_w32", "epochs": 3, "batch_size": 16, "precision": "fp32"}
SMALL = {
    "deepcluster": (deepcluster, {"clusters": 7, "components": 5, "sobel": False, "iterations": 4}),
    "deepcluster_v2": (
        deepcluster_v2,
        {"clusters": 6, "heads": 2, "projection_hidden": 16, "projection_dim": 8, "iterations": 2},
    ),
}
PASSES = {"deepcluster": 4 + 1, "deepcluster_v2": 2 * (2 + 1)}  # over the rows, in an epoch


def train(name, images, out, last):
    """Train, with rows in files in `out`/scratch; the last process kills itself in pass `last` over the rows."""
    module, options = SMALL[name]
    options = module.Options(**COMMON | options)
    out = Path(out)
    tempfile.tempdir, whitening.MEMORY = str(out / "scratch"), 0
    passes, blocks = itertools.count(1), streamed_kmeans._blocks
    with team_of_environment(torch.device("cpu")) as team:

        def until_the_end(*arguments):
            for block in blocks(*arguments):
                yield block
                if next(passes) == last and team.rank == team.count - 1:
                    os.kill(os.getpid(), signal.SIGKILL)

        streamed_kmeans._blocks = until_the_end
        written = [out / file for file in ("model.json", "training.jsonl", "tensorboard", "snapshots")]
        files = engine.Files([Images(Path(images))], None, *written)
        session = engine.Session(torch.device("cpu"), Progress(hidden=True), "0", 1e-9, lambda stop: None, team)
        engine.pretrain(name, module, options, files, session)
        team.wait()


def records(folder):
    lines = (folder / "training.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if "second" not in key} for line in lines]


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("name", SMALL)
def test_killed_in_the_middle_of_k_means(teams, tmp_path, images, name, count):
    """In the first epoch, where there is no checkpoint yet, and in the third, after one of its very start."""
    whole, folder, log = tmp_path / "whole", tmp_path / "killed", tmp_path / "log"
    for each in (whole, folder):
        (each / "scratch").mkdir(parents=True)
    teams.call(count, log, train, name, str(images.folder), str(whole), 0)
    for last in (2, 2 * PASSES[name] + 3):
        arguments = [name, str(images.folder), str(folder), last]
        teams.start(count, log, module=__name__, function="train", arguments=arguments)
        assert teams.wait() == [1] * (count - 1) + [-signal.SIGKILL], log.read_text()
        assert list((folder / "scratch").iterdir()) == []
    assert "continuing" not in log.read_text()
    teams.call(count, log, train, name, str(images.folder), str(folder), 0)
    assert "epoch 3, step 0" in log.read_text()
    assert (folder / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert records(folder) == records(whole)
