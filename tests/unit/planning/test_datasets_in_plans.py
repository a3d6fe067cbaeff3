"""Datasets as planning sees them: protocols, facts that depend on options, downloads, what is watched."""

import copy
import os
from pathlib import Path

import pytest
import yaml

from deepclust.core.errors import DeepclustError
from deepclust.data.loaders.list import Options, read_split
from deepclust.planning.file_states import folders_digest, listing_digest
from deepclust.planning.parameters import Parameters
from deepclust.planning.plan import ExperimentError, make_plan, splits_of
from deepclust.planning.schema import Schema

BASE = yaml.safe_load("""
datasets: {}
backbones:
  pixels: {method: pixels, image_size: 32}
heads:
  kmeans: {method: kmeans}
runs: []
""")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def experiment(protocol=None, k=10, **dataset):
    config = copy.deepcopy(BASE)
    config["datasets"]["set"] = dataset
    config["runs"] = [{"dataset": "set", "backbones": ["pixels"], "heads": ["kmeans"], "k": k}]
    if protocol is not None:
        config["runs"][0]["protocol"] = protocol
    return config


def plan(**options):
    return make_plan(experiment(**options), [])


def errors(**options):
    with pytest.raises(ExperimentError) as error:
        plan(**options)
    return error.value.lines


@pytest.mark.parametrize(
    ("protocol", "train", "score"),
    [
        (None, ["train"], ["test"]),
        ("held-out", ["train"], ["test"]),
        ("with-unlabeled", ["train", "unlabeled"], ["test"]),
        ("merged", ["train", "test"], ["train", "test"]),
        ("train", ["train"], ["train"]),
    ],
)
def test_protocols_of_stl10(protocol, train, score):
    found = plan(loader="stl10", protocol=protocol)
    (run,) = found.runs
    assert found.run_splits("set", run.protocol) == (train, score)
    assert run.path.endswith(f"k10-{protocol or 'held-out'}")
    parameters = Parameters(found)
    assert parameters.cluster(run)["splits"] == list(dict.fromkeys([*train, *score]))
    assert parameters.evaluate(run)["protocol"] == run.protocol


def test_a_protocol_needs_its_splits(tmp_path):
    assert any("no unlabeled split" in line for line in errors(loader="digits", protocol="with-unlabeled"))
    (tmp_path / "1.png").touch()
    lines = errors(loader="folder", path=str(tmp_path), protocol="held-out", k=1)
    assert any("no test split" in line and "merged" in line for line in lines)


def test_the_number_of_clusters_is_checked_against_the_splits_of_the_protocol():
    assert plan(loader="stl10", protocol="with-unlabeled", k=100_000).runs
    assert any("5000 images" in line for line in errors(loader="stl10", k=100_000))


