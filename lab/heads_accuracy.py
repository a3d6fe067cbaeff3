"""A head's accuracy beside that of a straightforward implementation of it: shared by benchmarks of TEMI and TURTLE.

Both are trained on the same features with the same options and seeds, and scored on the test split.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from heads_on_features import Data
from timing import Row

from deepclust.evaluation.metrics import Comparison


@dataclass(frozen=True)
class Request:
    """The requests of the command line."""

    source: str | None
    """Name of the features; see `heads_on_features.read`."""
    accuracy: bool
    """True if accuracies are compared, rather than times."""
    seeds: list[int]
    length: int
    """Epochs or steps of a training whose accuracy is compared."""


def parse(description: str | None, length: str, default: int) -> Request:
    """The command line. `length` says what a training is long in."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("features", nargs="?", help=".npz with x_train, x_test, y_train and y_test, or 'digits'")
    parser.add_argument("--accuracy", action="store_true", help="train both sides to the end and score them")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(5)), help="of --accuracy")
    parser.add_argument(f"--{length}", type=int, default=default, help="of --accuracy", dest="length")
    arguments = parser.parse_args()
    if arguments.accuracy and arguments.features is None:
        parser.error("--accuracy needs features with labels")
    return Request(arguments.features, arguments.accuracy, arguments.seeds, arguments.length)


def compare(
    head: str,
    data: Data,
    seeds: list[int],
    baseline: Callable[[int], npt.NDArray[np.integer]],
    ours: Callable[[int], npt.NDArray[np.integer]],
) -> list[Row]:
    """Accuracies of both sides, each a mean over seeds; every seed's is told on stderr as soon as it is there.

    Ours is to reach the baseline's mean, less twice the standard error of the difference of the means.

    Args:
        baseline, ours: from a seed to the clusters of the test split.
    """
    found = np.empty((2, len(seeds)))
    for column, seed in enumerate(seeds):
        for row, work in enumerate((baseline, ours)):
            found[row, column] = 100 * Comparison.of(data.test_labels, work(seed)).score()["acc"]
            print(f"{head}, seed {seed}, {('baseline', 'ours')[row]}: {found[row, column]:.2f}", file=sys.stderr)
    means, deviations = found.mean(axis=1), found.std(axis=1, ddof=1) if len(seeds) > 1 else np.zeros(2)
    noise = 2 * np.sqrt(np.square(deviations).sum() / len(seeds))
    what = [f"{head}, test ACC, mean of {len(seeds)} seeds ± {deviation:.2f}" for deviation in deviations]
    return [
        Row(f"{what[0]} (baseline)", means[0], "%", None, 1.0),
        Row(what[1], means[1], "%", round(means[0] - noise, 2), means[1] / means[0]),
    ]


def clusters(found: Any) -> npt.NDArray[np.int32]:
    """The clusters of the test split of a `Fitted`; the benchmark ends with the reason where a seed failed."""
    if isinstance(found, str):
        raise SystemExit(found)
    test: npt.NDArray[np.int32] = found.test
    return test
