"""Test images that are training images, as far as planning knows."""

import os

import pytest
from test_datasets_in_plans import errors, plan

from deepclust.planning.parameters import Parameters

LIST = "path,label\n{},cat\n{},dog\n"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def photos(tmp_path):
    """Folders of images, and links to them."""
    for name in ("photos/old/cat", "photos/new/cat", "photos/.apart/cat", "photos-2/cat"):
        (tmp_path / name).mkdir(parents=True)
        for number in range(30):
            (tmp_path / name / f"{number}.png").touch()
    (tmp_path / "link").symlink_to(tmp_path / "photos" / "old")
    return tmp_path


@pytest.mark.parametrize(
    ("path", "test_path", "relation"),
    [
        ("photos", "photos", "the same folder as"),
        ("photos", "photos/new", "inside"),
        ("photos/old", "photos", "above"),
        ("photos/old", "link", "the same folder as"),
        ("link/cat", "photos", "above"),
        ("photos", "link/cat", "inside"),
        ("photos", "photos/../photos/new/cat", "inside"),
    ],
)
def test_folders_of_test_images_among_those_of_training_images(photos, path, test_path, relation):
    lines = errors(loader="folder", path=path, test_path=test_path)
    [line] = [line for line in lines if line.startswith("datasets.set.test_path: ")]
    assert relation in line and test_path in line and "on_overlap: keep" in line
    assert plan(loader="folder", path=path, test_path=test_path, on_overlap="keep").runs


@pytest.mark.parametrize(
    ("path", "test_path"),
    [
        ("photos/old", "photos/new"),
        ("photos", "photos-2"),
        ("photos/old", "photos/.apart"),
        ("photos", "photos/.apart"),
    ],
)
def test_folders_that_share_nothing(photos, path, test_path):
    assert plan(loader="folder", path=path, test_path=test_path).runs


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_shards_that_are_in_both_splits(tmp_path, link):
    for name in ("train/a.tar", "train/b.tar", "test/c.tar"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert plan(loader="shards", path="train", test_path="test").runs
    link(tmp_path / "train" / "a.tar", tmp_path / "test" / "d.tar")
    for path, test_path, shared in (("train", "test", "d.tar"), (".", "test", "test/c.tar, test/d.tar")):
        lines = errors(loader="shards", path=path, test_path=test_path)
        assert any(line.startswith("datasets.set.test_path: ") and shared in line for line in lines)


def test_patterns_that_match_one_parquet_file(tmp_path):
    (tmp_path / "data").mkdir()
    for name in ("train-0", "train-1", "test-0", "test-1"):
        (tmp_path / "data" / f"{name}.parquet").touch()
    options = {"loader": "parquet", "path": "."}
    assert plan(**options, test="data/test-*.parquet").runs
    for patterns in ({"train": "data/*.parquet", "test": "data/test-*.parquet"}, {"test": "**/*-1.parquet"}):
        lines = errors(**options, **patterns)
        assert any(line.startswith("datasets.set.test: ") and "-1.parquet" in line for line in lines)
    (tmp_path / "data" / "test-2.parquet").symlink_to("train-0.parquet")
    assert any("test-2.parquet" in line for line in errors(**options, test="data/test-*.parquet"))


def test_a_pattern_that_is_none(tmp_path):
    lines = errors(loader="parquet", path=".", test="data/**.parquet")
    assert any(line.startswith("datasets.set.test: ") and "**" in line for line in lines)


@pytest.mark.parametrize(
    ("train", "test", "root", "shared"),
    [
        ("lists/train.csv", "lists/test.csv", None, "b.png"),
        ("lists/train.csv", "test.tsv", None, "lists/b.png"),
        ("lists/train.csv", "lists/test.txt", "elsewhere", "b.png"),
    ],
)
def test_rows_that_are_in_both_lists(tmp_path, train, test, root, shared):
    for folder in ("lists", "elsewhere"):
        (tmp_path / folder).mkdir()
    files = {
        "lists/train.csv": LIST.format("a.png", "b.png"),
        "lists/test.csv": LIST.format("./b.png", "c.png"),
        "test.tsv": "label\tpath\ncat\tlists/b.png\ndog\tlists/c.png\n",
        "lists/test.txt": f"x/../b.png\n{tmp_path}/a.png\n",
        "apart.csv": LIST.format("a.png", "b.png"),
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    options = {"loader": "list", "path": train, "k": 1} | ({"root": root} if root else {})
    lines = errors(**options, test_path=test)
    assert any(line.startswith("datasets.set.test_path: 1 ") and shared in line for line in lines)
    assert any(line.startswith("datasets.set.test_path: 2 ") for line in errors(**options, test_path=train))
    if not root:  # paths are relative to their list
        assert plan(**options, test_path="apart.csv").runs


def test_lists_that_cannot_be_read_are_named(tmp_path):
    (tmp_path / "train.csv").write_text(LIST.format("a.png", "b.png"))
    (tmp_path / "test.csv").write_text("path,label\nc.png,cat, tabby\n")
    lines = errors(loader="list", path="train.csv", test_path="test.csv", k=1)
    assert any(line.startswith("datasets.set.test_path: ") and "test.csv, line 2" in line for line in lines)


def test_only_the_test_split_is_prepared_anew_where_shared_images_are_kept(photos):
    options = {"loader": "folder", "path": "photos/old", "test_path": "photos/new"}
    before, after = (Parameters(plan(**options, on_overlap=value)) for value in ("fail", "keep"))
    assert before.prepare("set", "train") == after.prepare("set", "train")
    assert before.prepare("set", "test") != after.prepare("set", "test")
