import copy
import re
from pathlib import Path

import pytest
import yaml

from deepclust.planning import plan as planning
from deepclust.planning.plan import ExperimentError, make_plan
from deepclust.planning.problems import Problem

ROOT = Path(__file__).resolve().parents[3]

BASE = yaml.safe_load("""
datasets:
  digits: {loader: digits}
  cifar10: {loader: cifar10}
backbones:
  pixels: {method: pixels}
  simclr: {method: simclr, dataset: digits, batch_size: 256, augmentation: {crop_scale: [0.5, 1.0]}}
heads:
  kmeans: {method: kmeans}
runs:
  - {dataset: digits, backbones: [pixels, simclr, [pixels, simclr]], heads: [kmeans], k: [5, 10]}
""")


def plan(config):
    return make_plan(copy.deepcopy(config), [])


def changed(path, value):
    """BASE with one key set, or removed if the value is ...."""
    config = copy.deepcopy(BASE)
    *parents, last = path
    node = config
    for key in parents:
        node = node[key]
    if value is ...:
        del node[last]
    else:
        node[last] = value
    return config


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Results of an experiment that was run here are no concern of these tests."""
    monkeypatch.chdir(tmp_path)


def errors(config):
    with pytest.raises(ExperimentError) as error:
        plan(config)
    assert all("\n" not in line for line in error.value.lines)
    return error.value.lines


def test_runs_are_all_combinations():
    paths = [run.path for run in plan(BASE).runs]
    assert len(paths) == len(set(paths)) == 6
    assert "digits/pixels+simclr/kmeans/k10-held-out" in paths


def test_the_number_of_clusters_may_be_chosen():
    for value, ends in (("auto", ["kauto"]), ([5, "auto"], ["k5", "kauto"])):
        found = plan(changed(("runs", 0, "k"), value)).runs
        assert [run.path.split("/")[-1] for run in found] == [f"{k}-held-out" for k in ends] * 3
    assert plan(BASE).config["choose_k"]["range"] == [2, 30]


@pytest.mark.parametrize(
    ("numbers", "where", "what"),
    [
        ([2, 1078], "choose_k.range", "1347 images of digits"),
        ([1, 5], "choose_k.range.0", "at least 2"),
        ([9, 5], "choose_k.range", "smallest, largest"),
        ([2], "choose_k.range", "2 items"),
        ("2-30", "choose_k.range", "list"),
    ],
)
def test_bad_ranges_of_numbers_of_clusters(numbers, where, what):
    config = changed(("runs", 0, "k"), "auto")
    config["choose_k"] = {"range": numbers}
    (line,) = errors(config)
    assert line.startswith(f"{where}:") and what in line


def test_what_is_tried_fits_the_sample():
    """The bound of the command, 80 % of the images that it looks at."""
    config = changed(("runs", 0, "k"), "auto")
    config["choose_k"] = {"range": [2, 1077]}
    plan(config)
    config["choose_k"]["samples"] = 1000
    (line,) = errors(config)
    assert "subsamples of 800 of 1000 images" in line and "raise choose_k.samples" in line
    config["choose_k"]["range"] = [2, 800]
    plan(config)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["pixels"], "raw pixels, which have no stages"),
        (["unused"], "no run reads unused"),
        (["simcrl"], "did you mean 'simclr'?"),
    ],
)
def test_probes_of_stages_that_nothing_would_make(names, message):
    config = changed(("backbones", "unused"), BASE["backbones"]["simclr"])
    config["evaluation"] = {"layer_probe": {"backbones": ["simclr"]}}
    plan(config)
    config["evaluation"]["layer_probe"]["backbones"] = ["simclr", *names]
    (line,) = errors(config)
    assert line.startswith("evaluation.layer_probe.backbones:") and message in line


OWN = {"method": "pretrained", "weights": str(ROOT / "weights" / "cifar10-simclr-resnet10_w32" / "model.json")}


@pytest.mark.parametrize(
    ("backbone", "fits"),
    [
        ({"method": "pixels"}, False),
        ({"method": "pixels", "image_size": 8}, False),
        ({"method": "pixels", "image_size": 8, "features": {"crop_fraction": 0.8}}, True),
        ({"method": "simclr", "dataset": "digits"}, False),
        ({"method": "simclr", "dataset": "digits", "features": {"crop_fraction": 0.8}}, False),
        ({"method": "simclr", "dataset": "digits", "features": {"crop_fraction": 0.8, "image_size": 6}}, True),
        ({"method": "pretrained", "preset": "dino-vits16"}, True),
        ({"method": "pretrained", "preset": "dino-vits16", "features": {"crop_fraction": 1}}, False),
        ({"method": "pretrained", "preset": "clip-vitb16"}, False),
        ({"method": "pretrained", "preset": "clip-vitb16", "crop_fraction": 0.9}, True),
        ({"method": "pretrained", "model": "vit_small_patch16_224.dino"}, True),
        (OWN, False),
        (OWN | {"features": {"image_size": 32, "crop_fraction": 0.875}}, True),
    ],
)
def test_crops_that_would_all_be_the_same(backbone, fits):
    features = {**backbone.get("features", {}), "test_time_augmentation": "five-crop"}
    config = changed(("backbones", "seen"), {**backbone, "features": features})
    config["runs"][0]["backbones"] = ["seen"]
    if fits:
        plan(config)
    else:
        (line,) = errors(config)
        assert line.startswith("backbones.seen.features.test_time_augmentation:")
    config["backbones"]["seen"]["features"]["test_time_augmentation"] = "flip"
    plan(config)


def test_corners_of_images_that_are_not_square_differ(tmp_path):
    for number in range(30):
        (tmp_path / f"{number}.png").touch()
    config = changed(("datasets", "mine"), {"loader": "folder", "path": str(tmp_path)})
    config["backbones"]["pixels"] |= {"image_size": 8, "features": {"test_time_augmentation": "ten-crop"}}
    config["runs"] = [{"dataset": "mine", "backbones": ["pixels"], "heads": ["kmeans"], "k": 3}]
    plan(config)


@pytest.mark.parametrize("k", ["ten", ["auto", "many"], 2.5, None])
def test_other_numbers_of_clusters(k):
    lines = errors(changed(("runs", 0, "k"), k))
    assert lines[0].startswith("runs.0.k") and len(lines) == 1


def test_a_head_with_clusters_of_its_own_takes_no_other_number():
    config = changed(("backbones", "secu"), {"method": "secu", "dataset": "digits", "batch_size": 32, "clusters": 10})
    config["heads"]["own"] = {"method": "native"}
    config["runs"] = [{"dataset": "digits", "backbones": ["secu"], "heads": ["own"], "k": "auto"}]
    (line,) = errors(config)
    assert line.startswith("runs.0.k:") and "10 clusters" in line


def test_defaults_are_filled_in_everywhere():
    config = plan(BASE).config
    assert config["seeds"] == 5
    assert config["neighbors"]["k"] == 20
    assert config["backbones"]["simclr"]["temperature"] == 0.1
    assert config["backbones"]["pixels"]["features"]["precision"] == "auto"


def test_a_partly_given_section_keeps_the_other_defaults():
    augmentation = plan(BASE).config["backbones"]["simclr"]["augmentation"]
    assert augmentation["crop_scale"] == [0.5, 1.0]
    assert augmentation["flip_probability"] == 0.5


def test_writing_out_a_default_changes_nothing():
    config = changed(("backbones", "simclr", "epochs"), 500)
    assert plan(config).config == plan(BASE).config


def test_strings_from_the_command_line_are_understood():
    config = changed(("backbones", "simclr", "epochs"), "7")
    config["seeds"] = "3"
    config["runs"][0]["k"] = ["5", "10"]
    config["backbones"]["simclr"]["weight_decay"] = "1e-4"
    filled = plan(config)
    assert filled.config["backbones"]["simclr"]["epochs"] == 7
    assert filled.config["backbones"]["simclr"]["weight_decay"] == 1e-4
    assert filled.runs[0].seeds == (0, 1, 2)


def test_whole_numbers_may_have_a_point():
    assert [run.k for run in plan(changed(("runs", 0, "k"), 10.0)).runs] == [10, 10, 10]
    assert len(plan(changed(("seeds",), 3.0)).runs[0].seeds) == 3


def test_protocols():
    config = changed(("runs", 0, "protocol"), "merged")
    merged = plan(config)
    assert merged.run_splits("digits", "merged") == (["train", "test"], ["train", "test"])
    assert merged.run_splits("digits", "held-out") == (["train"], ["test"])
    assert {run.protocol for run in merged.runs} == {"merged"}


def test_seeds_of_a_run_override_those_of_the_experiment():
    config = changed(("runs", 0, "seeds"), [3, 1])
    config["runs"].append({"dataset": "digits", "backbones": ["pixels"], "heads": ["kmeans"], "k": 3})
    runs = plan(config).runs
    assert (runs[0].seeds, runs[-1].seeds) == ((3, 1), (0, 1, 2, 3, 4))


def test_a_folder_without_test_images_is_scored_on_itself(tmp_path):
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        for number in range(30):
            (tmp_path / split / f"{number}.png").touch()
    config = changed(("datasets", "mine"), {"loader": "folder", "path": str(tmp_path / "train")})
    config["backbones"]["pixels"]["image_size"] = 8
    config["runs"] = [{"dataset": "mine", "backbones": ["pixels"], "heads": ["kmeans"], "k": 3}]
    assert plan(config).run_splits("mine", plan(config).runs[0].protocol) == (["train"], ["train"])
    config["datasets"]["mine"]["test_path"] = str(tmp_path / "test")
    assert plan(config).runs[0].protocol == "held-out"


def test_images_of_a_folder_are_counted(tmp_path):
    (tmp_path / "notes.txt").touch()
    for number in range(12):
        (tmp_path / f"{number}.png").touch()
    config = changed(("datasets", "mine"), {"loader": "folder", "path": str(tmp_path)})
    config["backbones"]["pixels"]["image_size"] = 8
    config["runs"] = [{"dataset": "mine", "backbones": ["pixels"], "heads": ["kmeans"], "k": 13}]
    lines = errors(config)
    (line,) = lines
    assert "runs.0.k" in line and "12 images" in line


@pytest.mark.parametrize(
    ("path", "value", "where", "named"),
    [
        (("dataset",), {}, "dataset", "did you mean 'datasets'"),
        (("runs", 0, "backbone"), ["simclr"], "runs.0.backbone", "did you mean 'backbones'"),
        (("runs", 0), {"head": ["kmeans"], "backbone": ["simclr"]}, "runs.0.backbone", "did you mean 'backbones'"),
        (("runs", 0), {"head": ["kmeans"], "backbone": ["simclr"]}, "runs.0.head", "did you mean 'heads'"),
        (("backbones", "simclr", "epoch"), 3, "backbones.simclr.epoch", "did you mean 'epochs'"),
        (("backbones", "simclr", "augmentation"), {"crop_scal": 1}, "augmentation.crop_scal", "did you mean"),
        (("backbones", "simclr", "epochs"), "sixty", "backbones.simclr.epochs", "whole number"),
        (("backbones", "simclr", "epochs"), 1.5, "backbones.simclr.epochs", "whole number"),
        (("backbones", "simclr", "epochs"), True, "backbones.simclr.epochs", "whole number"),
        (("backbones", "simclr", "epochs"), None, "backbones.simclr.epochs", "whole number"),
        (("backbones", "simclr", "epochs"), 0, "backbones.simclr.epochs", "at least 1"),
        (("backbones", "simclr", "temperature"), 0, "backbones.simclr.temperature", "greater than 0"),
        (("backbones", "simclr", "optimizer"), "sdg", "backbones.simclr.optimizer", "did you mean 'sgd'"),
        (("backbones", "simclr", "splits"), [], "backbones.simclr.splits", "at least 1"),
        (("backbones", "simclr", "splits"), ["trian"], "backbones.simclr.splits", "no split 'trian'"),
        (("backbones", "simclr", "dataset"), "digit", "backbones.simclr.dataset", "did you mean 'digits'"),
        (("backbones", "simclr", "dataset"), ..., "backbones.simclr", "needs 'dataset'"),
        (("backbones", "simclr", "start_from"), "simclr", "backbones.simclr.start_from", "itself"),
        (("backbones", "simclr", "start_from"), "nobody", "backbones.simclr.start_from", "nobody"),
        (("backbones", "simclr", "augmentation", "crop_scale"), [0.9, 0.2], "augmentation.crop_scale", "smallest"),
        (("backbones", "simclr", "augmentation", "crop_scale"), [0.9], "augmentation.crop_scale", "2 items"),
        (("backbones", "simclr", "augmentation", "crop_scale"), [0.9, 2], "augmentation.crop_scale.1", "at most 1"),
        (("backbones", "simclr", "method"), "simcrl", "backbones.simclr.method", "did you mean 'simclr'"),
        (("backbones", "simclr", "method"), ..., "backbones.simclr", "needs 'method'"),
        (("backbones", "simclr"), "simclr", "backbones.simclr", "mapping"),
        (("backbones", "simclr"), None, "backbones.simclr", "mapping"),
        (("datasets", "digits", "loader"), "digitz", "datasets.digits.loader", "did you mean 'digits'"),
        (("datasets", "cifar10", "source"), "/no/such/file", "datasets.cifar10.source", "/no/such/file"),
        (("datasets", "cifar10", "sha256"), "abc", "datasets.cifar10.sha256", "abc"),
        (("datasets", "mine"), {"loader": "folder", "path": "/no/such"}, "datasets.mine.path", "/no/such"),
        (("datasets", "a/b"), {"loader": "digits"}, "datasets.a/b", "name"),
        (("datasets", ".."), {"loader": "digits"}, "datasets...", "name"),
        (("datasets", "a+b"), {"loader": "digits"}, "datasets.a+b", "name"),
        (("datasets", "a b"), {"loader": "digits"}, "datasets.a b", "name"),
        (("datasets", 3), {"loader": "digits"}, "datasets.3", "name"),
        (("heads", "kmeans", "method"), "kmean", "heads.kmeans.method", "did you mean 'kmeans'"),
        (("heads",), {}, "heads", "empty"),
        (("heads",), ..., "experiment", "needs 'heads'"),
        (("runs",), [], "runs", "at least 1"),
        (("runs",), {"a": 1}, "runs", "list"),
        (("runs", 0, "dataset"), "digts", "runs.0.dataset", "did you mean 'digits'"),
        (("runs", 0, "backbones"), ["pixel"], "runs.0.backbones", "did you mean 'pixels'"),
        (("runs", 0, "backbones"), ["pixels", "pixels"], "runs.0.backbones", "twice"),
        (("runs", 0, "backbones"), [["pixels", "pixels"]], "runs.0.backbones", "twice"),
        (("runs", 0, "heads"), ["kmeanz"], "runs.0.heads", "did you mean 'kmeans'"),
        (("runs", 0, "k"), 0, "runs.0.k", "at least 1"),
        (("runs", 0, "k"), 1348, "runs.0.k", "1347"),
        (("runs", 0, "k"), [3, 3], "runs.0.k", "twice"),
        (("runs", 0, "k"), "ten", "runs.0.k", "whole number"),
        (("runs", 0, "k"), [], "runs.0.k", "at least 1"),
        (("runs", 0, "protocol"), "heldout", "runs.0.protocol", "did you mean 'held-out'"),
        (("runs", 0, "seeds"), [1, 1], "runs.0.seeds", "twice"),
        (("seeds",), 0, "seeds", "at least one"),
        (("seeds",), [], "seeds", "at least one"),
        (("seeds",), [-1], "seeds", "at least 0"),
        (("seeds",), "five", "seeds", "whole number"),
        (("runs", 0, "k"), 10.5, "runs.0.k", "whole number"),
        (("runs", 0, "backbones"), [["pixels", ["simclr"]]], "runs.0.backbones.0.1", "text"),
        (("runs", 0, "backbones"), [[]], "runs.0.backbones.0", "at least 1"),
        (("heads", "km\n"), {"method": "kmeans"}, "heads.km", "letters"),
        (("heads", "k" * 101), {"method": "kmeans"}, "heads.k", "letters"),
        (("backbones", "simclr", "learning_rate"), float("nan"), "backbones.simclr.learning_rate", "finite"),
        (("backbones", "simclr", "temperature"), float("inf"), "backbones.simclr.temperature", "finite"),
        (("backbones", "simclr", "splits"), ["train", "train"], "backbones.simclr.splits", "twice"),
        (("backbones", "simclr", "resume_from"), "nowhere.pt", "backbones.simclr.resume_from", "nowhere.pt"),
        (("evaluation",), {"confidence": 1.5}, "evaluation.confidence", "less than 1"),
    ],
)
def test_errors_say_where_and_what(path, value, where, named):
    lines = errors(changed(path, value))
    assert any(where in line and named in line for line in lines), lines


def test_all_errors_at_once():
    config = changed(("backbones", "simclr", "epochs"), 0)
    config["runs"][0]["k"] = 5000
    config["heads"]["kmeans"]["n_int"] = 3
    config["datasets"]["cifar10"]["loader"] = "cifar"
    lines = errors(config)
    for where in ("backbones.simclr.epochs", "runs.0.k", "heads.kmeans.n_int", "datasets.cifar10.loader"):
        assert sum(where in line for line in lines) == 1, lines


def test_one_error_is_one_line():
    assert len(errors(changed(("backbones", "simclr", "epochs"), 0))) == 1


WRONG_IN_MANY_PLACES = """
seeds: 0
choose_k: {range: [2, 3, 4], samples: 10}
datasets:
  digits: {loader: digits, vigor: 1}
  other: {loader: digits}
