"""The commands `probe`, `evaluate` and `leaderboard` on a small run, as the workflow calls them."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
from commands import run_command
from safetensors import safe_open

from deepclust.core.files import write_array, write_json, write_tensors
from deepclust.core.fingerprint import SCRIPTS

K = 4
SEEDS = (0, 1, 2, 5)
FAILED = 1
LENGTHS = {"train": 120, "test": 60}
METRICS = ("acc", "nmi", "ari", "ami", "purity", "silhouette", "neighbor_agreement")


def command(name, process=run_command, **flags):
    words = [
        word
        for flag, values in flags.items()
        for word in (f"--{flag.replace('__', '.')}", *map(str, values if isinstance(values, list) else [values]))
    ]
    return process(name, *words)


def own_process(name, *words):
    """A process that has imported nothing before, whose memory is its own."""
    return subprocess.run([sys.executable, SCRIPTS / f"{name}.py", *words], capture_output=True, text=True)


def leaderboard(output, *metrics):
    return command("leaderboard", input__metrics=list(metrics), output__table=output)


def write_neighbors(path, features, count=5):
    write_array(path, np.argsort(-features @ features.T, axis=1)[:, 1 : count + 1].astype(np.int32))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Files of a run with two backbones, three seeds and a failed one; cluster c holds class c, seed 5 has it right."""
    folder = tmp_path_factory.mktemp("run")
    generator = np.random.default_rng(0)
    tensors = {}
    together: dict[str, list] = {"a": [], "b": []}
    for split, images in LENGTHS.items():
        labels = generator.integers(K, size=images)
        write_array(folder / f"{split}.labels.npy", labels.astype(np.int32))
        write_array(folder / f"{split}.unknown.npy", np.full(images, -1, np.int32))
        for backbone in ("a", "b"):
            features = np.eye(K)[labels] + generator.normal(0, 0.1, size=(images, K))
            write_array(folder / f"{split}.{backbone}.features.npy", features.astype(np.float32))
            write_neighbors(folder / f"{split}.{backbone}.neighbors.npy", features)
            together[backbone].append(features)
        for seed, right in ((0, 0.5), (2, 0.7), (5, 1.0)):
            clusters = np.where(generator.random(images) < right, labels, generator.integers(K, size=images))
            tensors[f"seed{seed}/assignments/{split}"] = clusters.astype(np.int32)
    for backbone, features in together.items():
        write_neighbors(folder / f"train+test.{backbone}.neighbors.npy", np.concatenate(features), 50)
    write_tensors(folder / "clusters.safetensors", tensors)
    entries = [
        {"seed": seed, "status": "ok", "reason": "", "objective": 1.0 / (seed + 1), "seconds": 1.0, "sizes": []}
        for seed in SEEDS
    ]
    entries[1] |= {"status": "failed", "reason": "collapsed", "objective": None}
    log = {"k": K, "method": "kmeans", "backbones": ["a", "b"], "seeds": entries, "selected": 2, "criterion": "inertia"}
    write_json(folder / "seeds.json", log)
    write_json(folder / "classes.json", ["ant", "bee", "cat", "dog"])
    cost = {"seconds": 4.0, "peak_memory_mb": 100.0, "device": "a CPU", "packages": {"numpy": "2"}, "host": "here"}
    write_json(folder / "cost.json", cost)
    return folder


def files(folder, what, splits, backbones="ab"):
    return [folder / f"{split}.{backbone}.{what}.npy" for split in splits for backbone in backbones]


def evaluate(folder, output, score=("test",), labels="labels", **changes):
    flags = {
        "input__clusters": folder / "clusters.safetensors",
        "input__seeds": folder / "seeds.json",
        "input__cost": folder / "cost.json",
        "input__features": files(folder, "features", score),
        "input__neighbors": files(folder, "neighbors", ["+".join(score)]),
        "input__labels": [folder / f"{split}.{labels}.npy" for split in score] if labels else None,
        "input__classes": folder / "classes.json",
        "score": json.dumps(list(score)),
        "splits": '["train", "test"]',
        "dataset": "letters",
        "backbones": '["a", "b"]',
        "trained_on": '["ImageNet-1k, self-supervised", "nothing"]',
        "head": "kmeans",
        "protocol": "held-out",
        "bootstrap": 50,
        "output__metrics": output,
    } | changes
    return command("evaluate", **{flag: value for flag, value in flags.items() if value is not None})


