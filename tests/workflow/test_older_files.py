"""A file of the user's that takes the place of a newer one: Snakemake by itself notices newer ones only."""

import os
import shutil

import pytest
import yaml
from PIL import Image

from small_experiment import DryRuns, copy_project, snakemake, write_weights

EXPERIMENT = {
    "datasets": {
        "listed": {"loader": "list", "path": "list.txt"},
        "photos": {"loader": "folder", "path": "photos"},
    },
    "backbones": {
        "own": {"method": "pretrained", "weights": "own/model.json"},
        "copied": {
            "method": "pretrained",
            "model": "vit_tiny_patch16_224",
            "arguments": {"img_size": 16, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2},
            "weights": "weights.pth",
            "mean": [0.4, 0.4, 0.4],
            "std": [0.3, 0.3, 0.3],
            "pooling": "class",
        },
    },
    "heads": {"kmeans": {"method": "kmeans"}},
    "runs": [{"dataset": "listed", "backbones": ["own", "copied"], "heads": ["kmeans"], "k": 2}],
    "neighbors": {"k": 2},
}
MADE = {
    "results/data/listed/train/images.json": "photos/1.png",
    "results/data/photos/train/images.json": "photos/1.png",
    "results/backbones/own/model.json": "own/model.json",
    "results/backbones/copied/model.json": "weights.pth",
}


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clone")
    copy_project(folder)
    (folder / "photos").mkdir()
    for number in range(30):
        Image.new("RGB", (8, 8), (8 * number, 0, 0)).save(folder / "photos" / f"{number}.png")
    (folder / "list.txt").write_text("".join(f"photos/{number}.png\n" for number in range(30)))
    write_weights(folder / "weights.pth")
    shutil.copytree(folder / "weights" / "cifar10-simclr-resnet10_w32", folder / "own")
    (folder / "small.yaml").write_text(yaml.safe_dump(EXPERIMENT))
    done = snakemake(folder, "--cores", "2", "--configfile", "small.yaml", "--", *MADE)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def dry_runs(clone):
    runs = DryRuns(clone)
    yield runs
    runs.close()


@pytest.mark.parametrize("target", MADE)
def test_an_older_file_is_noticed(clone, dry_runs, target):
    file = clone / MADE[target]
    before, status = file.read_bytes(), file.stat()
    assert dry_runs.names(targets=[target]) == set()
    try:
        file.write_bytes(before + b" ")
        os.utime(file, (1, 1))
        (job,) = dry_runs(targets=[target])
        assert target in job["output"]
    finally:
        file.write_bytes(before)
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert dry_runs.names(targets=[target]) == set()


def test_a_copy_of_weights_is_the_same(clone, dry_runs):
    os.utime(clone / "own" / "model.json", (1, 1))
    os.utime(clone / "own" / "model.safetensors", (1, 1))
    assert dry_runs.names(targets=["results/backbones/own/model.json"]) == set()
