"""A small scored run of the same form as the other stages write it."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from deepclust.core.files import write_array, write_json, write_tensors
from deepclust.core.images import write_raw

CLASSES = ["cat", "dog & <b>wolf</b>", "$x_1$"]


def seed_entry(
    seed: int, labels: np.ndarray, clusters: np.ndarray, k: int, classes: int, modularity: float
) -> dict[str, Any]:
    """What the evaluation says about a seed whose cluster `i` is matched to class `i`."""
    counts = Counter(zip(labels.tolist(), clusters.tolist()))
    confusion: list[dict[str, int]] = [{} for _ in range(classes)]
    for (label, cluster), images in sorted(counts.items()):
        confusion[label][str(cluster)] = images
    right = np.array([counts[c, c] for c in range(classes)])
    known = np.bincount(labels, minlength=classes)
    return {
        "seed": seed,
        "status": "ok",
        "reason": None,
        "objective": 1.0,
        "acc": float(right.sum() / len(labels)),
        "nmi": float(normalized_mutual_info_score(labels, clusters)),
        "ari": float(adjusted_rand_score(labels, clusters)),
        "silhouette": 0.25,
        "neighbor_agreement": 0.8,
        "modularity": modularity,
        "sizes": np.bincount(clusters, minlength=k).tolist(),
        "matching": [c if c < classes else -1 for c in range(k)],
        "confusion": confusion,
        "per_class": [int(r) / int(n) if n else None for r, n in zip(right, known)],
    }


def metrics(
    dataset: str = "toy",
    backbones: tuple[str, ...] = ("simclr",),
    head: str = "kmeans",
    k: int = 3,
    *,
    k_by: str = "experiment",
    modularity: float = 0.6,
    labelled: bool = True,
    errors: int = 2,
    images: int = 30,
    skipped: int = 0,
    failed: str = "",
    all_failed: str = "",
    published_as: str = "",
    protocol: str = "held-out",
    split: str = "test",
    classes: list[str] | None = None,
) -> dict[str, Any]:
    """A `metrics.json`: one image in three of each class, the first `errors` images in the next cluster.

    `failed`: why a second seed failed; `all_failed`: why the only one did.
    """
    names = CLASSES if classes is None else classes
    labels = np.arange(images) % len(names)
    clusters = labels % k
    clusters[:errors] = (clusters[:errors] + 1) % k
    entry = seed_entry(1, labels, clusters, k, len(names), modularity)
    summary = {
        name: {"mean": entry[name], "std": 0.01, "low": entry[name] - 0.02, "high": entry[name] + 0.02}
        for name in ("acc", "nmi", "ari", "silhouette", "neighbor_agreement", "modularity")
    }
    if not labelled:
        names = []
        entry |= dict.fromkeys(("acc", "nmi", "ari", "matching", "confusion", "per_class"))
        for name in ("acc", "nmi", "ari"):
            summary[name] = dict.fromkeys(("mean", "std", "low", "high"))
    seeds = [entry]
    if failed:
        seeds.append({**dict.fromkeys(entry), "seed": 2, "status": "failed", "reason": failed})
    if all_failed:
        seeds = [{**dict.fromkeys(entry), "seed": 1, "status": "failed", "reason": all_failed}]
        summary = {name: dict.fromkeys(numbers) for name, numbers in summary.items()}
    return {
        "run": {
            "dataset": dataset,
            "backbones": list(backbones),
            "trained_on": [f"images for {backbone}" for backbone in backbones],
            "head": head,
            "k": k,
            "k_by": k_by,
            "protocol": protocol,
            "split": split,
            "published_as": published_as,
        },
        "classes": names,
        "images": images,
        "skipped": skipped,
        "labelled": images if labelled else 0,
        "seeds": seeds,
        "summary": summary,
        "failed": [entry["seed"] for entry in seeds if entry["status"] == "failed"],
        "stability": None if all_failed else 0.9,
        "selected": None if all_failed else 1,
        "criterion": "objective",
        "probe": {"knn_acc": 0.97, "linear_acc": 0.98} if labelled else {"knn_acc": None, "linear_acc": None},
        "cost": {"seconds": 75.0, "peak_memory_mb": 512.0, "device": "a CPU", "packages": {"numpy": "2.0"}},
        "gap": {"knn": None, "linear": None},
    }


@pytest.fixture
def write_metrics(tmp_path: Path) -> Callable[..., Path]:
    """Write the metrics of a run to its place and return the path."""

    def write(**facts: Any) -> Path:
        content = metrics(**facts)
        run = content["run"]
        folder = tmp_path / "results/evaluation" / run["dataset"] / "+".join(run["backbones"]) / run["head"]
        k = "auto" if run["k_by"] == "auto" else run["k"]
        path = folder / f"k{k}-{run['protocol']}" / "metrics.json"
        write_json(path, content)
        return path

    return write


@pytest.fixture
def toy_split(tmp_path: Path) -> Callable[[str, np.ndarray, np.ndarray], dict[str, Path]]:
    """Write images of one split, all images of a class in one colour, with labels and clusters."""

    def write(split: str, labels: np.ndarray, clusters: np.ndarray) -> dict[str, Path]:
        pixels = np.zeros((len(labels), 3, 4, 4), np.uint8)
        pixels[:, 0] = np.where(labels < 0, 250, labels * 40 + 20)[:, None, None]
        folder = tmp_path / "results/data/toy" / split
        write_raw(folder, [pixels], (3, 4, 4))
        files = {
            "images": folder / "images.bin",
            "labels": tmp_path / f"results/labels/toy/{split}/labels.npy",
            "clusters": tmp_path / f"clusters-{split}.safetensors",
        }
        files["labels"].parent.mkdir(parents=True, exist_ok=True)
        write_array(files["labels"], labels.astype(np.int32))
        write_tensors(files["clusters"], {f"seed1/assignments/{split}": clusters.astype(np.int32)})
        return files

    return write


@pytest.fixture
def write_log(tmp_path: Path) -> Callable[[str, int], Path]:
    """Write the training log of a backbone."""

    def write(backbone: str, epochs: int) -> Path:
        path = tmp_path / "results/backbones" / backbone / "training.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        same = {"learning_rate": 0.1, "images_per_second": 900.0, "feature_std": 0.05, "seconds": 1}
        lines = [json.dumps({"epoch": epoch, "loss": 5.0 / epoch, **same}) for epoch in range(1, epochs + 1)]
        path.write_text("\n".join(lines) + "\n")
        return path

    return write