@pytest.fixture(scope="module")
def scored(run):
    """`metrics.json` of the run, through probe and evaluate."""
    probed = command(
        "probe",
        input__train_features=files(run, "features", ["train"]),
        input__train_labels=run / "train.labels.npy",
        input__score_features=files(run, "features", ["test"]),
        input__score_labels=run / "test.labels.npy",
        knn=7,
        output__probe=run / "probe.json",
        provenance=run / "probe.provenance.json",
    )
    assert probed.returncode == 0, probed.stderr
    result = evaluate(
        run, run / "metrics.json", input__probe=run / "probe.json", provenance=run / "metrics.provenance.json"
    )
    assert result.returncode == 0, result.stderr
    return json.loads((run / "metrics.json").read_text())


def test_probe_reports_both_ceilings(run, scored):
    probe = json.loads((run / "probe.json").read_text())
    assert (probe["knn_acc"], probe["linear_acc"], probe["knn"]) == (1.0, 1.0, 7)
    assert (probe["n_train"], probe["n_score"], probe["cross_validated"]) == (120, 60, False)
    assert scored["probe"] == probe


def test_metrics_name_the_run(scored):
    assert scored["run"] == {
        "dataset": "letters",
        "backbones": ["a", "b"],
        "trained_on": ["ImageNet-1k, self-supervised", "nothing"],
        "head": "kmeans",
        "k": K,
        "k_by": "experiment",
        "protocol": "held-out",
        "split": "test",
        "published_as": None,
    }
    assert (scored["images"], scored["labelled"], scored["classes"]) == (60, 60, ["ant", "bee", "cat", "dog"])
    assert (scored["selected"], scored["criterion"]) == (2, "inertia")
    assert scored["cost"] == {"seconds": 4.0, "peak_memory_mb": 100.0, "device": "a CPU", "packages": {"numpy": "2"}}


def test_every_seed_is_reported(scored):
    by_seed = {entry["seed"]: entry for entry in scored["seeds"]}
    assert tuple(by_seed) == SEEDS
    assert scored["failed"] == [FAILED]
    assert by_seed[FAILED]["reason"] == "collapsed"
    assert all(by_seed[FAILED][name] is None for name in (*METRICS, "sizes", "matching", "confusion"))
    assert [by_seed[5][name] for name in METRICS[:5]] == [1.0] * 5
    assert by_seed[5]["matching"] == [0, 1, 2, 3]
    assert by_seed[5]["per_class"] == [1.0] * 4
    assert by_seed[5]["acc"] > by_seed[2]["acc"] > by_seed[0]["acc"]
    assert by_seed[5]["silhouette"] > by_seed[2]["silhouette"] > by_seed[0]["silhouette"]
    assert by_seed[5]["modularity"] > by_seed[2]["modularity"] > by_seed[0]["modularity"]
    for seed in (0, 2, 5):
        assert sum(by_seed[seed]["sizes"]) == 60
    confusion = np.array([[row.get(str(cluster), 0) for cluster in range(K)] for row in by_seed[2]["confusion"]])
    assert confusion.sum(axis=0).tolist() == by_seed[2]["sizes"]
    assert np.trace(confusion) / 60 == by_seed[2]["acc"]
    assert by_seed[5]["confusion"] is None


def test_the_summary_is_over_the_seeds_that_succeeded(scored):
    for name in METRICS:
        values = [entry[name] for entry in scored["seeds"] if entry["status"] == "ok"]
        summary = scored["summary"][name]
        assert summary["mean"] == pytest.approx(np.mean(values))
        assert summary["std"] == pytest.approx(np.std(values, ddof=1))
        assert summary["low"] <= summary["mean"] <= summary["high"]
    assert 0 < scored["stability"] < 1
    assert scored["gap"] == pytest.approx(dict.fromkeys(("knn", "linear"), 1 - scored["summary"]["acc"]["mean"]))


