import json

import numpy as np
import pytest

from deepclust.core.errors import DeepclustError
from deepclust.core.files import write_json
from deepclust.reporting.runs import NO_CLASS, SeedScores, by_dataset, read_run, seed_spread


def seed_result(sizes, matching):
    return SeedScores(0, "ok", "", {}, sizes, matching, None, [])


def test_a_run_is_what_its_metrics_say(write_metrics):
    path = write_metrics(backbones=("dino", "clip"), failed="a cluster is empty", published_as="CIFAR-10")
    run = read_run(path)
    assert run.path == "toy/dino+clip/kmeans/k3-held-out"
    assert path.parent.as_posix().endswith(run.path)
    assert run.trained_on == ("images for dino", "images for clip")
    assert (run.chosen.seed, run.failed, run.published_as) == (1, [2], "CIFAR-10")
    assert run.seeds[1].reason == "a cluster is empty"
    assert run.chosen.confusion is not None and run.chosen.confusion.sum() == run.images
    assert run.metric == "acc"
    assert run.mean("acc") == pytest.approx(28 / 30)


def test_a_run_whose_every_seed_failed(write_metrics):
    run = read_run(write_metrics(all_failed="one cluster took all"))
    assert (run.selected, run.failure, run.metric, run.mean("acc")) == (None, "one cluster took all", "acc", None)
    assert read_run(write_metrics(failed="another")).failure == ""
    others = [read_run(write_metrics(head=head, errors=9)) for head in ("a", "z")]
    assert [each.head for each in by_dataset([run, *others])["toy"]] == ["a", "z", "kmeans"]


def test_that_no_seed_is_selected_needs_a_reason(write_metrics):
    path = write_metrics()
    write_json(path, {**json.loads(path.read_text()), "selected": None})
    with pytest.raises(DeepclustError, match="not all failed"):
        read_run(path)


def test_without_labels_runs_are_ranked_by_silhouette(write_metrics):
    run = read_run(write_metrics(labelled=False))
    assert run.metric == "silhouette"
    assert run.mean("acc") is None
    assert run.probe == {}
    assert run.chosen.confusion is None
    assert seed_spread(run, "acc") == ""
    assert seed_spread(run, "silhouette") == "0.250 ± 0.010"


def test_labels_without_names_get_numbers(write_metrics, tmp_path):
    path = write_metrics()
    content = json.loads(path.read_text())
    content["classes"] = []
    write_json(path, content)
    assert read_run(path).classes == ["class 0", "class 1", "class 2"]


def test_classes_without_images_have_no_accuracy(write_metrics):
    path = write_metrics()
    content = json.loads(path.read_text())
    content["seeds"][0]["per_class"][1] = None
    write_json(path, content)
    assert np.isnan(read_run(path).chosen.per_class[1])


@pytest.mark.parametrize("key", ["run", "seeds", "selected", "summary", "classes"])
def test_a_file_that_is_no_run_is_named(write_metrics, key):
    path = write_metrics()
    content = json.loads(path.read_text())
    del content[key]
    write_json(path, content)
    with pytest.raises(DeepclustError, match=str(path)):
        read_run(path)


def test_clusters_follow_their_classes_and_then_their_size():
    result = seed_result([5, 9, 7, 9], [NO_CLASS, 1, 0, NO_CLASS])
    assert result.cluster_order() == [2, 1, 3, 0]


def test_without_labels_clusters_go_from_large_to_small():
    assert seed_result([5, 9, 7], []).cluster_order() == [1, 2, 0]


def test_runs_are_grouped_by_dataset_best_first(write_metrics):
    runs = [
        read_run(write_metrics(dataset=dataset, head=head, errors=errors))
        for dataset, head, errors in [("b", "x", 3), ("b", "y", 0), ("a", "x", 9), ("b", "z", 3)]
    ]
    groups = by_dataset(reversed(runs))
    assert {name: [run.head for run in group] for name, group in groups.items()} == {"a": ["x"], "b": ["y", "x", "z"]}
    assert list(groups) == ["a", "b"]
