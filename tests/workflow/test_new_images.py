"""The recipe of docs/usage.md for images that no head has seen, as a user copies it."""

import re
import subprocess
import sys
from ast import literal_eval

import numpy as np
import pytest
from PIL import Image

from small_experiment import ROOT, copy_project, environment, snakemake

EXPERIMENT = """
datasets:
  old: {loader: folder, path: old}
  new: {loader: folder, path: new}
backbones:
  pixels: {method: pixels, image_size: 4}
  mirrored: {method: pixels, image_size: 4, features: {test_time_augmentation: flip}}
heads: {kmeans: {method: kmeans, n_init: 3}}
runs: [{dataset: old, backbones: [pixels], heads: [kmeans], k: 2}]
seeds: 1
neighbors: {k: 5}
"""
CLUSTERS = "results/clustering/old/pixels/kmeans/k2-merged/clusters.safetensors"
FEATURES = "results/features/new/{}/train/features.npy"
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
    targets = [CLUSTERS, *(FEATURES.format(backbone) for backbone in ("pixels", "mirrored"))]
    done = snakemake(folder, "--cores", "2", "--configfile", "new.yaml", "--", *targets)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def recipe(folder, backbone):
    text = (ROOT / "docs" / "usage.md").read_text(encoding="utf-8")
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "predict(" in block)
    code, changed = re.subn(r"results/clustering/\S+?\.safetensors", CLUSTERS, code)
    code, also = re.subn(r"results/features/\S+?\.npy", FEATURES.format(backbone), code)
    assert changed == also == 1
    code, also = re.subn(r'print\((image\["path"\])', r"print(repr(\1)", code)  # a name on one line
    assert also == 1
    words = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, env=environment())


def test_every_image_gets_its_own_cluster(clone):
    done = recipe(clone, "pixels")
    assert done.returncode == 0, done.stderr
    found = {
        literal_eval(name): cluster for name, _, cluster in (line.rpartition(" ") for line in done.stdout.splitlines())
    }
    assert set(found) == set(NAMES)
    sides = [{found[name] for name in NAMES[side::2]} for side in (0, 1)]
    assert len(sides[0]) == len(sides[1]) == 1 and sides[0] != sides[1]


def test_images_that_were_read_otherwise_are_refused(clone):
    done = recipe(clone, "mirrored")
    assert done.returncode == 1 and "not read out in the way" in done.stderr