backbones:
  pixels: {method: pixels, image_size: large}
  simclr: {method: simclr, dataset: gone, batch_size: 256}
  five: {method: pretrained, preset: dino-vits16, features: {test_time_augmentation: five-crop, image_size: 30}}
heads:
  kmeans: {method: kmeans, restarts: many}
  temi: {method: temi, neighbors: 5000}
runs:
  - {dataset: other, backbones: [simclr, five, missing], heads: [temi, kmeans], k: [auto, 5000]}
  - {dataset: other, backbones: pixels, heads: [temi], k: 3}
"""


@pytest.mark.parametrize("words", ["", "backbones", "choose_k", "runs.0: datasets.other.path: heads.temi: reworded"])
def test_a_reworded_message_changes_nothing_of_what_is_checked(words, monkeypatch):
    def places():
        return [line.partition(": ")[0] for line in errors(yaml.safe_load(WRONG_IN_MANY_PLACES))]

    def reworded(config, schema):
        filled, problems = check_and_fill(config, schema)
        assert len(problems) > 4
        return filled, [Problem(problem.path, f"{words} {number}") for number, problem in enumerate(problems)]

    expected, check_and_fill = places(), planning.check_and_fill
    monkeypatch.setattr(planning, "check_and_fill", reworded)
    assert places() == expected
    assert {"heads.temi.neighbors", "runs.0.k", "backbones.five.features.image_size", "seeds"} <= set(expected)


def test_an_entry_with_an_error_hides_none_of_an_entry_whose_name_begins_alike():
    config = copy.deepcopy(BASE)
    config["datasets"] |= {"photos": {"loader": "folder", "path": "gone"}, "photos.new": {"loader": "folder", "way": 1}}
    places = [line.partition(": ")[0] for line in errors(config)]
    assert sorted(places) == ["datasets.photos.new", "datasets.photos.new.way", "datasets.photos.path"]


def test_a_backbones_own_clusters_need_a_method_that_has_some():
    config = copy.deepcopy(BASE)
    config["backbones"]["secu"] = {"method": "secu", "dataset": "digits", "clusters": 10}
    config["heads"]["own"] = {"method": "native"}
    config["runs"] = [{"dataset": "digits", "backbones": ["secu"], "heads": ["own"], "k": 10}]
    assert [run.path for run in plan(config).runs] == ["digits/secu/own/k10-held-out"]
    config["runs"][0]["k"] = [10, 20]
    (line,) = errors(config)
    assert line.startswith("runs.0.k: own has the 10 clusters of secu (clusters)")
    config["runs"][0] |= {"k": 10, "backbones": ["simclr", "secu"]}
    (line,) = errors(config)
    assert line.startswith("runs.0.heads: own") and "simclr" in line
    config["runs"][0]["backbones"] = [["secu", "pixels"]]
    (line,) = errors(config)
    assert line.startswith("runs.0.backbones: head own reads at most 1")
    config["runs"][0]["backbones"] = ["secu"]
    config["backbones"]["secu"]["features"] = {"pooling": "max"}
    (line,) = errors(config)
    assert line.startswith("backbones.secu.features.pooling: own needs avg")


@pytest.mark.parametrize("method", ["scan", "temi", "two_stage", "spectral", "agglomerative", "umap", "consensus"])
def test_heads_that_want_more_neighbors_than_there_are_images_say_so(method, tmp_path):
    for number in range(31):
        (tmp_path / f"{number}.png").touch()
    config = changed(("datasets", "mine"), {"loader": "folder", "path": str(tmp_path)})
    config["backbones"]["pixels"]["image_size"] = 8
    members = {"members": ["kmeans"]} if method == "consensus" else {}
    config["heads"]["near"] = {"method": method, "neighbors": 31, **members}
    config["runs"] = [{"dataset": "mine", "backbones": ["pixels"], "heads": ["kmeans", "near"], "k": 3}]
    assert errors(config) == [
        "heads.near.neighbors: 31 neighbors are wanted, an image of mine (train) has 30 others: lower it"
    ]
    config["heads"]["near"]["neighbors"] = 30
    plan(config)


def test_few_images_need_no_option(tmp_path):
    """Neighbors are searched for the scores of every head, and nobody asked for 20 of them."""
    for number in range(2):
        (tmp_path / f"{number}.png").touch()
    config = changed(("datasets", "mine"), {"loader": "folder", "path": str(tmp_path)})
    config["backbones"]["pixels"]["image_size"] = 8
    config["runs"] = [{"dataset": "mine", "backbones": ["pixels"], "heads": ["kmeans"], "k": 2}]
    assert len(plan(config).runs) == 1


@pytest.mark.parametrize("method", ["scan", "two_stage"])
def test_batches_are_larger_than_the_clusters_are_many(method):
    config = changed(("heads", "near"), {"method": method, "neighbors": 20, "batch_size": 39})
    config["runs"][0] |= {"heads": ["near"], "k": [10, 20]}
    (line,) = errors(config)
    assert line.startswith("heads.near.batch_size: 39 images") and "at least 40" in line
    config["heads"]["near"]["batch_size"] = 40
    plan(config)
    config["heads"]["near"] = {"method": "turtle", "batch_size": 39}  # evens all images
    plan(config)


def test_a_malformed_section_of_neighbors_is_one_error():
    config = changed(("heads", "near"), {"method": "spectral"})
    config["neighbors"] = 5
    (line,) = errors(config)
    assert line.startswith("neighbors: ")


def test_neighbors_are_searched_among_all_images_that_are_read_together():
    """Digits have 1347 train and 450 test images."""
    config = changed(("runs", 0, "heads"), ["graph"])
    config["heads"] |= {"graph": {"method": "spectral", "neighbors": 1500}}
    config["runs"][0]["protocol"] = "merged"
    assert len(plan(config).runs) == 6
    config["runs"][0]["protocol"] = "held-out"
    (line,) = errors(config)
    assert "an image of digits (train) has 1346 others" in line


def test_what_a_backbone_starts_from_must_fit():
    config = copy.deepcopy(BASE)
    scan = {"method": "scan", "dataset": "digits", "start_from": "simclr", "clusters": 10}
    last = {"method": "selflabel", "dataset": "digits", "start_from": "scan", "clusters": 10}
    config["backbones"] |= {"scan": scan, "last": last}
    plan(config)
    scan["nearest"] = 1347
    (line,) = errors(config)
    assert line.startswith("backbones.scan.nearest: 1347 neighbors are wanted, an image of digits (train) has 1346")
    scan["nearest"], last["clusters"] = 20, 5
    (line,) = errors(config)
    assert line.startswith("backbones.last.clusters: scan has 10 clusters")
    last |= {"clusters": 10, "start_from": "simclr"}
    (line,) = errors(config)
    assert line.startswith("backbones.last.start_from: simclr (simclr) has no clusters")
    del last["start_from"]
    (line,) = errors(config)
    assert line == "backbones.last: needs 'start_from'"


@pytest.mark.parametrize("method", ["deepcluster", "deepcluster_v2", "secu", "tcc"])
def test_no_training_with_more_clusters_than_images(method):
    """Where their number is known before they are prepared."""
    sobel = {"sobel": False} if method == "deepcluster" else {}
    config = copy.deepcopy(BASE)
    own = {"method": method, "dataset": "digits", "architecture": "resnet18", "clusters": 1000, **sobel}
    config["backbones"]["own"] = own
    plan(config)
    own["clusters"] = 100_000
    (line,) = errors(config)
    assert re.match(r"backbones\.own\.clusters: 100000 clusters are more than the \d+ images of digits \(train\)", line)


def test_training_may_start_from_a_network_trained_elsewhere():
    config = copy.deepcopy(BASE)
    weights = str(ROOT / "weights" / "cifar10-simclr-resnet10_w32" / "model.json")
    config["backbones"]["trained"] = {"method": "pretrained", "weights": weights}
    fits = {"architecture": "resnet10_w32", "stem": "stl", "start_from": "trained"}
    config["backbones"]["simclr"] |= fits
    plan(config)
    config["backbones"]["simclr"]["stem"] = "cifar"
    (line,) = errors(config)
    assert line.startswith("backbones.simclr.stem: cifar differs from trained's stl")
    config["backbones"]["trained"] = {"method": "pretrained", "preset": "dino-vits16"}
    (line,) = errors(config)
    assert line.startswith("backbones.simclr.architecture: resnet10_w32 differs from trained's")


def test_the_same_run_twice():
    config = copy.deepcopy(BASE)
    config["runs"].append({"dataset": "digits", "backbones": ["pixels"], "heads": ["kmeans"], "k": 10})
    (line,) = errors(config)
    assert "runs.1" in line and "runs.0" in line


def test_raw_pixels_of_images_that_differ_in_size_need_one(tmp_path):
    config = changed(("datasets", "mine"), {"loader": "folder", "path": str(tmp_path)})
    config["runs"] = [{"dataset": "mine", "backbones": ["pixels"], "heads": ["kmeans"], "k": 3}]
    assert any("backbones.pixels.image_size" in line for line in errors(config))


def test_a_cycle_of_backbones():
    config = changed(("backbones", "other"), {**BASE["backbones"]["simclr"], "start_from": "simclr"})
    config["backbones"]["simclr"]["start_from"] = "other"
    assert any("start from itself" in line for line in errors(config))


def test_files_are_named(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("a: 1\n")
    with pytest.raises(ExperimentError) as error:
        make_plan({"a": 1}, [path])
    assert all(line.startswith(f"{path}: ") for line in error.value.lines)


def combining(**heads):
    config = changed(["heads"], {"kmeans": {"method": "kmeans"}, "two": {"method": "kmeans", "n_init": 1}, **heads})
    config["runs"][0]["heads"] = list(config["heads"])
    return config


def test_a_head_combines_others_of_the_same_run():
    config = combining(both={"method": "consensus", "members": ["two", "kmeans"]})
    found = plan(config)
    [run] = [run for run in found.runs if run.path == "digits/pixels+simclr/both/k5-held-out"]
    assert found.members(run) == ["digits/pixels+simclr/two/k5-held-out", "digits/pixels+simclr/kmeans/k5-held-out"]
    assert found.members(next(run for run in found.runs if run.head == "kmeans")) == []


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (["kmeans", "kmens"], "heads.both.members: heads defines no 'kmens'; did you mean 'kmeans'?"),
        (["both"], "heads.both.members: both combines other heads itself: name those instead"),
        (["kmeans", "kmeans"], "heads.both.members: 'kmeans' is named twice"),
        ([], "heads.both.members: needs at least 1 item, got []"),
    ],
)
def test_members_that_cannot_be_combined(members, message):
    assert errors(combining(both={"method": "consensus", "members": members})) == [message]


def test_members_that_have_no_such_run():
    config = combining(both={"method": "consensus", "members": ["two", "kmeans"]})
    config["runs"][0] |= {"heads": ["both", "two"], "k": 5, "backbones": ["pixels"]}
    config["runs"].append({"dataset": "digits", "backbones": ["pixels"], "heads": ["kmeans"], "k": 10})
    [line] = errors(config)
    assert line.startswith("runs.0.heads: both combines kmeans, but digits/pixels/kmeans/k5-held-out is no run")


@pytest.mark.parametrize("number", [20240101, 10**30])
def test_a_single_seed_that_is_written_as_a_number_of_seeds(number):
    for config, where in ((BASE | {"seeds": number}, "seeds"), (changed(("runs", 0, "seeds"), number), "runs.0.seeds")):
        (line,) = errors(config)
        assert line.startswith(f"{where}:") and f"[{number}]" in line


def test_many_seeds_are_planned_at_once():
    (seeds,) = {run.seeds for run in plan(BASE | {"seeds": 10_000}).runs}
    assert seeds == tuple(range(10_000))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("backbones", "simclr", "splits"), "train"),
        (("backbones", "simclr", "splits"), 5),
        (("backbones", "simclr", "splits"), [["train"]]),
        (("datasets", "cifar10", "source"), 5),
        (("heads", "both"), {"method": "consensus", "members": [["kmeans"], "kmeans"]}),
        (("evaluation",), {"layer_probe": {"backbones": [["simclr"]]}}),
        (("backbones", "simclr", "features"), 5),
    ],
)
def test_a_value_of_the_wrong_type_is_named_once(path, value):
    config = changed(path, value)
    config["runs"][0]["heads"] = list(config["heads"])
    if path[-1] == "features":
        config["heads"]["native"] = {"method": "native"}
        config["runs"].append({"dataset": "digits", "backbones": ["simclr"], "heads": ["native"], "k": 10})
    (line,) = errors(config)
    assert line.startswith(".".join(path)) and "must be" in line


def joining(names):
    config = copy.deepcopy(BASE)
    config["backbones"] = {name: {"method": "pixels"} for name in names}
    config["runs"] = [{"dataset": "digits", "backbones": [list(names)], "heads": ["kmeans"], "k": 10}]
    return config


def test_joined_names_of_backbones_must_fit_a_file_name(tmp_path):
    names = [100 * "a", 100 * "b", 53 * "c"]
    (run,) = plan(joining(names)).runs
    (tmp_path / run.path).mkdir(parents=True)
    (line,) = errors(joining([*names[:2], 54 * "c"]))
    assert line.startswith("runs.0.backbones: ") and "256" in line and "255" in line


def test_the_length_of_names():
    assert plan(joining([100 * "a"])).runs
    (line,) = (line for line in errors(joining([101 * "a"])) if line.startswith("backbones."))
    assert "101" in line and "100" in line


def test_a_method_that_is_not_generated_yet(monkeypatch):
    monkeypatch.setattr("deepclust.core.registry.files", lambda package: [Path(f"{package}/mine.py")])
    (line,) = errors(changed(("heads", "own"), {"method": "mine"}))
    assert line.endswith("though its file is there: run `make generate`, which writes it into the schema")
