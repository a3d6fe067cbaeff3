"""The command as the workflow runs it, killed and continued."""

import json
import os
import random
import signal
import time

import numpy as np
import pytest
from pretrain_processes import words

from deepclust.core import time_limit
from deepclust.core.images import write_raw


class Training:
    """One pretraining in a folder of its own; every start goes on where the one before ended."""

    def __init__(self, teams, images, folder, method="simclr", **options):
        self.teams, self.folder = teams, folder
        folder.mkdir()
        self.argv = words(method, images, folder)
        for name, value in options.items():
            self.argv += [f"--{name}", json.dumps(value) if isinstance(value, list) else str(value)]

    def start(self):
        """Number of the new process."""
        [child] = self.teams.start(1, self.folder / "out.log", argv=self.argv)
        return child

    def wait(self):
        """Exit status; negative: the signal that ended it."""
        [status] = self.teams.wait()
        return status

    def run(self):
        self.start()
        assert self.wait() == 0, self.output()

    def output(self):
        log = self.folder / "out.log"
        return log.read_text() if log.exists() else ""

    def weights(self):
        return (self.folder / "model.safetensors").read_bytes()

    def native(self):
        return (self.folder / "native.safetensors").read_bytes()

    def records(self):
        lines = (self.folder / "training.jsonl").read_text().splitlines()
        timed = ("seconds", "images_per_second")
        return [{k: v for k, v in json.loads(line).items() if k not in timed} for line in lines]

    def states(self):
        return list(self.folder.glob(".state-*"))

    def checkpoints(self):
        return sorted(path.name for path in self.folder.glob(".state-*/*.pt"))

    def is_done(self):
        return (self.folder / "training.jsonl").exists()


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    pixels = np.random.default_rng(0).integers(0, 256, (64, 1, 8, 8), dtype=np.uint8)
    write_raw(folder, [pixels], (1, 8, 8))
    return folder


OPTIONS = {
    "architecture": "resnet10_w32",
    "epochs": 6,
    "batch_size": 16,
    "learning_rate": 0.1,
}


SLOW = {"learning_rate": 1e-4}  # Adam's
METHODS = {
    "simclr": {},
    "secu": {"method": "secu", "clusters": 3, "heads": 2},
    "secu with entropy and predictor": {
        "method": "secu",
        "clusters": 3,
        "heads": 2,
        "constraint": "entropy",
        "predictor": "true",
        "optimizer": "lars",
    },
    "tcc": {
        "method": "tcc",
        "clusters": 3,
        **SLOW,
        "sampling": "gumbel",
        "instance_queue": 40,
        "teacher_momentum": 0.9,
    },
    "scan": {"method": "scan", "clusters": 3, "start_from": "simclr", "nearest": 5, **SLOW},
    "deepcluster": {"method": "deepcluster", "clusters": 9, "components": 8, "sobel": "true"},
    "deepcluster by power iteration": {"method": "deepcluster", "clusters": 9, "clustering": "pic", "sobel": "false"},
    "deepcluster_v2": {
        "method": "deepcluster_v2",
        "clusters": 7,
        "projection_hidden": 16,
        "projection_dim": 8,
        "optimizer": "larc",
        "small_crops.count": 1,
        "small_crops.size": 6,
    },
    "selflabel": {"method": "selflabel", "clusters": 3, "start_from": "scan", "threshold": 0.35, **SLOW},
}


@pytest.fixture(scope="module")
def started(teams, images, tmp_path_factory):
    """Options that name the files which a method starts from, by the backbone's name."""
    folder = tmp_path_factory.mktemp("started")
    np.save(folder / "neighbors.npy", ((np.arange(64)[:, None] + np.arange(1, 6)) % 64).astype(np.int32))
    simclr = Training(teams, images, folder / "simclr", **OPTIONS | {"epochs": 1})
    simclr.run()
    of_simclr = {"input.start": folder / "simclr" / "model.json", "input.neighbors": folder / "neighbors.npy"}
    scan = Training(teams, images, folder / "scan", **OPTIONS | METHODS["scan"] | of_simclr | {"epochs": 1})
    scan.run()
    scan = folder / "scan"
    of_scan = {"input.start": scan / "model.json", "input.native": scan / "native.safetensors"}
    return {"simclr": of_simclr, "scan": of_scan, None: {}}


