"""Shipped experiments that say they have published settings have these."""

from pathlib import Path

import pytest
import yaml

from deepclust.planning.schema import Schema, check_and_fill

EXPERIMENTS = Path(__file__).resolve().parents[3] / "experiments"


def filled(name):
    """The experiment with all its defaults."""
    experiment, errors = check_and_fill(yaml.safe_load((EXPERIMENTS / f"{name}.yaml").read_text()), Schema())
    assert not errors
    return experiment


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100-20", "stl10"])
def test_self_labelling_is_scans_whatever_it_starts_from(dataset):
    after_secu, after_scan = (filled(f"{dataset}-{method}")["backbones"]["selflabel"] for method in ("secu", "scan"))
    apart = {"start_from": "scan", "snapshot_every": after_scan["snapshot_every"]}
    assert after_secu | apart == after_scan


def test_self_labelling_on_stl10_is_the_published_one():
    selflabel = filled("stl10-secu")["backbones"]["selflabel"]
    assert (selflabel["splits"], selflabel["epochs"], selflabel["batch_size"]) == (["train"], 100, 1000)
    assert selflabel["augmentation"] == {"flip_probability": 0.5, "operations": 4, "cutout": 32}


def test_scan_on_subsets_of_imagenet_has_the_published_options():
    experiment = filled("imagenet-subsets-scan")
    for run, batch in zip(experiment["runs"], (512, 1024, 1024)):
        (scan,) = (experiment["heads"][name] for name in run["heads"] if name != "kmeans")
        assert (scan["normalize"], scan["batch_size"], scan["learning_rate"]) == ("none", batch, 5.0)
        assert (scan["heads"], scan["neighbors"], scan["entropy_weight"], scan["epochs"]) == (10, 50, 5.0, 100)


def test_deepcluster_v2_on_imagenet_scales_all_parameters_without_clipping():
    """As apex's LARC does in the published script."""
    method = filled("imagenet-deepcluster-v2")["backbones"]["deepcluster-v2"]
    assert (method["optimizer"], method["scale_vectors"], method["trust"]) == ("lars", True, 0.001)


def test_deepcluster_v2_on_cifar10_is_solo_learns():
    method = filled("cifar10-deepcluster")["backbones"]["deepcluster-v2"]
    assert (method["optimizer"], method["scale_vectors"], method["trust"]) == ("larc", False, 0.02)
    assert (method["learning_rate"], method["last_learning_rate"], method["warmup_epochs"]) == (0.6, 6e-4, 11)
