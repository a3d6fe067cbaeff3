"""Trainings that end in the middle of k-means go on as if nothing had happened, by one process and by two."""

import itertools
import json
import os
import signal
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from deepclust.core.errors import DeepclustError
from deepclust.core.images import Images
from deepclust.core.progress import Progress
from deepclust.pretraining import deepcluster, deepcluster_v2, simclr
from deepclust.pretraining.engine import pretraining as engine
from deepclust.pretraining.engine.checkpoint import load_state
from deepclust.pretraining.engine.distributed import team_of_environment
from deepclust.pretraining.parts import streamed_kmeans, whitening

COMMON = {"dataset": "noise", "architecture": "resnet10_w32", "epochs": 3, "batch_size": 16, "precision": "fp32"}
SMALL = {
    "deepcluster": (deepcluster, {"clusters": 7, "components": 5, "sobel": False, "iterations": 4}),
    "deepcluster_v2": (
        deepcluster_v2,
        {"clusters": 6, "heads": 2, "projection_hidden": 16, "projection_dim": 8, "iterations": 2},
    ),
}
PASSES = {"deepcluster": 4 + 1, "deepcluster_v2": 2 * (2 + 1)}  # over the rows, in an epoch


def train_and_end(name, images, out, last, number=signal.SIGKILL):
    """Train, with rows in files in `out`/scratch; the last process gets a signal in pass `last` over the rows."""
    module, options = SMALL[name]
    options = module.Options(**COMMON | options)
    out = Path(out)
    tempfile.tempdir, whitening.MEMORY = str(out / "scratch"), 0
    passes, blocks = itertools.count(1), streamed_kmeans._blocks
    with team_of_environment(torch.device("cpu")) as team:

        def until_the_end(*arguments):
            for block in blocks(*arguments):
                yield block
                done = next(passes)
                assert last == 0 or done <= last + 1  # nobody goes on for long
                if done == last and team.rank == team.count - 1:
                    os.kill(os.getpid(), number)

        streamed_kmeans._blocks = until_the_end
        written = [out / file for file in ("model.json", "training.jsonl", "tensorboard", "snapshots")]
        files = engine.TrainingFiles([Images(Path(images))], None, *written)
        session = engine.Session(torch.device("cpu"), Progress(hidden=True), "0", 1e-9, listen, team)
        engine.pretrain(name, module, options, files, session)
        team.barrier()


def listen(stop):
    signal.signal(signal.SIGTERM, lambda number, frame: stop(number))


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
    teams.call(count, log, train_and_end, name, str(images.folder), str(whole), 0)
    for last in (2, 2 * PASSES[name] + 3):
        arguments = [name, str(images.folder), str(folder), last]
        teams.start(count, log, module=__name__, function="train_and_end", arguments=arguments)
        assert teams.wait() == [1] * (count - 1) + [-signal.SIGKILL], log.read_text()
        assert list((folder / "scratch").iterdir()) == []
    assert "continuing" not in log.read_text()
    teams.call(count, log, train_and_end, name, str(images.folder), str(folder), 0)
    assert "epoch 3, step 0" in log.read_text()
    assert (folder / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert records(folder) == records(whole)


@pytest.mark.parametrize(("name", "count"), [("deepcluster", 1), ("deepcluster_v2", 2)])
def test_a_signal_in_the_middle_of_k_means_saves_the_start_of_the_epoch(teams, tmp_path, images, name, count):
    """In the first epoch and in the third; who gets it ends all."""
    whole, folder, log = tmp_path / "whole", tmp_path / "stopped", tmp_path / "log"
    for each in (whole, folder):
        (each / "scratch").mkdir(parents=True)
    teams.call(count, log, train_and_end, name, str(images.folder), str(whole), 0)
    for epoch, last in ((1, 1), (3, 2 * PASSES[name] + 1)):
        arguments = [name, str(images.folder), str(folder), last, signal.SIGTERM]
        teams.start(count, log, module=__name__, function="train_and_end", arguments=arguments)
        assert teams.wait() == [1] * count, log.read_text()
        assert f"stopped by signal 15 in epoch {epoch}: the state is saved" in log.read_text()
        log.unlink()
        (state,) = folder.glob(".state-*")
        assert len(list(state.glob("*.pt"))) > 0
    teams.call(count, log, train_and_end, name, str(images.folder), str(folder), 0)
    assert "epoch 3, step 0" in log.read_text()
    assert (folder / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert records(folder) == records(whole)


@pytest.mark.parametrize("name", SMALL)
def test_a_clustering_of_hours_ends_within_seconds(train, tmp_path, name):
    """10 s are promised."""
    module, options = SMALL[name]
    before, sent = signal.getsignal(signal.SIGTERM), []

    def end():
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGTERM)

    timer = threading.Timer(3, end)

    def listen_and_wait(stop):
        listen(stop)
        timer.start()

    try:
        with pytest.raises(DeepclustError, match="signal 15 in epoch 1: the state is saved"):
            train(module, session={"listen": listen_and_wait}, **options | {"iterations": 10**8})
    finally:
        timer.join()
        signal.signal(signal.SIGTERM, before)
    assert time.monotonic() - sent[0] < 10
    assert list(tmp_path.glob("backbone/.state-*/*.pt")) != []


def test_a_pass_over_the_images_ends_at_the_next_batch(train, tmp_path):
    stops, features = [], []

    class Interrupted(simclr.SimCLR):
        def start_epoch(self, epoch):
            stops[0](10)
            features.append(epoch.features(torch.arange(40)))

    with pytest.raises(DeepclustError, match="signal 10 in epoch 1"):
        train(SimpleNamespace(Options=simclr.Options, METHOD=Interrupted), session={"listen": stops.append})
    assert features == []
    (state,) = tmp_path.glob("backbone/.state-*")
    assert load_state(state)["position"]["step"] == 0
