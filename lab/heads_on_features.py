"""Heads outside of the workflow: on features in a file, one seed at a time, scored with labels afterwards."""

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "workflow" / "scripts"))

from deepclust.core.progress import Progress
from deepclust.core.rows import scale_rows
from deepclust.evaluation.metrics import Comparison
from deepclust.evaluation.options import ProbeOptions
from deepclust.evaluation.probes import LabelledFeatures, knn_accuracy, linear_accuracy
from deepclust.features.neighbors import find_neighbors as search_neighbors
from deepclust.features.options import NeighborOptions
from deepclust.heads.kit.head import Partition, TrainingData, load_head

NEIGHBORS = 50
FEW = 10_000  # with fewer training images, a batch of 1024 would be nearly an epoch
SMALL_BATCH = 256
RANDOM = "random"  # the member of a control: clusters drawn at random

# Name → method and options: those of experiments/two-stage-cifar10.yaml, relatives, and the consensus of others.
HEADS: dict[str, tuple[str, dict[str, Any]]] = {
    "kmeans-center": ("kmeans", {"normalize": "center"}),
    "spherical-kmeans": ("kmeans", {"normalize": "center", "spherical": True}),
    "kmeans-whiten": ("kmeans", {"normalize": "whiten"}),
    "gmm": ("gmm", {"normalize": "center"}),
    "spectral": ("spectral", {"normalize": "center"}),
    "agglomerative": ("agglomerative", {"normalize": "center"}),
    "scan": ("scan", {}),
    "scan-self": ("scan", {"self_labelling": {"epochs": 25}}),
    "two_stage": ("two_stage", {}),
    "turtle": ("turtle", {}),
    "turtle-standardize": ("turtle", {"normalize": "standardize"}),
    # On features as the consensus sees them.
    "kmeans-half": ("kmeans", {"normalize": "half_whiten", "components": 512}),
    "scan-half": ("scan", {"normalize": "half_whiten", "components": 512}),
    "two_stage-half": ("two_stage", {"normalize": "half_whiten", "components": 512}),
    "turtle-half": ("turtle", {"normalize": "half_whiten", "components": 512}),
    "consensus": ("consensus", {"members": ["two_stage-half", "scan-half"]}),
    "consensus-published": ("consensus", {"members": ["kmeans-whiten", "two_stage", "scan"]}),
    "consensus-random": ("consensus", {"members": [RANDOM]}),
    "temi": ("temi", {}),
    "umap": ("umap", {}),
    "consensus-umap": ("consensus", {"members": ["two_stage-half", "scan-half", "umap"]}),
}
METHODS = {name: load_head(method) for name, (method, _) in HEADS.items()}  # as they are now, however long this runs


@dataclass(frozen=True)
class Data:
    """Features [N, D] and labels [N] of a training and a test split."""

    name: str
    train: npt.NDArray[np.floating]
    test: npt.NDArray[np.floating]
    train_labels: npt.NDArray[np.int64]
    test_labels: npt.NDArray[np.int64]

    @property
    def k(self) -> int:
        """Number of classes."""
        return int(self.train_labels.max()) + 1


def read(source: str) -> Data:
    """An .npz with `x_train`, `x_test`, `y_train`, `y_test`, or `digits`: the pixels of scikit-learn's digits."""
    if source == "digits":
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        images, labels = load_digits(return_X_y=True)
        parts = train_test_split(images.astype(np.float32), labels, test_size=450, random_state=0, stratify=labels)
        return Data("digits", parts[0], parts[1], parts[2].astype(np.int64), parts[3].astype(np.int64))
    with np.load(source) as file:
        labels = [file[name].astype(np.int64) for name in ("y_train", "y_test")]
        return Data(Path(source).stem, file["x_train"], file["x_test"], *labels)


def half_whitens(name: str) -> bool:
    """Tell whether a head of `HEADS` half-whitens the features."""
    return bool(METHODS[name].Options(**HEADS[name][1]).normalize == "half_whiten")


