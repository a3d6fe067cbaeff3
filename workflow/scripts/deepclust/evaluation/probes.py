"""Ceilings: how well frozen features tell the labels with supervision, by k-NN and by a linear classifier.

Both see the features as unit vectors. With the held-out protocol they learn from the training splits and are scored on
the others. If a scored image is also a training image (merged protocol), k-NN leaves it out of its own vote and the
linear probe is cross-validated.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepclust.core.errors import DeepclustError
from deepclust.core.progress import Progress
from deepclust.core.seeding import derive_seed
from deepclust.evaluation.inputs import (
    UNKNOWN,
    check_lengths,
    feature_count,
    feature_dimension,
    read_labels,
    unit_features,
)
from deepclust.evaluation.options import ProbeOptions

TEMPERATURE = 0.07  # of the k-NN votes, as in Wu et al. 2018 and DINO
FOLDS = 5
FEW_CLASSES = 50
ITERATIONS = 200  # of L-BFGS; accuracy is settled long before the loss
BLOCK = 4096  # k-NN queries at a time


@dataclass(frozen=True)
class Split:
    """Files of one split: `features.npy` of each backbone, and `labels.npy`."""

    features: tuple[Path, ...]
    labels: Path


@dataclass(frozen=True)
class LabelledFeatures:
    """The labelled images of all splits, every image once, training images first.

    Attributes:
        features: unit vectors, float32 [N, D].
        labels: int64 [N].
        train: number of training images.
        scored: rows of the scored images, ascending.
    """

    features: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    train: int
    scored: npt.NDArray[np.int64]

    @property
    def overlap(self) -> bool:
        """Tell whether scored images are among the training images."""
        return bool((self.scored < self.train).any())


def probe(train: Sequence[Split], score: Sequence[Split], options: ProbeOptions, progress: Progress) -> dict[str, Any]:
    """Measure both ceilings.

    Returns:
        `knn_acc` and `linear_acc` (None if the labels do not allow it), `knn` (neighbors), `n_train` and `n_score`
        (labelled images that were used), `cross_validated`.

    Raises:
        DeepclustError: the files do not belong together.
    """
    data = read_splits(train, score)
    scored = _sample(data.scored, options.samples, "score")
    possible = len(scored) > 0 and data.train > 0
    return {
        "knn_acc": knn_accuracy(data, scored, options.knn, progress) if possible else None,
        "linear_acc": linear_accuracy(data, scored, options, progress) if possible else None,
        "knn": options.knn,
        "n_train": data.train,
        "n_score": len(scored),
        "cross_validated": data.overlap,
    }


def read_splits(train: Sequence[Split], score: Sequence[Split]) -> LabelledFeatures:
    """Read the labelled images of all splits; a split that is in both lists is read once.

    Raises:
        DeepclustError: the files do not belong together.
    """
    splits = list(dict.fromkeys([*train, *score]))
    labels = [read_labels(split.labels) for split in splits]
    for split, known in zip(splits, labels):
        check_lengths({str(split.features[0]): feature_count(split.features), str(split.labels): len(known)})
    dimensions = {feature_dimension(split.features) for split in splits}
    if len(dimensions) > 1:
        listed = ", ".join(map(str, sorted(dimensions)))
        raise DeepclustError(f"the features of the splits have different dimensions ({listed}): extract them again")
    rows = [np.flatnonzero(known != UNKNOWN) for known in labels]
    bounds = np.cumsum([0, *map(len, rows)])
    features = np.empty((bounds[-1], dimensions.pop()), np.float32)
    start = 0
    for split, wanted in zip(splits, rows):
        for block in unit_features(split.features, wanted):
            features[start : start + len(block)] = block
            start += len(block)
    scored = [np.arange(bounds[i], bounds[i + 1]) for i, split in enumerate(splits) if split in set(score)]
    known_labels = np.concatenate([known[wanted] for known, wanted in zip(labels, rows)])
    return LabelledFeatures(features, known_labels, int(bounds[len(set(train))]), np.concatenate(scored))


def knn_accuracy(
    data: LabelledFeatures, scored: npt.NDArray[np.int64], neighbors: int, progress: Progress
) -> float | None:
    """Return the accuracy of weighted k-NN by cosine similarity (Wu et al. 2018); an image has no vote on itself.

    Each neighbor votes for its class with weight exp(similarity / 0.07).
    """
    import faiss

    neighbors = min(neighbors, data.train - data.overlap)
    if neighbors < 1:
        return None
    classes = int(data.labels.max()) + 1
    right = 0
    with progress.task("k-NN", len(scored), "images") as task:
        for start in range(0, len(scored), BLOCK):
            rows = scored[start : start + BLOCK]
            similarity, found = faiss.knn(
                data.features[rows],
                data.features[: data.train],
                neighbors + data.overlap,
                metric=faiss.METRIC_INNER_PRODUCT,
            )
            if data.overlap:
                similarity, found = _without_itself(similarity, found, rows)
            # The nearest neighbor's weight is set to 1, so that no exponential overflows.
            weights = np.exp((similarity - similarity[:, :1]) / TEMPERATURE)
            votes = np.zeros((len(rows), classes))
            np.add.at(votes, (np.arange(len(rows))[:, None], data.labels[found]), weights)
            right += int((votes.argmax(axis=1) == data.labels[rows]).sum())
            task.advance(len(rows))
    return right / len(scored)


def _without_itself(
    similarity: npt.NDArray[np.float32], found: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Drop each image from its own neighbors; drop the last neighbor if the image is not among them."""
    dropped = found == rows[:, None]
    dropped[~dropped.any(axis=1), -1] = True
    shape = (len(rows), found.shape[1] - 1)
    return similarity[~dropped].reshape(shape), found[~dropped].reshape(shape)


