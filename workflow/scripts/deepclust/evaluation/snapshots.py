"""Scores of one snapshot of a backbone; over epochs they tell how its features and its clusters come along."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from deepclust.core.progress import Progress
from deepclust.evaluation.inputs import UNKNOWN, read_labels
from deepclust.evaluation.metrics import Comparison
from deepclust.evaluation.options import ProbeOptions
from deepclust.evaluation.probes import Split, knn_accuracy, linear_accuracy, read_splits

SHOWN = ("acc", "nmi", "ari")


def probe_scores(train: Split, score: Split, options: ProbeOptions, linear: bool, progress: Progress) -> dict[str, Any]:
    """Return `knn_acc` and `linear_acc`, see `deepclust.evaluation.probes`; None if not wanted or not possible."""
    data = read_splits([train], [score])
    possible = len(data.scored) > 0 and data.train > 0
    return {
        "knn_acc": knn_accuracy(data, data.scored, options.knn, progress) if possible else None,
        "linear_acc": linear_accuracy(data, data.scored, options, progress) if possible and linear else None,
    }


def cluster_scores(score: Split, clusters: Mapping[str, npt.NDArray[np.integer]]) -> dict[str, dict[str, float]]:
    """Return ACC, NMI and ARI of each clustering of the images of a split, over those whose class is known."""
    labels = read_labels(score.labels)
    known = labels != UNKNOWN
    if not known.any():
        return {}
    scores = {name: Comparison.of(labels[known], found[known]).score() for name, found in clusters.items()}
    return {name: {key: values[key] for key in SHOWN} for name, values in scores.items()}
