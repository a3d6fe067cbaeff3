"""Several processes train as one does: the same batches, the same views, the same state of the method."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file
from teams import Teams

from deepclust.common.images import write_raw

COUNT = 66  # images: 4 batches of 16, and 2 left over

OPTIONS = {
    "architecture": "resnet10_w32",
    "epochs": 2,
    "batch_size": 16,
    "learning_rate": 0.02,
    "precision": "fp32",
    "augmentation.blur_probability": 0.5,
    "augmentation.crop_scale": [0.3, 1.0],
}
SGD = {"optimizer": "sgd", "learning_rate": 1e-3}  # Adam magnifies rounding where a gradient is nearly 0
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
}


@pytest.fixture(scope="module")
def teams():
    made = Teams()
    yield made
    made.close()


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
        self.argv = ["--method", method, "--images", str(images / "images.bin"), "--dataset", "noise"]
        self.argv += ["--model", str(folder / "model.json"), "--log", str(folder / "training.jsonl")]
        self.argv += ["--provenance", str(folder / "provenance.json"), "--progress", str(folder / "progress")]
        for name, value in (OPTIONS | options).items():
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

    def states(self):
        return sorted(path.name for path in self.folder.glob(".state-*/*.pt"))


def assert_equal(training, other, rtol=1e-3, atol=1e-4):
    expected, found = other.tensors(), training.tensors()
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol, atol, err_msg=name)
    for record, own in zip(other.records(), training.records(), strict=True):
        assert own == pytest.approx(record, rel=1e-3, abs=1e-3)


@pytest.fixture(scope="module")
def started(teams, images, tmp_path_factory):
    """Options that name the files which a method starts from, by the backbone's name."""
    folder = tmp_path_factory.mktemp("started")
    neighbors = (np.arange(COUNT)[:, None] + np.arange(1, 6)) % COUNT
    np.save(folder / "neighbors.npy", neighbors.astype(np.int32))
    Training(teams, images, folder / "simclr", epochs=1).run(1)
    of_simclr = {"start_model": folder / "simclr" / "model.json", "neighbors": folder / "neighbors.npy"}
    Training(teams, images, folder / "scan", **METHODS["scan"] | of_simclr | {"epochs": 1}).run(1)
    return {"simclr": of_simclr, "scan": {"start_model": folder / "scan" / "model.json"}, None: {}}


@pytest.mark.parametrize("options", METHODS.values(), ids=METHODS)
def test_two_processes_train_as_one_does(teams, images, tmp_path, started, options):
    options = options | started[options.get("start_from")]
    one = Training(teams, images, tmp_path / "one", **options).run(1)
    two = Training(teams, images, tmp_path / "two", **options).run(2)
    assert_equal(two, one)
