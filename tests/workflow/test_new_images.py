"""`deepclust predict` on images that no head has seen, and on those of the run itself."""

import csv
import re
import shutil

import numpy as np
import pytest
from PIL import Image

import deepclust as library
from deepclust.heads.kit.store import read_tensors
from small_experiment import ROOT, copy_project, deepclust, snakemake

EXPERIMENT = """
datasets:
  old: {loader: folder, path: old, channels: 1}
backbones:
  pixels: {method: pixels, image_size: 4}
  mirrored: {method: pixels, image_size: 4, features: {test_time_augmentation: flip, dtype: float32}}
heads:
  kmeans: {method: kmeans, n_init: 3}
  gmm: {method: gmm}
runs:
  - {dataset: old, backbones: [pixels, [pixels, mirrored]], heads: [kmeans, gmm], k: 2}
seeds: 2
neighbors: {k: 5}
"""
RUN = "results/clustering/old/{}/{}/k2-merged"
RUNS = [("pixels", "kmeans"), ("pixels", "gmm"), ("pixels+mirrored", "kmeans")]
NAMES = ["two\nlines.png", "a, b.png", 'a "quoted" one.png', "\nfirst.png", "Käthe.png", "plain.png", "tail\n.png"]


def draw(folder, names):
    """Images that are bright at the left or at the right, in turns."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for number, name in enumerate(names):
        pixels = random.integers(0, 40, (8, 8, 3), dtype=np.uint8)
        pixels[:, 4 * (number % 2) :][:, :4] += 200
        Image.fromarray(pixels).save(folder / name)


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clone")
    copy_project(folder)
    draw(folder / "old", [f"{number}.png" for number in range(40)])
    draw(folder / "new", NAMES)
    (folder / "new.yaml").write_text(EXPERIMENT)
    targets = [f"{RUN.format(*run)}/clusters.safetensors" for run in RUNS]
    done = snakemake(folder, "--cores", "2", "--configfile", "new.yaml", "--", *targets)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def predict(folder, *words):
    done = deepclust(folder, "predict", *map(str, words))
    assert done.returncode == 0, done.stderr
    return list(csv.DictReader(done.stdout.splitlines(keepends=True)))


@pytest.mark.parametrize("run", RUNS)
def test_images_of_the_run_get_what_the_run_gave(clone, run):
    done = deepclust(clone, "predict", f"{RUN.format(*run)}/clusters.safetensors", "old", "-o", "made/table.csv")
    assert done.returncode == 0 and done.stderr == "40 images, 0 files skipped\n", done.stderr
    with (clone / "made" / "table.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    description, tensors = read_tensors(clone / RUN.format(*run) / "clusters.safetensors")
    seed = f"seed{description['selected']}"
    with (clone / "results" / "labels" / "old" / "train" / "ids.csv").open(encoding="utf-8", newline="") as file:
        names = [row["path"] for row in csv.DictReader(file)]
    clusters = tensors[f"{seed}/assignments/train"]
    assert [int(rows[name]["cluster"]) for name in names] == clusters.tolist()
    if run[1] == "gmm":
        given = tensors[f"{seed}/probabilities/train"][np.arange(40), clusters]
        assert [rows[name]["probability"] for name in names] == [f"{value:.4f}" for value in given]
    else:
        assert {row["probability"] for row in rows.values()} == {""}


def test_every_new_image_gets_its_own_cluster(clone):
    text = (ROOT / "docs" / "usage.md").read_text(encoding="utf-8")
    [[run, images]] = re.findall(r"^deepclust predict (\S+) (\S+) -o new.csv$", text, re.MULTILINE)
    assert run.startswith("results/clustering/") and images == "photos/"
    shutil.copytree(clone / "new", clone / "photos")
    (clone / "photos" / "broken.png").write_bytes(b"none")
    (clone / "photos" / "note.txt").write_text("none")
    rows = {row["path"]: row for row in predict(clone, RUN.format(*RUNS[0]), images)}
    assert set(rows) == {*NAMES, "broken.png", "note.txt"}
    assert rows["broken.png"]["cluster"] == rows["note.txt"]["cluster"] == ""
    assert rows["broken.png"]["skipped"] and rows["note.txt"]["skipped"]
    sides = [{rows[name]["cluster"] for name in NAMES[side::2]} for side in (0, 1)]
    assert len(sides[0]) == len(sides[1]) == 1 and sides[0] != sides[1]


def test_lists_and_single_images(clone, tmp_path):
    run = RUN.format(*RUNS[0])
    (tmp_path / "list.txt").write_text(f"{clone}/new/plain.png\n{clone}/old/0.png\n")
    listed = predict(clone, run, tmp_path / "list.txt")
    assert [row["path"] for row in listed] == [f"{clone}/new/plain.png", f"{clone}/old/0.png"]
    [one] = predict(clone, clone / run, clone / "new" / "plain.png")
    assert one["cluster"] == listed[0]["cluster"] != listed[1]["cluster"]


def test_what_cannot_be_predicted_is_one_line(clone, tmp_path):
    run = clone / RUN.format(*RUNS[0])
    shutil.copy(run / "clusters.safetensors", tmp_path / "clusters.safetensors")
    (tmp_path / "empty").mkdir()
    model = clone / "results" / "backbones" / "pixels" / "model.json"
    text = model.read_text()
    for words, message in (
        ((run, "nowhere"), "there is no folder, list or image"),
        ((run, tmp_path / "empty"), "holds no images"),
        ((tmp_path, "old"), "does not lie in the results of a workflow"),
        ((tmp_path / "empty", "old"), "is missing"),
        ((run, "old"), "is not the backbone"),
    ):
        if message == "is not the backbone":
            model.write_text(text.replace('"image_size": 4', '"image_size": 5'))
        done = deepclust(clone, "predict", *map(str, words), "-o", str(tmp_path / "made.csv"))
        model.write_text(text)
        (line,) = done.stderr.splitlines()
        assert done.returncode == 1 and message in line
        assert not (tmp_path / "made.csv").exists()


def test_files_of_features_that_were_read_otherwise_are_refused(clone):
    features = "results/features/old/{}/train/features.npy"
    head = library.load(clone / RUN.format(*RUNS[0]))
    assert len(head.predict(clone / features.format("pixels"))) == 40
    with pytest.raises(Exception, match="not read out in the way"):
        head.predict(str(clone / features.format("mirrored")))
