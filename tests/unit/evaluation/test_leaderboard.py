import csv
import io
import json
import time

import pytest

from deepclust.core.errors import DeepclustError
from deepclust.evaluation.leaderboard import COLUMNS, leaderboard, to_csv, version_warnings


def numbers(mean, std=0.01):
    return (
        {"mean": mean, "std": std, "low": mean - 0.02, "high": mean + 0.02}
        if mean is not None
        else dict.fromkeys(("mean", "std", "low", "high"))
    )


@pytest.fixture
def metrics(tmp_path):
    count = iter(range(10_000))

    def write(acc=0.5, silhouette=0.1, modularity=None, **changes):
        names = {
            "dataset": "digits",
            "backbones": ["simclr"],
            "trained_on": ["a"],
            "head": "kmeans",
            "k": 10,
            "k_by": "experiment",
            "protocol": "held-out",
        }
        run = names | {"split": "test", "published_as": None} | {k: v for k, v in changes.items() if k in names}
        content = {
            "run": run,
            "classes": ["0", "1"],
            "images": 360,
            "labelled": 300,
            "seeds": [
                {"seed": 0, "status": "ok", "acc": acc if acc is None else acc + 0.125},
                {"seed": 1, "status": "failed", "reason": "collapsed", "acc": None},
                {"seed": 2, "status": "ok", "acc": acc, "modularity": modularity},
            ],
            "summary": {metric: numbers(acc) for metric in ("acc", "nmi", "ari", "ami", "purity")}
            | {"silhouette": numbers(silhouette), "neighbor_agreement": numbers(0.7), "modularity": numbers(0.5)},
            "failed": [1],
            "stability": 0.9,
            "selected": 2,
            "criterion": "inertia",
            "probe": {"knn_acc": 0.97, "linear_acc": None},
            "cost": {
                "seconds": 3.14159,
                "peak_memory_mb": 250.04,
                "device": "a CPU, of sorts",
                "packages": {"torch": "2.13.0"} | changes.get("packages", {}),
            },
        }
        path = tmp_path / f"{next(count)}.json"
        path.write_text(json.dumps(content))
        return path

    return write


def table(files):
    return list(csv.DictReader(io.StringIO(to_csv(leaderboard(files)))))


def test_a_row(metrics):
    (row,) = table([metrics(backbones=["a", "b"], trained_on=["digits", "web"])])
    assert row["trained_on"] == "digits + web"
    assert tuple(row) == COLUMNS
    assert (row["backbone"], row["k"], row["classes"], row["split"]) == ("a+b", "10", "2", "test")
    assert (row["seeds"], row["failed_seeds"], row["selected_seed"]) == ("2", "1", "2")
    assert row["failure"] == "collapsed"
    assert (row["acc_mean"], row["acc_low"], row["acc_selected"]) == ("0.5", "0.48", "0.5")
    assert row["acc_oracle_best_seed"] == "0.625"
    assert (row["knn_acc"], row["linear_acc"]) == ("0.97", "")
    assert (row["seconds"], row["peak_memory_mb"], row["device"]) == ("3.1", "250.0", "a CPU, of sorts")


def test_files_that_were_skipped_stand_beside_the_images(metrics):
    path = metrics()
    content = json.loads(path.read_text()) | {"skipped": 30}
    path.write_text(json.dumps(content))
    assert [(row["images"], row["skipped"]) for row in table([path, metrics()])] == [("360", "30"), ("360", "0")]


def test_rows_are_ordered_the_best_first(metrics):
    files = [
        metrics(acc=0.3, head="low"),
        metrics(acc=0.9, head="high"),
        metrics(acc=0.9, head="also-high"),
        metrics(acc=0.99, k=20),
        metrics(acc=1.0, protocol="merged"),
        metrics(acc=0.1, dataset="cifar10"),
        metrics(acc=None, silhouette=0.2, dataset="photos", head="low"),
        metrics(acc=None, silhouette=0.4, dataset="photos", head="high"),
        metrics(acc=None, silhouette=None, dataset="photos", head="none"),
    ]
    order = [(row["dataset"], row["protocol"], row["k"], row["head"]) for row in table(files)]
    assert order == [
        ("cifar10", "held-out", "10", "kmeans"),
        ("digits", "held-out", "10", "also-high"),
        ("digits", "held-out", "10", "high"),
        ("digits", "held-out", "10", "low"),
        ("digits", "held-out", "20", "kmeans"),
        ("digits", "merged", "10", "kmeans"),
        ("photos", "held-out", "10", "high"),
        ("photos", "held-out", "10", "low"),
        ("photos", "held-out", "10", "none"),
    ]
    assert table(files[::-1]) == table(files)