def test_labels_of_cifar100_share_a_download():
    config = experiment(loader="cifar100")
    config["datasets"]["coarse"] = {"loader": "cifar100", "labels": "coarse"}
    parameters = Parameters(make_plan(config, []))
    facts = [parameters.plan.dataset_facts(name) for name in ("set", "coarse")]
    assert [(f["classes"], f["published_as"]) for f in facts] == [(100, "CIFAR-100"), (20, "CIFAR-100-20")]
    assert parameters.archives("set", "train") == parameters.archives("coarse", "test") != []
    assert parameters.prepare("coarse", "train")["labels"] == "coarse"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("images.txt", "1.png\n\n  \n2.png\n3.png"),
        ("images.csv", "path,label\n1.png,a\n\n2.png,b\n3.png,\n"),
        ("images.TSV", "\ufefflabel\tpath\r\na\t1.png\r\n\t2.png\r\nb\t3.png\r\n"),
    ],
)
def test_images_in_a_list_are_counted_as_they_are_read(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    (tmp_path / "none.csv").write_text("path\n")
    options = {"loader": "list", "path": str(tmp_path / name), "test_path": str(tmp_path / "none.csv")}
    sizes = splits_of(options, Schema().facts("loader", "list"))
    split = read_split(Options(path=tmp_path / name), "train", [])
    assert sizes == {"train": len(list(split.files)), "test": 0} == {"train": 3, "test": 0}


def test_clusters_must_fit_the_images_of_a_list(tmp_path):
    (tmp_path / "images.txt").write_text("".join(f"{number}.png\n" for number in range(30)))
    assert plan(loader="list", path=str(tmp_path / "images.txt"), k=30).runs
    lines = errors(loader="list", path=str(tmp_path / "images.txt"), k=31)
    assert any("31 clusters are more than the 30 images" in line for line in lines)


def test_a_split_reads_only_its_files():
    parameters = Parameters(plan(loader="mnist"))
    train, test = ([path.split("/")[1] for path in parameters.archives("set", s)] for s in ("train", "test"))
    assert train == ["train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"]
    assert test == ["t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"]


def test_several_files_come_from_one_place(tmp_path):
    address = "https://example.org/mnist/"
    parameters = Parameters(plan(loader="mnist", source=[address, "https://example.com"]))
    first = parameters.download(parameters.archives("set", "test")[1])
    assert first["sources"] == [f"{address}t10k-labels-idx1-ubyte.gz", "https://example.com/t10k-labels-idx1-ubyte.gz"]
    assert first["sha256"].startswith("f7ae60f9")
    assert any(
        str(tmp_path / "t10k-images-idx3-ubyte.gz") in line for line in errors(loader="mnist", source=str(tmp_path))
    )
    assert any("sha256" in line for line in errors(loader="mnist", sha256="0" * 64))


def test_a_download_without_published_checksum():
    parameters = Parameters(plan(loader="imagenette", version="imagewoof2-160"))
    (key,) = parameters.archives("set", "train")
    assert key.endswith("/imagewoof2-160.tgz")
    assert (parameters.download(key)["sha256"], parameters.download(key)["md5"]) == (None, None)
    assert parameters.plan.dataset_facts("set")["splits"]["train"] == 9025


@pytest.mark.parametrize(("sha256", "watched"), [("any", True), ("0" * 64, False), (None, False)])
def test_a_copy_made_anew_is_the_same_file_where_its_checksum_is_known(tmp_path, sha256, watched):
    archive = tmp_path / "cifar-10-binary.tar.gz"
    archive.write_bytes(bytes(10**6 + 1))
    options = {"source": str(archive)} | ({"sha256": sha256} if sha256 else {})
    parameters = Parameters(plan(loader="cifar10", **options))
    [key] = parameters.archives("set", "train")
    before = parameters.local_sources(key)
    os.utime(archive, (1, 1))
    assert (parameters.local_sources(key) != before) is watched


def test_subsets_of_imagenet(tmp_path):
    (tmp_path / "mine.txt").write_text("n02056570\n")
    facts = plan(loader="imagenet", path=str(tmp_path), subset="imagenet-dogs").dataset_facts("set")
    assert (facts["classes"], facts["splits"]["train"], facts["published_as"]) == (15, 19_500, "ImageNet-Dogs")
    facts = plan(loader="imagenet", path=str(tmp_path), subset="mine.txt").dataset_facts("set")
    assert (facts["classes"], facts["published_as"]) == (None, None)
    lines = errors(loader="imagenet", path=str(tmp_path), subset="imagenet-1O")
    assert len(lines) == 1 and "did you mean 'imagenet-10'" in lines[0]
    assert any("val_labels" in line for line in errors(loader="imagenet", path=str(tmp_path), val_labels="no.csv"))
    assert any("'path'" in line for line in errors(loader="imagenet"))


def test_what_is_read_is_watched(tmp_path):
    (tmp_path / "list.csv").write_text("path\n" + "".join(f"{number}.png\n" for number in range(30)))
    (tmp_path / "a.tar").touch()

    def listings(loader, path):
        return Parameters(plan(loader=loader, path=str(path))).listings("set")

    first, shards = listings("list", tmp_path / "list.csv"), listings("shards", tmp_path)
    (tmp_path / "list.csv").write_text("path\n" + "".join(f"{number}.jpg\n" for number in range(30)))
    assert listings("list", tmp_path / "list.csv") != first
    assert listings("shards", tmp_path) == shards
    (tmp_path / "a.tar").write_bytes(b"x")
    assert listings("shards", tmp_path) != shards
    assert Parameters(plan(loader="cifar10")).listings("set") == []


@pytest.mark.parametrize("root", [None, "photos"])
def test_images_behind_a_list_are_watched(tmp_path, root):
    folder = tmp_path / (root or "")
    folder.mkdir(exist_ok=True)
    (tmp_path / "list.csv").write_text('path,label\n"a, b.png",x\n' + "".join(f"{n}.png,x\n" for n in range(29)))
    (folder / "a, b.png").write_bytes(b"new")
    options = {"path": str(tmp_path / "list.csv")} | ({"root": str(folder)} if root else {})

    def listings():
        return Parameters(plan(loader="list", **options)).listings("set")

    before = listings()
    (folder / "unnamed.png").touch()
    assert listings() == before
    (folder / "other.png").write_bytes(b"old")
    os.utime(folder / "other.png", (1, 1))
    (folder / "other.png").replace(folder / "a, b.png")
    assert listings() != before


def test_a_list_that_cannot_be_read_is_told_in_one_line(tmp_path):
    (tmp_path / "list.csv").write_text("path,label\n" + "".join(f"{number}.png,x,y\n" for number in range(30)))
    with pytest.raises(DeepclustError, match=r"list\.csv, line 2"):
        Parameters(plan(loader="list", path=str(tmp_path / "list.csv"))).listings("set")


def test_listing_of_other_files(tmp_path):
    (tmp_path / "1.png").touch()
    first = listing_digest(tmp_path, ".tar")
    (tmp_path / "2.png").touch()
    assert listing_digest(tmp_path, ".tar") == first
    (tmp_path / "2.tar").touch()
    assert listing_digest(tmp_path, ".tar") != first


def test_folders_see_new_and_removed_files(tmp_path):
    folder = tmp_path / "train" / "n01"
    folder.mkdir(parents=True)
    (folder / "1.JPEG").touch()
    os.utime(folder, (1, 1))
    first = folders_digest(tmp_path)
    assert folders_digest(tmp_path) == first
    (folder / "2.JPEG").touch()
    second = folders_digest(tmp_path)
    (tmp_path / "train" / "n02").mkdir()
    assert len({first, second, folders_digest(tmp_path)}) == 3


def test_files_that_cannot_be_looked_at_are_left_to_prepare(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(30):
        (folder / f"{number}.png").touch()
    (folder / "x.png").symlink_to(tmp_path / "elsewhere.png")
    parameters = Parameters(plan(loader="folder", path=str(folder), k=1))
    broken = parameters.listings("set")
    (tmp_path / "elsewhere.png").touch()
    assert parameters.listings("set") != broken


def deeper_than_paths_reach(folder):
    """Folders in each other until no path is long enough, which holds for root, too."""
    here = Path.cwd()
    try:
        os.chdir(folder)
        for _ in range(20):
            Path("x" * 250).mkdir()
            os.chdir("x" * 250)
    finally:
        os.chdir(here)


def test_folders_that_cannot_be_looked_through(tmp_path):
    (tmp_path / "images" / "cat").mkdir(parents=True)
    (tmp_path / "images" / "cat" / "1.png").touch()
    (tmp_path / "images" / "a.tar").touch()
    deeper_than_paths_reach(tmp_path / "images" / "cat")
    folder = str(tmp_path / "images")
    for options in ({"path": folder}, {"path": str(tmp_path / "images" / "cat"), "test_path": folder}):
        lines = errors(loader="folder", k=1, **options)
        assert any(line.startswith("datasets.set.path: ") and f"{folder}/cat/xxx" in line for line in lines)
    with pytest.raises(DeepclustError, match=f"datasets.set.path: {folder}/cat/x+.* cannot be read: ") as error:
        Parameters(plan(loader="shards", path=folder)).listings("set")
    assert "\n" not in str(error.value)


@pytest.mark.timeout(60)
def test_links_in_circles_and_pipes_do_not_stop_planning(tmp_path):
    (tmp_path / "images").mkdir()
    for number in range(30):
        (tmp_path / "images" / f"{number}.png").touch()
    (tmp_path / "images" / "a.tar").touch()
    (tmp_path / "images" / "circle").symlink_to("circle")
    os.mkfifo(tmp_path / "images" / "pipe.png")
    os.mkfifo(tmp_path / "images" / "pipe.tar")
    for loader in ("folder", "shards", "parquet"):
        assert len(Parameters(plan(loader=loader, path=str(tmp_path / "images"), k=1)).listings("set")) == 1


def test_paths_in_the_home_folder(tmp_path, monkeypatch):
    """In every option that takes a path, also in a list; `~` of nobody stays what it is."""
    home = tmp_path / "home"
    for folder in ("photos", "more"):
        (home / folder).mkdir(parents=True)
        for number in range(30):
            (home / folder / f"{number}.png").write_bytes(b"")
    (home / "cifar.tar.gz").write_bytes(b"")
    monkeypatch.setenv("HOME", str(home))
    found = plan(loader="folder", path="~/photos", test_path="~/more/", k=1)
    assert found.config["datasets"]["set"]["path"] == str(home / "photos")
    assert len(Parameters(found).listings("set")) == 2
    found = plan(loader="cifar10", source=["~/cifar.tar.gz", "https://example.org/~me/cifar.tar.gz"])
    assert found.config["datasets"]["set"]["source"] == [
        str(home / "cifar.tar.gz"),
        "https://example.org/~me/cifar.tar.gz",
    ]
    (line,) = errors(loader="cifar10", source="~/gone.tar.gz")
    assert line == f"datasets.set.source: there is no file {home}/gone.tar.gz"
    (line,) = errors(loader="folder", path="~nobody-of-this-name/photos")
    assert "there is no folder ~nobody-of-this-name/photos" in line
