"""The table of images and their clusters."""

import csv

import numpy as np
import pytest

from deepclust.core.errors import DeepclustError
from deepclust.core.files import write_tensors
from deepclust.evaluation import assignment_table
from deepclust.evaluation.assignment_table import COLUMNS, write_assignments

NAMES = {"train": ["a, b.png", 'say "c".png', "ä/ö.png"], "test": ["=d.png", "e.png"]}


@pytest.fixture
def run(tmp_path):
    """Clusters of two seeds, the first without probabilities, and the names of the images."""
    generator = np.random.default_rng(0)
    tensors = {}
    for split, names in NAMES.items():
        lines = [["id", "path"], *enumerate(names)]
        with (tmp_path / f"{split}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(lines)
        shares = generator.dirichlet(np.ones(4), len(names)).astype(np.float16)
        tensors[f"seed0/assignments/{split}"] = generator.integers(0, 4, len(names)).astype(np.int32)
        tensors[f"seed7/assignments/{split}"] = shares.argmax(1).astype(np.int32)
        tensors[f"seed7/probabilities/{split}"] = shares
    write_tensors(tmp_path / "clusters.safetensors", tensors)
    return tmp_path, tensors


def table(folder, seed):
    ids = {split: folder / f"{split}.csv" for split in NAMES}
    write_assignments(folder / "assignments.csv", folder / "clusters.safetensors", seed, 4, ids)
    with (folder / "assignments.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("block", [2, 65_536])
def test_every_image_has_its_cluster(run, monkeypatch, block):
    monkeypatch.setattr(assignment_table, "BLOCK", block)
    folder, tensors = run
    for seed in (0, 7):
        lines = table(folder, seed)
        told = [(line["split"], int(line["id"]), line["path"]) for line in lines]
        assert told == [(split, row, name) for split, names in NAMES.items() for row, name in enumerate(names)]
        for line in lines:
            split, row = line["split"], int(line["id"])
            cluster = tensors[f"seed{seed}/assignments/{split}"][row]
            assert int(line["cluster"]) == cluster
            if seed == 0:
                assert line["probability"] == ""
            else:
                share = tensors[f"seed7/probabilities/{split}"][row, cluster]
                assert float(line["probability"]) == pytest.approx(float(share), abs=5e-5)


def test_a_run_without_clusters_has_a_table_without_lines(run):
    folder, _ = run
    assert table(folder, None) == []
    assert (folder / "assignments.csv").read_text().split() == [",".join(COLUMNS)]


def test_names_of_other_images_are_refused(run):
    folder, _ = run
    with (folder / "test.csv").open("a") as file:
        file.write("2,more.png\n")
    with pytest.raises(DeepclustError, match=r"test\.csv: 3"):
        table(folder, 7)
    assert not (folder / "assignments.csv").exists()