def test_files_that_were_skipped_are_counted(run, tmp_path):
    write_json(run / "images.json", {"skipped": 7})
    write_json(run / "raw.json", {})
    manifests = [run / "images.json", run / "raw.json", run / "images.json"]
    result = evaluate(run, tmp_path / "metrics.json", input__manifests=manifests)
    assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "metrics.json").read_text())["skipped"] == 14


def test_the_same_command_gives_the_same_file(run, scored):
    assert evaluate(run, run / "again.json", input__probe=run / "probe.json").returncode == 0
    assert (run / "again.json").read_bytes() == (run / "metrics.json").read_bytes()


def test_provenance_holds_options_and_inputs(run, scored):
    provenance = json.loads((run / "metrics.provenance.json").read_text())
    assert provenance["options"]["bootstrap"] == 50
    assert provenance["inputs"]["clusters"]["path"] == str(run / "clusters.safetensors")
    assert provenance["outputs"]["metrics"]["path"] == str(run / "metrics.json")


@pytest.mark.parametrize(
    "changes", [{"labels": "unknown"}, {"labels": None, "input__classes": None, "input__cost": None}]
)
def test_everything_works_without_labels(run, scored, changes, tmp_path):
    result = evaluate(run, tmp_path / "metrics.json", **changes)
    assert result.returncode == 0, result.stderr
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["labelled"] == 0
    for name in METRICS[:5]:
        assert set(metrics["summary"][name].values()) == {None}
    for name in METRICS[5:]:
        assert metrics["summary"][name] == scored["summary"][name]
    assert metrics["stability"] == scored["stability"]
    assert metrics["gap"] == {"knn": None, "linear": None}


def expected_modularity(run, seed, nearest=20):
    """On the graph of both splits and the nearest neighbors, mean over backbones."""
    with safe_open(run / "clusters.safetensors", "numpy") as file:
        clusters = np.concatenate([file.get_tensor(f"seed{seed}/assignments/{split}") for split in LENGTHS])
    values = []
    for backbone in "ab":
        neighbors = np.load(run / f"train+test.{backbone}.neighbors.npy")[:, :nearest]
        edges = np.zeros((K, K))
        np.add.at(edges, (np.repeat(clusters, neighbors.shape[1]), clusters[neighbors].ravel()), 1)
        edges /= edges.sum()
        values.append(np.trace(edges) - edges.sum(0) @ edges.sum(1))
    return np.mean(values)


def test_splits_are_scored_together(run, scored, tmp_path):
    result = evaluate(run, tmp_path / "metrics.json", score=("train", "test"), bootstrap=0)
    assert result.returncode == 0, result.stderr
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert (metrics["run"]["split"], metrics["images"]) == ("train+test", 180)
    assert metrics["seeds"][3]["acc"] == 1.0
    assert metrics["seeds"][3]["modularity"] == pytest.approx(expected_modularity(run, 5))
    assert metrics["summary"]["acc"]["low"] is None


@pytest.mark.parametrize(("nearest", "counted"), [(7, 7), (50, 20)])
def test_neighbors_that_only_heads_read_do_not_count(run, tmp_path, nearest, counted):
    """Here 50 of each image were found, as heads may want."""
    flags = {"score": ("train", "test"), "bootstrap": 0, "nearest": nearest}
    result = evaluate(run, tmp_path / "metrics.json", **flags)
    assert result.returncode == 0, result.stderr
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["seeds"][0]["modularity"] == pytest.approx(expected_modularity(run, SEEDS[0], counted))


