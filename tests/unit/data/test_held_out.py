"""Images of one's own that are in both splits, and classes that only the test split has."""

import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from formats import picture, sharded
from test_prepare import fails, prepare

IMAGES = [picture() for _ in range(8)]
LOADERS = ["folder", "list", "parquet", "shards"]


def write(folder, loader, train, test):
    """Write images of both splits, given as (class, content) pairs; the flags of their loader."""
    splits = {"train": train, "test": test}
    members = {
        f"{split}/{label}/{number}.png": content
        for split, images in splits.items()
        for number, (label, content) in enumerate(images)
    }
    if loader in {"folder", "list"}:
        for name, content in members.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
    if loader == "folder":
        return ["--path", folder / "train", "--test_path", folder / "test"]
    if loader == "list":
        for split in splits:
            rows = [f"{name},{name.split('/')[1]}\n" for name in members if name.startswith(split)]
            (folder / f"{split}.csv").write_text("path,label\n" + "".join(rows))
        return ["--path", folder / "train.csv", "--test_path", folder / "test.csv"]
    if loader == "parquet":
        folder.mkdir()
        for split, images in splits.items():
            table = {"image": [content for _, content in images], "label": [int(label) for label, _ in images]}
            pq.write_table(pa.table(table), folder / f"{split}.parquet")
        return ["--path", folder, "--train", "train.parquet", "--test", "test.parquet"]
    for split, images in splits.items():
        samples = {f"a/{number}.png": content for number, (_, content) in enumerate(images)}
        samples |= {f"a/{number}.cls": str(label).encode() for number, (label, _) in enumerate(images)}
        sharded(folder / split, dict(sorted(samples.items())))
    return ["--path", folder / "train", "--test_path", folder / "test"]


def prepare_test(folder, loader, flags):
    return prepare(folder, "--loader", loader, "--split", "test", "--threads", 2, *flags)


@pytest.mark.parametrize("loader", LOADERS)
def test_the_same_bytes_in_both_splits(tmp_path, loader):
    train = [(0, image) for image in IMAGES[:6]]
    test = [(0, IMAGES[6]), (0, IMAGES[2]), (0, IMAGES[7]), (0, IMAGES[2]), (0, IMAGES[5])]
    flags = write(tmp_path / "set", loader, train, test)
    reason = fails(prepare_test(tmp_path, loader, flags), tmp_path)
    assert "3 of 5 test images are training images" in reason and "on_overlap: keep" in reason
    name = {"parquet": "test.parquet/1", "shards": "a.tar/1.png"}.get(loader, "0/1.png")
    other = {"parquet": "train.parquet/2", "shards": "a.tar/2.png"}.get(loader, "0/2.png")
    assert name in reason and other in reason
    assert prepare(tmp_path, "--loader", loader, "--split", "train", *flags).returncode == 0

    kept = prepare_test(tmp_path, loader, [*flags, "--on_overlap", "keep"])
    assert kept.returncode == 0, kept.stderr
    assert kept.stderr.startswith("warning: 3 of 5 test images are training images") and kept.stderr.count("\n") == 1
    assert len(np.load(tmp_path / "labels" / "labels.npy")) == 5


@pytest.mark.parametrize("loader", LOADERS)
def test_splits_that_share_nothing(tmp_path, loader):
    flags = write(tmp_path / "set", loader, [(0, image) for image in IMAGES[:5]], [(0, image) for image in IMAGES[5:]])
    result = prepare_test(tmp_path, loader, flags)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_one_file_by_two_links(tmp_path, link):
    flags = write(tmp_path / "set", "folder", [(0, IMAGES[0])], [(0, IMAGES[1])])
    link(tmp_path / "set" / "train" / "0" / "0.png", tmp_path / "set" / "test" / "0" / "linked.png")
    assert "1 of 2 test images are training images" in fails(prepare_test(tmp_path, "folder", flags), tmp_path)


@pytest.mark.parametrize("loader", LOADERS)
def test_what_is_left_out_is_in_neither_split(tmp_path, loader):
    """Whatever stands in place of images that could not be downloaded is often the same."""
    flags = write(
        tmp_path / "set", loader, [(0, b"gone"), (0, b""), (0, IMAGES[0])], [(0, b"gone"), (0, b""), (0, IMAGES[1])]
    )
    result = prepare_test(tmp_path, loader, [*flags, "--on_error", "skip", "--skip_limit", "0.7"])
    assert result.returncode == 0, result.stderr
    assert "training images" not in result.stderr


def test_files_that_cannot_be_read_are_compared_with_nothing(tmp_path):
    flags = write(tmp_path / "set", "folder", [(0, IMAGES[0])], [(0, IMAGES[1])])
    for split in ("train", "test"):
        (tmp_path / "set" / split / "0" / "x.png").symlink_to(tmp_path / "nowhere.png")
    result = prepare_test(tmp_path, "folder", [*flags, "--on_error", "skip"])
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("loader", LOADERS)
def test_a_class_that_never_occurs_in_train_is_said_aloud(tmp_path, loader):
    train = [(number % 2, image) for number, image in enumerate(IMAGES[:4])]
    flags = write(tmp_path / "set", loader, train, [(1, IMAGES[4]), (7, IMAGES[5]), (7, IMAGES[6])])
    result = prepare_test(tmp_path, loader, flags)
    assert result.returncode == 0, result.stderr
    assert result.stderr.startswith("warning: no training image is of a class that test images are of: 7 (2 images)")
    assert result.stderr.count("\n") == 1


def test_splits_of_which_one_has_no_labels(tmp_path):
    write(tmp_path / "set", "list", [(0, IMAGES[0])], [(1, IMAGES[1])])
    (tmp_path / "set" / "train.csv").write_text("path\ntrain/0/0.png\n")
    flags = ["--path", tmp_path / "set" / "train.csv", "--test_path", tmp_path / "set" / "test.csv"]
    result = prepare_test(tmp_path, "list", flags)
    assert (result.returncode, result.stderr) == (0, "")


def test_train_is_prepared_without_a_look_at_the_test_images(tmp_path):
    flags = write(tmp_path / "set", "folder", [(0, IMAGES[0])], [(0, b"gone")])
    result = prepare(tmp_path, "--loader", "folder", "--split", "train", *flags)
    assert (result.returncode, result.stderr) == (0, "")