def only(data: Data, classes: Sequence[int]) -> Data:
    """The images of some classes, which are numbered anew."""
    numbers = np.asarray(sorted(classes))
    train, test = (np.isin(labels, numbers) for labels in (data.train_labels, data.test_labels))
    labels = [np.searchsorted(numbers, part) for part in (data.train_labels[train], data.test_labels[test])]
    return Data(f"{data.name}-{'-'.join(map(str, numbers))}", data.train[train], data.test[test], *labels)


def find_neighbors(data: Data, head: str, folder: Path) -> npt.NDArray[np.int32]:
    """The nearest others of every training image by cosine similarity, exact, int32 [N, 50]; kept in `folder`.

    Those of a head that half-whitens features are searched among half-whitened ones.
    """
    half = half_whitens(head)
    path = folder / f"{data.name}{'-half' if half else ''}-neighbors.npy"
    if not path.is_file():
        np.save(folder / "features.npy", data.train)
        search_neighbors([folder / "features.npy"], path, NeighborOptions(k=NEIGHBORS), Progress(), half)
    neighbors: npt.NDArray[np.int32] = np.load(path)
    return neighbors


def nearest_by_half_whitened(features: npt.NDArray[np.float32]) -> npt.NDArray[np.int32]:
    """The 20 nearest others of every image by half-whitened features [N, D], by which clusters are judged."""
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "features.npy", features)
        path = Path(folder) / "neighbors.npy"
        search_neighbors([Path(folder) / "features.npy"], path, NeighborOptions(), Progress(), half_whiten=True)
        neighbors: npt.NDArray[np.int32] = np.load(path)
    return neighbors


@dataclass(frozen=True)
class Fitted:
    """One seed of a head."""

    partition: Partition
    """Clusters of the training split."""
    test: npt.NDArray[np.int32]
    """Clusters of the test split, [N]."""
    scores: dict[str, float]
    """Scores of the test split."""
    objective: float
    cpu: float
    """Seconds of all threads, fit and predictions."""
    wall: float


def members_of(name: str) -> list[str]:
    """The heads whose partitions a head of `HEADS` combines; none for most."""
    return list(HEADS[name][1].get("members", []))


def random_partition(data: Data, seed: int) -> Partition:
    """Clusters drawn at random for the training split."""
    drawn = np.random.default_rng(seed).integers(0, data.k, len(data.train), np.int32)
    return Partition(RANDOM, seed, drawn, None)


def fit(
    name: str,
    seed: int,
    data: Data,
    neighbors: npt.NDArray[np.int32],
    members: Sequence[Partition] = (),
    **changes: object,
) -> Fitted | str:
    """Fit one seed of a head of `HEADS`, with `changes` of its options, and score it; the reason if it failed."""
    head, settings = METHODS[name], dict(HEADS[name][1])
    if "batch_size" in head.Options.model_fields and len(data.train) < FEW:
        settings["batch_size"] = SMALL_BATCH
    options = head.Options(**settings | changes)
    training = TrainingData([data.train], [neighbors] if head.FACTS.needs_neighbors else None, list(members) or None)
    cpu, wall = time.process_time(), time.perf_counter()
    result = next(iter(head.fit(training, data.k, [seed], options, Progress())))
    if result.failure is not None:
        return result.failure
    own, test = (head.predict(result.weights, [features], options) for features in (data.train, data.test))
    return Fitted(
        Partition(name, seed, own.assignments, own.probabilities),
        test.assignments,
        Comparison.of(data.test_labels, test.assignments).score(),
        float("nan") if result.objective is None else result.objective,
        time.process_time() - cpu,
        time.perf_counter() - wall,
    )


def ceilings(data: Data) -> dict[str, float | None]:
    """Accuracy on the test split of 20-NN and of a linear classifier that see the labels of the training split."""
    features = np.concatenate([data.train, data.test]).astype(np.float32)
    scale_rows(features)
    labels = np.concatenate([data.train_labels, data.test_labels])
    scored = np.arange(len(data.train), len(features))
    labelled = LabelledFeatures(features, labels, len(data.train), scored)
    options = ProbeOptions()
    return {
        "20-NN": knn_accuracy(labelled, scored, options.knn, Progress()),
        "linear probe": linear_accuracy(labelled, scored, options, Progress()),
    }
