import os
from pathlib import Path

import numpy as np
import pytest

from deepclust.core.errors import DeepclustError
from deepclust.core.files import sha256_file
from deepclust.core.images import Images
from deepclust.core.progress import Progress
from deepclust.data.formats.cifar import read_records
from deepclust.data.loaders import cifar10
from deepclust.data.writing import write_split

SHARED = Path(os.environ.get("DEEPCLUST_SHARED", Path(__file__).resolve().parents[4] / "shared"))
MIRROR = SHARED / "data" / "cifar-10-binary.tar.gz"
RNG = np.random.default_rng(0)


def records(count, labels=10):
    return RNG.integers(0, labels, count), RNG.integers(0, 256, (count, 3, 32, 32), np.uint8)


def content(labels, images):
    """One file, record by record, as the official page describes it."""
    return b"".join(bytes([label]) + image.tobytes() for label, image in zip(labels, images, strict=True))


def test_records_come_in_the_order_asked_for(make_tar):
    parts = {name: records(4) for name in ("x/1.bin", "x/2.bin", "x/3.bin")}
    archive = make_tar([(name, content(*parts[name])) for name in ("x/2.bin", "x/3.bin", "x/1.bin")])
    blocks = list(read_records(archive, ["x/1.bin", "x/2.bin"], 4, [10]))
    for name, block in zip(["x/1.bin", "x/2.bin"], blocks, strict=True):
        np.testing.assert_array_equal(block.labels, parts[name][0])
        np.testing.assert_array_equal(block.images, parts[name][1])
        assert block.names[3] == f"{name}/3"


def test_a_wrong_number_of_records(make_tar):
    archive = make_tar([("x.bin", content(*records(3)))])
    with pytest.raises(DeepclustError, match=f"{3 * 3073} bytes, expected {4 * 3073}"):
        list(read_records(archive, ["x.bin"], 4, [10]))


def test_a_label_out_of_range(make_tar):
    labels, images = records(3)
    labels[1] = 10
    archive = make_tar([("x.bin", content(labels, images))])
    with pytest.raises(DeepclustError, match="label 10"):
        list(read_records(archive, ["x.bin"], 3, [10]))


def prepare(archive, split, folder):
    loaded = cifar10.read_split(cifar10.Options(), split, [archive])
    count = cifar10.FACTS.splits[split]
    write_split(loaded, folder / "images", folder / "labels", progress=Progress(), count=count)
    return Images(folder / "images"), np.load(folder / "labels" / "labels.npy")


def test_archive_in_the_official_layout(make_tar, tmp_path):
    """The full number of records, all black but one pixel of each file's first image; its label says which file."""
    members = []
    for name, label in [("test_batch", 9), *((f"data_batch_{n}", n) for n in (4, 2, 5, 1, 3))]:
        file = bytearray(30_730_000)
        file[0], file[1] = label, 100 + label
        members.append((f"cifar-10-batches-bin/{name}.bin", bytes(file)))
    archive = make_tar([*members, ("cifar-10-batches-bin/readme.html", b"<html>")])

    images, labels = prepare(archive, "train", tmp_path / "train")
    assert (len(images), images.shape) == (50_000, (3, 32, 32))
    firsts = range(0, 50_000, 10_000)
    assert labels[firsts].tolist() == [1, 2, 3, 4, 5]
    assert images.pixels(firsts)[:, 0, 0, 0].tolist() == [101, 102, 103, 104, 105]
    images, labels = prepare(archive, "test", tmp_path / "test")
    assert (len(images), labels[0], labels[1], images.decode(0)[0, 0, 0]) == (10_000, 9, 0, 109)


@pytest.mark.skipif(not MIRROR.exists(), reason="needs ../shared")
def test_real_cifar10(tmp_path):
    for split, count in {"train": 50_000, "test": 10_000}.items():
        images, labels = prepare(MIRROR, split, tmp_path / split)
        assert (len(images), images.shape) == (count, (3, 32, 32))
        assert np.bincount(labels).tolist() == [count // 10] * 10
        if split == "train":  # statistics that every paper on CIFAR-10 uses
            np.testing.assert_allclose(images.mean, [0.4914, 0.4822, 0.4465], atol=1e-4)
            np.testing.assert_allclose(images.std, [0.2470, 0.2435, 0.2616], atol=1e-4)
        assert images.sha256 == sha256_file(tmp_path / split / "images" / "images.bin")
