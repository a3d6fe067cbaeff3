"""Several processes train as one does: the same batches, the same views, the same state of the method."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from pretrain_processes import SCRIPTS, words
from safetensors.numpy import load_file

from deepclust.core.images import write_raw
from deepclust.core.seeding import derive_seed
from deepclust.models.networks import build_network
from deepclust.pretraining.engine.checkpoint import load_state

FLIPPED = 0.05  # share of assignments that rounding may change
COUNT = 66  # images: 3 batches of 21, and 3 left over; two processes get 10 and 11 of a batch

OPTIONS = {
    "architecture": "resnet10_w32",
    "epochs": 2,
    "batch_size": 21,
    "learning_rate": 0.01,
    "precision": "fp32",
}
VIEWS = {"augmentation.blur_probability": 0.5, "augmentation.crop_scale": [0.3, 1.0]}  # of methods that draw crops
SGD = {"optimizer": "sgd", "learning_rate": 1e-3}  # Adam magnifies rounding where a gradient is nearly 0
SMALL_CROPS = {"small_crops.count": 1, "small_crops.size": 6, "projection_hidden": 32}
METHODS = {
    "simclr": {},
    "secu": {"method": "secu", "clusters": 3, "heads": 2},
    "secu with entropy and predictor": {
        "method": "secu",
        "clusters": 3,
        "heads": 2,
        "constraint": "entropy",
        "predictor": True,
        "optimizer": "lars",
    },
    "scan": {"method": "scan", "clusters": 3, "start_from": "simclr", "nearest": 5, **SGD},
    "selflabel": {"method": "selflabel", "clusters": 3, "start_from": "scan", "threshold": 0.35, **SGD},
    "deepcluster": {"method": "deepcluster", "clusters": 4, "components": 8, "sobel": False},
    "deepcluster_v2": {"method": "deepcluster_v2", "clusters": 4, "heads": 2, **SMALL_CROPS},
    "tcc": {"method": "tcc", "clusters": 3, "instance_queue": 42, **SGD},
    "tcc with draws and teacher": {
        "method": "tcc",
        "clusters": 3,
        "instance_queue": 42,
        "sampling": "gumbel",
        "condition": "concatenate",
        "teacher_momentum": 0.9,
        "membership_weight": 0.5,
        **SGD,
    },
}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    pixels = np.random.default_rng(0).integers(0, 256, (COUNT, 3, 8, 8), dtype=np.uint8)
    write_raw(folder, [pixels], (3, 8, 8))
    return folder


class Training:
    """One pretraining in a folder of its own; every start goes on where the one before ended."""

    def __init__(self, teams, images, folder, method="simclr", **options):
        self.teams, self.folder = teams, folder
        folder.mkdir()
        self.argv = words(method, images, folder)
        self.argv += ["--provenance", str(folder / "provenance.json"), "--progress", str(folder / "progress")]
        for name, value in (OPTIONS | ({} if "start_from" in options else VIEWS) | options).items():
            self.argv += [f"--{name}", value if isinstance(value, str) else json.dumps(value, default=str).strip('"')]

    def start(self, count):
        return self.teams.start(count, self.folder / "out.log", argv=self.argv)

    def run(self, count):
        self.start(count)
        assert self.teams.wait() == [0] * count, self.output()
        return self

    def output(self):
        log = self.folder / "out.log"
        return log.read_text() if log.exists() else ""

    def tensors(self):
        native = {f"native.{name}": value for name, value in load_file(self.folder / "native.safetensors").items()}
        return {**load_file(self.folder / "model.safetensors"), **native}

    def records(self):
        lines = (self.folder / "training.jsonl").read_text().splitlines()
        timed = ("seconds", "images_per_second")
        return [{key: value for key, value in json.loads(line).items() if key not in timed} for line in lines]

    def initial_weights(self):
        """Of the parameters of the backbone."""
        if "--input.start" in self.argv:
            path = Path(self.argv[self.argv.index("--input.start") + 1]).with_suffix(".safetensors")
            tensors = load_file(path)
        else:
            torch.manual_seed(derive_seed(0, "weights"))
            tensors = build_network({"name": "resnet10_w32", "stem": "cifar", "in_channels": 3}).state_dict()
        return {name: np.asarray(value) for name, value in tensors.items() if name.endswith(("weight", "bias"))}

    def remembered(self):
        """What the method has beside the backbone in the last checkpoint: its layers and its buffers."""
        (folder,) = self.folder.glob(".state-*")
        method = load_state(folder)["method"]
        return {name: value for name, value in method.items() if not name.startswith("backbone.")}

    def states(self):
        return sorted(path.name for path in self.folder.glob(".state-*/*.pt"))


def assert_equal(training, other):
    """They took the same way from the same weights.

    Up to rounding, and now and then a ReLU that is on in one and off in the other: with so few images that can change a
    gradient by some percent.
    """
    start = training.initial_weights()
    expected, found = other.tensors(), training.tensors()
    assert expected.keys() == found.keys()
    moved = {name: expected[name] - start[name] for name in start}
    apart = {name: found[name] - expected[name] for name in start}
    assert length(apart) < 0.03 * length(moved)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=0.02, atol=3e-3, err_msg=name)
    for record, own in zip(other.records(), training.records(), strict=True):
        assert own == pytest.approx(record, rel=0.01, abs=0.05)
        assert own["loss"] == pytest.approx(record["loss"], rel=3e-3)


def assert_remembered_equal(found, expected):
    """Assignments up to a few; layers, queues, banks, duals and a teacher up to rounding."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if value.is_floating_point():
            apart = (found[name].double() - value.double()).norm()
            assert apart <= 0.03 * value.double().norm() + 1e-6, name
        else:
            assert (found[name] != value).double().mean() <= FLIPPED, name