def test_memory_grows_with_the_images_and_not_with_classes_times_clusters(tmp_path):
    """4,000 × 4,000 cells of 8 bytes are 128 MB, of which one does no harm."""
    classes, images = 4000, 8000
    generator = np.random.default_rng(0)
    labels = np.arange(images) % classes
    features = generator.normal(size=(images, 8))
    write_array(tmp_path / "test.labels.npy", labels.astype(np.int32))
    for backbone in "ab":
        write_array(tmp_path / f"test.{backbone}.features.npy", features.astype(np.float32))
        neighbors = generator.integers(images, size=(images, 3)).astype(np.int32)
        write_array(tmp_path / f"test.{backbone}.neighbors.npy", neighbors)
    right = {seed: np.where(generator.random(images) < 0.8, labels, generator.permutation(labels)) for seed in (0, 1)}
    clusters = {f"seed{seed}/assignments/test": found.astype(np.int32) for seed, found in right.items()}
    write_tensors(tmp_path / "clusters.safetensors", clusters)
    seeds = [{"seed": seed, "status": "ok", "reason": "", "objective": 1.0, "seconds": 1.0} for seed in right]
    log = {"k": classes, "seeds": seeds, "selected": 1, "criterion": "inertia"}
    write_json(tmp_path / "seeds.json", log)
    write_json(tmp_path / "classes.json", [f"species {number}" for number in range(classes)])
    record = tmp_path / "metrics.provenance.json"
    changes = {"input__cost": None, "splits": '["test"]', "provenance": record, "process": own_process}
    result = evaluate(tmp_path, tmp_path / "metrics.json", **changes)
    assert result.returncode == 0, result.stderr
    assert json.loads(record.read_text())["peak_memory_mb"] < 700
    assert (tmp_path / "metrics.json").stat().st_size < 2e6
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["seeds"][1]["acc"] >= (right[1] == labels).mean()


def test_a_run_whose_every_seed_failed(run, scored, tmp_path):
    log = json.loads((run / "seeds.json").read_text())
    log["seeds"] = [entry | {"status": "failed", "reason": "collapsed", "objective": None} for entry in log["seeds"]]
    write_json(tmp_path / "seeds.json", log | {"selected": None})
    write_tensors(tmp_path / "clusters.safetensors", {})
    failed = {"input__clusters": tmp_path / "clusters.safetensors", "input__seeds": tmp_path / "seeds.json"}
    done = evaluate(run, tmp_path / "metrics.json", input__probe=run / "probe.json", **failed)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics.keys() == scored.keys()
    assert (metrics["images"], metrics["labelled"], metrics["probe"]) == (60, 60, scored["probe"])
    assert metrics["failed"] == list(SEEDS) and metrics["selected"] is metrics["stability"] is None
    assert {value for numbers in metrics["summary"].values() for value in numbers.values()} == {None}
    assert [(entry["status"], entry["reason"], entry["acc"]) for entry in metrics["seeds"]] == [
        ("failed", "collapsed", None)
    ] * 4
    done = leaderboard(tmp_path / "leaderboard.csv", tmp_path / "metrics.json")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("fewer", ["train", "test"])
def test_a_split_without_the_highest_class(run, tmp_path, fewer):
    """Where classes are only numbers, a split names them up to the highest it holds."""
    classes = {"train": ["0", "1", "2", "3"], "test": ["0", "1", "2", "3"]} | {fewer: ["0", "1"]}
    for split, names in classes.items():
        write_json(tmp_path / f"{split}.json", names)
    result = evaluate(
        run,
        tmp_path / "metrics.json",
        score=("train", "test"),
        input__classes=[tmp_path / f"{split}.json" for split in classes],
        bootstrap=0,
    )
    assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "metrics.json").read_text())["classes"] == ["0", "1", "2", "3"]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"score": ["validation"]}, "validation"),
        ({"input__seeds": "three.json"}, "expected 0 to 2"),
        ({"protocol": None}, "protocol"),
    ],
)
def test_errors_are_one_line(run, tmp_path, changes, named):
    if "input__seeds" in changes:  # the number of clusters is in there
        write_json(tmp_path / "three.json", json.loads((run / "seeds.json").read_text()) | {"k": 3})
        changes = {"input__seeds": tmp_path / "three.json"}
    result = evaluate(run, tmp_path / "metrics.json", **changes)
    assert result.returncode == 1
    assert named in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "metrics.json").exists()


def test_leaderboard_from_metrics(run, scored, tmp_path):
    result = leaderboard(tmp_path / "leaderboard.csv", run / "metrics.json", run / "metrics.json")
    assert result.returncode == 0, result.stderr
    with (tmp_path / "leaderboard.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert [row.pop("label_free_choice") for row in (first, second)] == ["yes", "no"]
    assert first == second
    assert first["acc_mean"] == f"{scored['summary']['acc']['mean']:.10g}"
    assert first["failed_seeds"] == "1"