def test_a_run_whose_every_seed_failed_has_a_row_and_no_part_in_the_choice(metrics):
    path = metrics(head="all")
    content = json.loads(path.read_text())
    empty = dict.fromkeys(("acc", "modularity", "silhouette"))
    content["seeds"] = [{"seed": n, "status": "failed", "reason": f"collapsed {n}", **empty} for n in (3, 4)]
    content |= {"failed": [3, 4], "selected": None, "stability": None}
    content["summary"] = {metric: numbers(None) for metric in content["summary"]}
    path.write_text(json.dumps(content))
    rows = table([path, metrics(head="a", acc=0.1, modularity=-0.5), metrics(head="b", modularity=-0.6)])
    assert [row["head"] for row in rows] == ["b", "a", "all"]
    assert [row["label_free_choice"] for row in rows] == ["no", "yes", ""]
    row = rows[-1]
    assert (row["seeds"], row["failed_seeds"], row["failure"]) == ("0", "2", "collapsed 3")
    assert (row["acc_mean"], row["selected_seed"], row["acc_oracle_best_head"], row["knn_acc"]) == ("", "", "", "0.97")


def test_rows_without_labels_have_empty_cells(metrics):
    (row,) = table([metrics(acc=None)])
    assert (row["acc_mean"], row["acc_selected"], row["silhouette_mean"]) == ("", "", "0.1")
    assert row["acc_oracle_best_seed"] == ""


def test_one_head_is_chosen_without_labels_and_compared_with_the_best(metrics):
    heads = {"a": (0.6, 0.31), "b": (0.7, 0.25), "c": (0.5, 0.30)}
    files = [metrics(acc=acc, modularity=modularity, head=head) for head, (acc, modularity) in heads.items()]
    files += [metrics(acc=0.9, modularity=0.9, head="a", k=20), metrics(acc=0.9, modularity=0.9, k_by="auto")]
    rows = {(row["head"], row["k"], row["k_by"]): row for row in table(files)}
    chosen = {head: rows[head, "10", "experiment"]["label_free_choice"] for head in heads}
    assert chosen == {"a": "yes", "b": "no", "c": "no"}
    for head in heads:
        row = rows[head, "10", "experiment"]
        assert (row["acc_label_free_choice"], row["acc_oracle_best_head"]) == ("0.6", "0.7")
        assert float(row["acc_lost_by_choice"]) == pytest.approx(0.1)
    alone = rows["a", "20", "experiment"], rows["kmeans", "10", "auto"]
    assert {row["label_free_choice"] for row in alone} == {""}


def test_a_head_is_chosen_where_there_are_no_labels(metrics):
    files = [metrics(acc=None, modularity=value, head=f"{value}") for value in (0.2, 0.4, 0.3)]
    rows = table(files)
    assert {row["head"]: row["label_free_choice"] for row in rows} == {"0.2": "no", "0.4": "yes", "0.3": "no"}
    assert {row["acc_oracle_best_head"] for row in rows} == {""}


def test_mixed_versions_are_named(metrics):
    same = [metrics(), metrics(head="other")]
    assert version_warnings(leaderboard(same)) == []
    other = metrics(packages={"torch": "2.12.0", "numpy": "2.0.0"})
    (warning,) = version_warnings(leaderboard([*same, other]))
    assert "torch: 2.12.0, 2.13.0" in warning


def test_a_file_that_is_no_metrics(metrics, tmp_path):
    (tmp_path / "other.json").write_text('{"run": {}}')
    with pytest.raises(DeepclustError, match=r"other\.json"):
        leaderboard([metrics(), tmp_path / "other.json"])


def test_a_thousand_runs(metrics):
    files = [metrics(acc=i / 1000, head=f"head{i}") for i in range(1000)]
    started = time.perf_counter()
    rows = table(files)
    assert time.perf_counter() - started < 5
    assert [row["head"] for row in rows] == [f"head{i}" for i in reversed(range(1000))]