def length(tensors):
    return sum(float(np.square(tensor).sum()) for tensor in tensors.values()) ** 0.5


@pytest.fixture(scope="module")
def started(teams, images, tmp_path_factory):
    """Options that name the files which a method starts from, by the backbone's name."""
    folder = tmp_path_factory.mktemp("started")
    neighbors = (np.arange(COUNT)[:, None] + np.arange(1, 6)) % COUNT
    np.save(folder / "neighbors.npy", neighbors.astype(np.int32))
    Training(teams, images, folder / "simclr", epochs=1).run(1)
    of_simclr = {"input.start": folder / "simclr" / "model.json", "input.neighbors": folder / "neighbors.npy"}
    Training(teams, images, folder / "scan", **METHODS["scan"] | of_simclr | {"epochs": 1}).run(1)
    scan = folder / "scan"
    of_scan = {"input.start": scan / "model.json", "input.native": scan / "native.safetensors"}
    return {"simclr": of_simclr, "scan": of_scan, None: {}}


@pytest.mark.parametrize("options", METHODS.values(), ids=METHODS)
def test_two_processes_train_as_one_does(teams, images, tmp_path, started, options):
    options = options | started[options.get("start_from")]
    options |= {"keep_state": True}
    one = Training(teams, images, tmp_path / "one", **options).run(1)
    two = Training(teams, images, tmp_path / "two", **options).run(2)
    assert_equal(two, one)
    assert_remembered_equal(two.remembered(), one.remembered())


def test_batch_normalisation_of_its_own_images_only(teams, images, tmp_path):
    """Then the number of processes matters."""
    one = Training(teams, images, tmp_path / "one", epochs=1, sync_batch_norm=False).run(1)
    two = Training(teams, images, tmp_path / "two", epochs=1, sync_batch_norm=False).run(2)
    assert one.records()[0]["loss"] == pytest.approx(two.records()[0]["loss"], rel=0.2)
    assert one.records()[0]["loss"] != pytest.approx(two.records()[0]["loss"], rel=1e-4)


def test_the_first_process_writes_the_record(teams, images, tmp_path):
    training = Training(teams, images, tmp_path / "b", epochs=1).run(2)
    record = json.loads((training.folder / "provenance.json").read_text())
    assert set(record["outputs"]) == {"model", "weights", "native", "log"}
    assert len(training.output().splitlines()) == 2  # what is trained, and one epoch: once
    assert not (training.folder / "progress").exists()
    assert training.states() == []


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 3)])
def test_continued_by_another_number_of_processes(teams, images, tmp_path, before, after):
    """A signal to any process ends all after the same step."""
    options = {"checkpoint_seconds": 0.01}
    expected = Training(teams, images, tmp_path / "whole", **options).run(1)
    training = Training(teams, images, tmp_path / "b", **options)
    processes = training.start(before)
    while not training.states():
        time.sleep(0.005)
    os.kill(processes[-1], signal.SIGTERM)
    assert training.teams.wait() == [1] * before
    assert training.output().count("error: ") == training.output().count("error: stopped by signal 15") == 1
    training.run(after)
    assert "continuing from" in training.output()
    assert_equal(training, expected)


def test_a_killed_process_ends_all_and_costs_nothing(teams, images, tmp_path):
    """Continued by as many processes, the weights are the same to the last bit."""
    options = {"checkpoint_seconds": 0.01}
    expected = Training(teams, images, tmp_path / "whole", **options).run(2)
    training = Training(teams, images, tmp_path / "b", **options)
    processes = training.start(2)
    while not training.states():
        time.sleep(0.005)
    os.kill(processes[1], signal.SIGKILL)
    assert training.teams.wait() == [1, -signal.SIGKILL]
    assert "error: another process of this training ended" in training.output().splitlines()[-1]
    training.run(2)
    assert "continuing from" in training.output()
    assert (training.folder / "model.safetensors").read_bytes() == (expected.folder / "model.safetensors").read_bytes()
    assert training.records() == expected.records()


def test_the_end_of_the_first_process_ends_the_others_without_a_word(teams, images, tmp_path):
    """They count who fails first, and it kept the count."""
    training = Training(teams, images, tmp_path / "b", epochs=200, checkpoint_seconds=0.01)
    processes = training.start(3)
    while not training.states():
        time.sleep(0.005)
    os.kill(processes[0], signal.SIGKILL)
    assert training.teams.wait() == [-signal.SIGKILL, 1, 1]
    assert "c10d" not in training.output() and "rror" not in training.output()


def test_more_processes_than_images_in_a_batch(teams, images, tmp_path):
    training = Training(teams, images, tmp_path / "b", batch_size=2)
    training.start(3)
    assert training.teams.wait() == [1, 1, 1]
    assert training.output() == "error: 3 processes cannot share batches of 2 images: use fewer\n"


def test_the_command_starts_its_processes_itself(teams, images, tmp_path):
    """Asked to end, it ends them; its progress and its messages are those of one process."""
    options = {"checkpoint_seconds": 0.01}
    expected = Training(teams, images, tmp_path / "whole", **options).run(1)
    training = Training(teams, images, tmp_path / "b", **options)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "DEEPCLUST_DEVICE": "cpu"}
    with (training.folder / "out.log").open("w") as out:
        command = [sys.executable, str(SCRIPTS / "pretrain.py"), *training.argv, "--processes", "2"]
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out)
        while not training.states() and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal.SIGUSR1)
        assert process.wait() == 1, training.output()
    assert "2 processes" in training.output().splitlines()[0]
    assert training.output().splitlines()[-1].startswith("error: stopped by signal 10")
    assert "stopped by signal 10" in json.loads((training.folder / "progress").read_text())["error"]
    training.run(1)
    assert_equal(training, expected)
