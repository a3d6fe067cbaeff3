"""One table over all runs."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from deepclust.core.errors import DeepclustError
from deepclust.core.files import read_json
from deepclust.evaluation.head_choice import choose_heads

COLUMNS = (
    "dataset",
    "backbone",
    "trained_on",
    "head",
    "k",
    "k_by",
    "classes",
    "protocol",
    "split",
    "images",
    "skipped",
    "labelled",
    "seeds",
    "failed_seeds",
    "failure",
    "acc_mean",
    "acc_std",
    "acc_low",
    "acc_high",
    "nmi_mean",
    "nmi_std",
    "ari_mean",
    "ari_std",
    "ami_mean",
    "ami_std",
    "purity_mean",
    "silhouette_mean",
    "silhouette_std",
    "neighbor_agreement_mean",
    "modularity_mean",
    "modularity_std",
    "stability",
    "knn_acc",
    "linear_acc",
    "selected_seed",
    "criterion",
    "acc_selected",
    "acc_oracle_best_seed",
    "modularity_selected",
    "label_free_choice",
    "acc_label_free_choice",
    "acc_oracle_best_head",
    "acc_lost_by_choice",
    "seconds",
    "peak_memory_mb",
    "device",
    "versions",
)

CHOICE = ("label_free_choice", "acc_label_free_choice", "acc_oracle_best_head", "acc_lost_by_choice")
SETTING = ("dataset", "backbone", "k", "k_by", "protocol")  # heads with the same are compared

Row = dict[str, Any]


def leaderboard(files: Iterable[Path]) -> list[Row]:
    """Return one row per run, by dataset, protocol and k, the best first (ACC; silhouette without labels).

    One of the heads on the same features is the label-free choice: that with the highest modularity of its selected
    seed on a neighbor graph of the scored images. A run whose every seed failed has no scores and is last.

    Raises:
        DeepclustError: a file is not the metrics of a run.
    """
    rows = [_row(path) for path in files]
    settings = [tuple(row[name] for name in SETTING) for row in rows]
    criterion, accuracy = ([row[name] for row in rows] for name in ("modularity_selected", "acc_selected"))
    for choice in choose_heads(settings, [row["head"] for row in rows], criterion, accuracy):
        found = accuracy[choice.chosen]
        best = None if choice.best is None else accuracy[choice.best]
        lost = None if best is None or found is None else best - found
        for position in choice.compared:
            chosen = "yes" if position == choice.chosen else "no"
            rows[position] |= dict(zip(CHOICE, (chosen, found, best, lost)))
    return sorted(rows, key=_order)


def _row(path: Path) -> Row:
    metrics = read_json(path)
    try:
        return _flat(metrics)
    except (KeyError, TypeError, StopIteration) as error:
        raise DeepclustError(
            f"{path} is not a run's metrics ({type(error).__name__}: {error}): delete it and evaluate again"
        ) from error


def _flat(metrics: Mapping[str, Any]) -> Row:
    run, summary, cost = metrics["run"], metrics["summary"], metrics["cost"]
    # None is selected if every seed failed; any of them is then as good as another.
    chosen = next(entry for entry in metrics["seeds"] if metrics["selected"] in (entry["seed"], None))
    row: Row = {name: run[name] for name in ("dataset", "head", "k", "k_by", "protocol", "split")}
    row |= {f"{metric}_{part}": value for metric, numbers in summary.items() for part, value in numbers.items()}
    row |= {name: metrics["probe"].get(name) for name in ("knn_acc", "linear_acc")}
    row |= {name: cost[name] for name in ("seconds", "peak_memory_mb", "device")}
    return row | {
        "backbone": "+".join(run["backbones"]),
        "trained_on": " + ".join(run["trained_on"]),
        "classes": len(metrics["classes"]) or None,
        "images": metrics["images"],
        "skipped": metrics.get("skipped", 0),
        "labelled": metrics["labelled"],
        "seeds": len(metrics["seeds"]) - len(metrics["failed"]),
        "failed_seeds": len(metrics["failed"]),
        "failure": next((entry["reason"] for entry in metrics["seeds"] if entry["status"] != "ok"), None),
        "stability": metrics["stability"],
        "selected_seed": metrics["selected"],
        "criterion": metrics["criterion"],
        "acc_selected": chosen["acc"],
        "modularity_selected": chosen["modularity"],
        **dict.fromkeys(CHOICE),
        # Chosen by labels: not a result, but the score of a perfect choice among the seeds.
        "acc_oracle_best_seed": max((e["acc"] for e in metrics["seeds"] if e["acc"] is not None), default=None),
        "versions": " ".join(f"{name}={version}" for name, version in sorted(cost["packages"].items())),
    }


def _order(row: Row) -> tuple:
    score = row["acc_mean"] if row["acc_mean"] is not None else row["silhouette_mean"]
    names = row["backbone"], row["head"]
    return row["dataset"], row["protocol"], row["k"], row["acc_mean"] is None, score is None, -(score or 0), *names


def version_warnings(rows: Sequence[Row]) -> list[str]:
    """Return one line per package that the rows used in several versions."""
    found: dict[str, set[str]] = {}
    for row in rows:
        for item in row["versions"].split():
            name, version = item.split("=", 1)
            found.setdefault(name, set()).add(version)
    return [
        f"rows were computed with different versions of {name}: {', '.join(sorted(versions))}"
        for name, versions in sorted(found.items())
        if len(versions) > 1
    ]


def to_csv(rows: Iterable[Row]) -> str:
    """Return the table as CSV; a field without a number is empty.

    Scores have ten digits, so that whoever rounds them further rounds them once; seconds and MiB have one after the
    point.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([_cell(name, row[name]) for name in COLUMNS] for row in rows)
    return text.getvalue()


def _cell(column: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.1f}" if column in {"seconds", "peak_memory_mb"} else f"{value:.10g}"
    return str(value)
