import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from commands import run_command
from head_samples import all_heads
from safetensors.numpy import load_file

import cluster
from deepclust.core import registry


def run(folder: Path, *flags: str) -> subprocess.CompletedProcess:
    return run_command("cluster", "--threads", "1", "--method", "kmeans", *flags, cwd=folder)


@pytest.fixture
def files(tmp_path):
    generator = np.random.default_rng(0)
    for split, count in (("train", 40), ("test", 20)):
        for backbone in ("pixels", "simclr"):
            path = tmp_path / backbone / split
            path.mkdir(parents=True)
            labels = np.arange(count) % 2
            features = 4 * np.eye(3)[labels] + generator.normal(0, 0.1, (count, 3))
            np.save(path / "features.npy", features.astype(np.float16))
    return tmp_path


COMMON = ["--k", "2", "--seeds", "[0, 4]", "--train", '["train"]', "--splits", '["train", "test"]']
COMMON += ["--output.clusters", "out/clusters.safetensors", "--output.seeds", "out/seeds.json"]
ONE = ["--backbones", '["pixels"]', "--input.features", "pixels/train/features.npy", "pixels/test/features.npy"]


def test_clusters_and_records_what_was_done(files):
    done = run(files, *COMMON, *ONE, "--n_init", "3", "--normalize", "l2", "--provenance", "out/provenance.json")
    assert done.returncode == 0, done.stderr
    assert np.bincount(load_file(files / "out/clusters.safetensors")["seed4/assignments/test"]).tolist() == [10, 10]
    assert len(json.loads((files / "out/seeds.json").read_text())["seeds"][0]["log"]) == 3
    provenance = json.loads((files / "out/provenance.json").read_text())
    assert provenance["options"]["n_init"] == 3
    assert set(provenance["inputs"]) == {"features.0", "features.1"}
    assert set(provenance["outputs"]) == {"clusters", "seeds"}


def test_the_number_of_clusters_may_come_from_a_file(files):
    (files / "k.json").write_text('{"k": 2, "reason": "it was told"}')
    flags = [flag for flag in COMMON if flag not in {"--k", "2"}]
    done = run(files, *flags, *ONE, "--input.chosen_k", "k.json", "--provenance", "out/provenance.json")
    assert done.returncode == 0, done.stderr
    assert json.loads((files / "out/seeds.json").read_text())["k"] == 2
    provenance = json.loads((files / "out/provenance.json").read_text())
    assert provenance["options"]["k"] == 2 and "chosen_k" in provenance["inputs"]
    failed = run(files, *flags, *ONE)
    assert failed.returncode == 1 and "--input.chosen_k" in failed.stderr and failed.stderr.count("\n") == 1


def test_files_are_ordered_by_split_then_backbone(files):
    order = [f"{backbone}/{split}/features.npy" for split in ("train", "test") for backbone in ("pixels", "simclr")]
    done = run(files, *COMMON, "--backbones", '["pixels", "simclr"]', "--input.features", *order)
    assert done.returncode == 0, done.stderr
    tensors = load_file(files / "out/clusters.safetensors")
    assert tensors["seed0/weights/centroids"].shape == (2, 6)
    assert len(tensors["seed0/assignments/test"]) == 20


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([*ONE, "--n_init", "0"], "n_init"),
        ([*ONE, "--unknown", "1"], "unknown"),
        (["--backbones", '["pixels"]', "--input.features", "pixels/train/features.npy"], "1 files for 2 splits"),
        ([*ONE, "--method", "nonsense"], "unknown method 'nonsense' in heads"),
        ([*ONE, "--method", "head"], "unknown method 'head' in heads"),
        ([*ONE, "--method", "self_labelling"], "unknown method 'self_labelling' in heads"),
        ([*ONE, "--k", "41"], "41 clusters"),
    ],
)
def test_bad_input_ends_in_one_line(files, flags, message):
    failed = run(files, *COMMON, *flags)
    assert failed.returncode == 1
    assert message in failed.stderr
    assert failed.stderr.startswith("error: ")
    assert failed.stderr.count("\n") == 1
    assert not (files / "out/clusters.safetensors").exists()


def test_no_option_of_a_head_is_a_flag_of_the_command():
    """They share one command line."""
    for name in all_heads():
        options = registry.load("heads", name).Options
        assert not set(options.model_fields) & set(cluster.Arguments.model_fields), name