@pytest.fixture(scope="module")
def uninterrupted(teams, images, tmp_path_factory):
    training = Training(teams, images, tmp_path_factory.mktemp("whole") / "backbone", **OPTIONS)
    training.run()
    return training


@pytest.mark.parametrize("name", METHODS)
def test_kill_at_any_moment_continues_bit_for_bit(teams, images, tmp_path, started, name):
    """For every method: weights, clusters and log are those of a training that ran through."""
    options = OPTIONS | {"epochs": 4} | METHODS[name] | started[METHODS[name].get("start_from")]
    uninterrupted = Training(teams, images, tmp_path / "whole", **options)
    uninterrupted.run()
    training = Training(teams, images, tmp_path / "b", **options, checkpoint_seconds=0.01)
    moments = random.Random(name)
    killed = 0
    for _ in range(3):
        before = training.checkpoints()
        child = training.start()
        while training.checkpoints() == before and not training.is_done():
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.1))
        os.kill(child, signal.SIGKILL)
        if training.wait() == 0:
            break
        killed += 1
    else:
        training.run()
    assert killed >= 2
    assert training.output().count("continuing from") >= 2
    assert training.weights() == uninterrupted.weights()
    assert training.native() == uninterrupted.native()
    assert training.records() == uninterrupted.records()
    assert training.states() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT])
def test_signals_save_the_state_and_end(teams, images, tmp_path, uninterrupted, number):
    training = Training(teams, images, tmp_path / "b", **OPTIONS)
    child = training.start()
    while "epochs of 4 steps" not in training.output():
        time.sleep(0.005)
    os.kill(child, number)
    assert training.wait() == 1
    assert training.output().splitlines()[-1].startswith(f"error: stopped by signal {number.value}")
    assert len(training.checkpoints()) == 1
    training.run()
    assert training.weights() == uninterrupted.weights()
    assert training.records() == uninterrupted.records()


def test_a_time_limit_ends_it_in_time_to_be_continued(teams, images, tmp_path):
    """In slices of a second or so."""
    options = OPTIONS | {"epochs": 40}
    whole = Training(teams, images, tmp_path / "whole", **options)
    whole.run()
    training = Training(teams, images, tmp_path / "b", **options, minutes=0.02)
    training.start()
    while training.wait() != 0:
        assert training.output().splitlines()[-1].startswith("error: stopped by its time limit")
        training.start()
    assert training.output().count("continuing from") >= 1
    assert training.weights() == whole.weights()


@pytest.mark.parametrize(
    ("minutes", "seconds"), [(720, 718 * 60), (10, 8 * 60), (1, 48), (0.001, 1)], ids=lambda value: str(value)
)
def test_time_left_for_work(monkeypatch, minutes, seconds):
    monkeypatch.setattr(time_limit, "STARTED", time.monotonic())
    assert time_limit.seconds_left(minutes) == pytest.approx(seconds, abs=0.5)


def test_a_damaged_checkpoint_costs_little(teams, images, tmp_path, uninterrupted):
    training = Training(teams, images, tmp_path / "b", **OPTIONS, checkpoint_seconds=0.01)
    child = training.start()
    while len(training.checkpoints()) < 2:
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    training.wait()
    newest = max(training.folder.glob(".state-*/*.pt"))
    newest.write_bytes(newest.read_bytes()[:-100])
    training.run()
    assert f"{newest} is damaged" in training.output()
    assert "continuing from" in training.output()
    assert training.weights() == uninterrupted.weights()


def test_mistakes_end_in_one_line(teams, images, tmp_path):
    training = Training(teams, images, tmp_path / "b", **OPTIONS | {"learning_rate": -1})
    training.start()
    assert training.wait() == 1
    assert training.output().startswith("error: pretrain: learning_rate")
    assert len(training.output().splitlines()) == 1
    assert not (tmp_path / "b" / "model.json").exists()
