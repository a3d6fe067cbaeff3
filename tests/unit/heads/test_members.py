"""A head that combines others reads their files, and is fitted anew when these change."""

import numpy as np
import pytest
from head_samples import nearest
from safetensors.numpy import load_file

from deepclust.core.errors import DeepclustError
from deepclust.core.files import read_json
from deepclust.core.progress import Progress
from deepclust.heads import consensus, kmeans
from deepclust.heads.kit.clustering import ClusteringJob, cluster
from deepclust.heads.kit.members import read_members


@pytest.fixture
def features(tmp_path):
    """Files of features of two splits, 4 groups."""
    generator = np.random.default_rng(0)
    files = {}
    for split, count in (("train", 80), ("test", 40)):
        labels = np.arange(count) % 4
        path = tmp_path / f"{split}.npy"
        np.save(path, (np.eye(5)[labels] * 5 + generator.normal(0, 0.1, (count, 5))).astype(np.float16))
        files[split] = [path]
    return files


def execute(folder, features, method, options, k=4, train=("train",), members=None):
    folder.mkdir(exist_ok=True)
    near = folder / "neighbors.npy"
    np.save(near, nearest(np.concatenate([np.load(features[split][0]) for split in train]), 5))
    run = ClusteringJob(method, options, k, [0, 1], ["a"], list(train), features, [near], members or {})
    cluster(run, folder / "clusters.safetensors", folder / "seeds.json", code="c0de", progress=Progress())
    return folder / "clusters.safetensors"


def combine(folder, features, members, **changes):
    options = consensus.Options(members=list(members), neighbors=5, batch_size=20, epochs=2, rounds=1, round_epochs=1)
    return execute(folder, features, "consensus", options, members=members, **changes)


def test_all_seeds_of_all_members_are_read(features, tmp_path):
    members = {
        name: execute(tmp_path / name, features, "kmeans", kmeans.Options(n_init=1), train=("train", "test"))
        for name in ("one", "two")
    }
    found = read_members(members, 4, ["train", "test"], 120)
    assert [(part.member, part.seed) for part in found] == [("one", 0), ("one", 1), ("two", 0), ("two", 1)]
    tensors = load_file(members["one"])
    expected = np.concatenate([tensors["seed1/assignments/train"], tensors["seed1/assignments/test"]])
    np.testing.assert_array_equal(found[1].assignments, expected)
    assert found[1].probabilities is None
    again = combine(tmp_path / "both", features, members, train=("train", "test"))
    [first, *_] = read_members({"both": again}, 4, ["train"], 80)
    assert first.probabilities.shape == (80, 4)


def test_new_clusters_of_a_member_are_noticed(features, tmp_path):
    member = execute(tmp_path / "one", features, "kmeans", kmeans.Options(n_init=1))
    combine(tmp_path / "both", features, {"one": member})
    [before] = (tmp_path / "both").glob(".seeds-*")
    combine(tmp_path / "both", features, {"one": member})
    assert list((tmp_path / "both").glob(".seeds-*")) == [before]
    execute(tmp_path / "one", features, "kmeans", kmeans.Options(spherical=True))
    combine(tmp_path / "both", features, {"one": member})
    [after] = (tmp_path / "both").glob(".seeds-*")
    assert after != before


def test_members_whose_every_seed_failed_have_no_vote(features, tmp_path):
    good = execute(tmp_path / "good", features, "kmeans", kmeans.Options(n_init=1))
    constant = tmp_path / "constant.npy"
    np.save(constant, np.zeros((80, 5), np.float16))
    failed = execute(tmp_path / "failed", {"train": [constant]}, "kmeans", kmeans.Options(n_init=1))
    both = combine(tmp_path / "both", features, {"good": good, "failed": failed})
    alone = combine(tmp_path / "alone", features, {"good": good})
    assert load_file(both).keys() == load_file(alone).keys() != set()
    for name, expected in load_file(alone).items():
        np.testing.assert_array_equal(load_file(both)[name], expected)
    none = combine(tmp_path / "none", features, {"failed": failed})
    entries = read_json(none.with_name("seeds.json"))["seeds"]
    assert load_file(none) == {} and {entry["status"] for entry in entries} == {"failed"}
    assert all("every seed of failed failed" in entry["reason"] for entry in entries)


def test_members_that_do_not_fit(features, tmp_path):
    member = execute(tmp_path / "one", features, "kmeans", kmeans.Options(n_init=1))
    with pytest.raises(DeepclustError, match="4 clusters, not 3"):
        combine(tmp_path / "both", features, {"one": member}, k=3)
    with pytest.raises(DeepclustError, match="not of the same 79 images"):
        read_members({"one": member}, 4, ["train"], 79)
    with pytest.raises(DeepclustError, match="not of the same 80 images"):
        read_members({"one": member}, 4, ["unlabeled"], 80)
    options = consensus.Options(members=["one", "two"])
    with pytest.raises(DeepclustError, match="one, two"):
        execute(tmp_path / "both", features, "consensus", options, members={"one": member})
