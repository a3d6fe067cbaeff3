"""A target whose path names what the experiment does not have is refused with one line."""

import shutil

import pytest

from small_experiment import ROOT, DryRuns, copy_experiment, copy_project

OWN = """
datasets: {digits: {loader: digits}}
backbones: {own: {method: pretrained, weights: results/backbones/theirs/model.json}}
heads: {kmeans: {method: kmeans}}
runs: [{dataset: digits, backbones: [own], heads: [kmeans], k: 10}]
"""

REFUSED = {
    "results/data/digit/train/images.bin": "datasets defines no 'digit'; did you mean 'digits'?",
    "results/labels/nosuch/train/labels.npy": "datasets defines no 'nosuch' (known: digits, shapes)",
    "results/data/digits/unlabeled/images.bin": "digits has no unlabeled split",
    "results/features/digits/simcl/train/features.npy": "backbones defines no 'simcl'; did you mean 'simclr'?",
    "results/features/nosuch/pixels/train/features.npy": "datasets defines no 'nosuch'",
    "results/features/digits/nosuch/train/features.npy": "backbones defines no 'nosuch'",
    "results/features/digits/pixels/train+unlabeled/neighbors.npy": "digits has no unlabeled split",
    "results/clustering/nosuch/pixels/k/held-out.json": "datasets defines no 'nosuch'",
    "results/clustering/nosuch/pixels/kmeans/k10-held-out/clusters.safetensors": "datasets defines no 'nosuch'",
    "results/clustering/digits/pixels/nosuch/k10-held-out/clusters.safetensors": "k10-held-out is no run",
    "results/clustering/digits/nosuch/kmeans/k10-held-out/clusters.safetensors": "k10-held-out is no run",
    "results/evaluation/digits/later/kmeans/k11-held-out/metrics.json": "k11-held-out is no run",
    "results/evaluation/digits/pixels+nosuch/probe/held-out.json": "backbones defines no 'nosuch'",
    "results/evaluation/shapes/small/probe/held-out.json": "shapes has no test split, which held-out needs",
    "results/evaluation/digits/pixels/probe/with-unlabeled.json": "digits has no unlabeled split",
    "results/evaluation/digits/pixels/snapshots.json": "pixels has no snapshots",
    "results/evaluation/nosuch/elsewhere/snapshots.json": "datasets defines no 'nosuch'",
    "results/evaluation/digits/nosuch/snapshots.json": "backbones defines no 'nosuch'",
    "results/evaluation/nosuch/simclr/layers.csv": "datasets defines no 'nosuch'",
    "results/evaluation/digits/nosuch/layers.csv": "backbones defines no 'nosuch'",
    "results/report/nosuch/pixels/held-out/map.safetensors": "datasets defines no 'nosuch'",
    "results/report/digits/nosuch/held-out/choice_of_k.png": "backbones defines no 'nosuch'",
    "resources/downloads/01234567/images.tar": "01234567/images.tar is no download",
}


@pytest.fixture(scope="module")
def dry_runs_of_a_clone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clone")
    copy_experiment(folder)
    runs = DryRuns(folder)
    yield runs
    runs.close()


@pytest.mark.parametrize("target", REFUSED)
def test_one_line(dry_runs_of_a_clone, target):
    answer = dry_runs_of_a_clone.ask(targets=[target])
    assert answer.get("exit") == 1, answer
    (line,) = answer["said"].splitlines()
    assert REFUSED[target] in line


@pytest.mark.parametrize(
    "target",
    [
        "results/features/shapes/pixels/train/features.npy",
        "results/evaluation/digits/small/probe/merged.json",
        "results/evaluation/shapes/simclr/layers.csv",
    ],
)
def test_what_no_run_needs_can_be_made(dry_runs_of_a_clone, target):
    assert dry_runs_of_a_clone(targets=[target])


def test_weights_of_another_experiment_in_the_same_folder_are_found(tmp_path):
    """A backbone that this experiment does not define, but that lies where backbones do: a file as any other."""
    copy_project(tmp_path)
    shutil.copytree(ROOT / "weights" / "cifar10-simclr-resnet10_w32", tmp_path / "results" / "backbones" / "theirs")
    (tmp_path / "small.yaml").write_text(OWN)
    runs = DryRuns(tmp_path)
    try:
        jobs = runs(targets=["results/features/digits/own/train/features.npy"])
        assert {"fetch_weights", "extract_features"} < {job["rule"] for job in jobs}
        assert "pixels" not in {job["rule"] for job in jobs}
    finally:
        runs.close()
