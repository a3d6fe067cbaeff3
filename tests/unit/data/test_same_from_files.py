"""The same images as records of an archive and as a folder of PNGs: the same labels and features."""

import csv
import json

import numpy as np
import pytest
import torch
from formats import tgz
from PIL import Image

from deepclust.core.fingerprint import SCRIPTS
from deepclust.core.images import Images
from deepclust.core.progress import Progress
from deepclust.data.loaders import cifar10, folder
from deepclust.data.writing import write_split
from deepclust.features.extract import extract
from deepclust.features.options import ExtractionOptions

COUNT = 150  # more than a batch, and no multiple of one
SHIPPED = SCRIPTS.parents[1] / "weights" / "cifar10-simclr-resnet10_w32" / "model.json"


@pytest.fixture
def images():
    """Labels [N] and pixels [N, 3, 32, 32] of blurred noise."""
    random = np.random.default_rng(0)
    coarse = [Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8)).resize((32, 32)) for _ in range(COUNT)]
    labels = random.permutation(np.arange(COUNT, dtype=np.uint8) % 10)
    return labels, np.stack([np.asarray(image).transpose(2, 0, 1) for image in coarse])


def results(split, place):
    """Labels, names of the classes, paths and features of a split."""
    write_split(split, place / "data", place / "labels", progress=Progress(), threads=1)
    cpu, features = [torch.device("cpu")], place / "features.npy"
    options = ExtractionOptions(dtype="float32")
    extract(Images(place / "data"), SHIPPED, features, options, devices=cpu, code="", progress=Progress())
    with (place / "labels" / "ids.csv").open(newline="") as file:
        paths = [row["path"] for row in csv.DictReader(file)]
    classes = json.loads((place / "labels" / "classes.json").read_text())
    return np.load(place / "labels" / "labels.npy"), classes, paths, np.load(features)


def test_records_and_pngs_give_the_same_labels_and_features(images, tmp_path, monkeypatch):
    labels, pixels = images
    records = np.concatenate([labels[:, None], pixels.reshape(COUNT, -1)], axis=1).tobytes()
    [archive], _ = tgz(tmp_path / "tar", {"cifar-10-batches-bin/test_batch.bin": records})
    for number, (label, image) in enumerate(zip(labels, pixels)):
        place = tmp_path / "pngs" / cifar10.CLASSES[label]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0)).save(place / f"{number}.png")
    monkeypatch.setattr(cifar10, "RECORDS", COUNT)
    from_archive = results(cifar10.read_split(cifar10.Options(), "test", [archive]), tmp_path / "a")
    options = folder.Options(path=tmp_path / "pngs")
    from_pngs = results(folder.read_split(options, "train", []), tmp_path / "b")

    order = [int(path.rpartition("/")[2].removesuffix(".png")) for path in from_pngs[2]]
    assert sorted(order) == list(range(COUNT)) != order
    names = [np.array(classes)[numbers] for numbers, classes in (from_archive[:2], from_pngs[:2])]
    np.testing.assert_array_equal(names[0][order], names[1])
    np.testing.assert_array_equal(from_archive[3][order], from_pngs[3])