def linear_accuracy(
    data: LabelledFeatures, scored: npt.NDArray[np.int64], options: ProbeOptions, progress: Progress
) -> float | None:
    """Return the accuracy of multinomial logistic regression on the centred features, fitted by L-BFGS.

    It is None if some fit would see a single class.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    # Products with few columns are bound by memory: several threads are no faster, and on a busy machine far slower.
    threads = 1 if data.labels.max() < FEW_CLASSES else None
    right = 0
    with progress.task("linear probe", FOLDS if data.overlap else 1, "fits") as task:
        for number, (fitted, tested) in enumerate(_folds(data, scored)):
            fitted = _sample(fitted, options.samples, f"fit {number}")
            if len(np.unique(data.labels[fitted])) < 2:
                return None
            known = data.features[fitted]
            mean = known.mean(axis=0, dtype=np.float64).astype(np.float32)
            known -= mean
            scale = np.float32(np.linalg.norm(known) / np.sqrt(len(known))) or np.float32(1)
            known /= scale
            model = LogisticRegression(C=1 / (options.l2 * len(fitted)), max_iter=ITERATIONS)
            with (
                warnings.catch_warnings(action="ignore", category=ConvergenceWarning),
                threadpool_limits(threads, "blas"),
            ):
                model.fit(known, data.labels[fitted])
            right += int((model.predict((data.features[tested] - mean) / scale) == data.labels[tested]).sum())
            task.advance()
    return right / len(scored)


def _folds(
    data: LabelledFeatures, scored: npt.NDArray[np.int64]
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Yield rows to fit on and rows to predict: every scored image is predicted once, by a fit that did not see it."""
    if not data.overlap:
        yield np.arange(data.train), scored
        return
    # Dealing out a shuffle that is sorted by class gives every fold its share of each.
    shuffled = np.random.default_rng(derive_seed("probe", "folds")).permutation(len(data.labels))
    dealt = shuffled[np.argsort(data.labels[shuffled], kind="stable")]
    fold = np.empty(len(dealt), np.int64)
    fold[dealt] = np.arange(len(dealt)) % FOLDS
    for number in range(FOLDS):
        yield np.flatnonzero(fold[: data.train] != number), scored[fold[scored] == number]


def _sample(rows: npt.NDArray[np.int64], most: int, name: str) -> npt.NDArray[np.int64]:
    """Draw at most `most` of the rows at random, in ascending order."""
    if len(rows) <= most:
        return rows
    generator = np.random.default_rng(derive_seed("probe", name))
    return np.sort(generator.choice(rows, most, replace=False))
