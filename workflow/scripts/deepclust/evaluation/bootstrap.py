"""Confidence intervals of scores: the change that another draw of the images would make.

The images are resampled with replacement, the same resample for all seeds of a run, and the score is averaged over the
seeds. Equal numbers of images give equal resamples, so runs on one dataset are compared on the same draws.

Resampling repeats images, and repeated images agree with themselves: on large tables every measure of agreement comes
out too high. The interval is therefore the percentile interval moved by the bootstrap's estimate of this bias (Efron &
Tibshirani 1993, chapter 10), so that it lies around the score.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from scipy.sparse import vstack

from deepclust.core.progress import Task
from deepclust.core.seeding import derive_seed
from deepclust.evaluation.metrics import METRICS, Comparison, Numbers

Interval = tuple[float, float]

CHUNK = 4_000_000  # numbers in memory at a time


def resample_counts(images: int, resamples: int) -> Iterator[Numbers]:
    """Yield how often each image is drawn, for all resamples in chunks, float64 [images, chunk]."""
    generator = np.random.default_rng(derive_seed("bootstrap", images))
    size = max(1, CHUNK // images)
    for start in range(0, resamples, size):
        counts = np.empty((images, min(size, resamples - start)))
        for column in range(counts.shape[1]):
            counts[:, column] = np.bincount(generator.integers(images, size=images), minlength=images)
        yield counts


def interval(estimate: float, resampled: npt.ArrayLike, confidence: float, lowest: float = 0.0) -> Interval:
    """Return the percentile interval of the resampled scores, moved to lie around the estimate, within [lowest, 1]."""
    resampled = np.asarray(resampled)
    tail = (1 - confidence) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail]) - (resampled.mean() - estimate)
    return float(np.clip(low, lowest, 1)), float(np.clip(high, lowest, 1))


def mean_interval(values: npt.NDArray, resamples: int, confidence: float, lowest: float = 0.0) -> Interval:
    """Return the interval of the mean of one value per image, [N]."""
    resampled = [values @ counts / len(values) for counts in resample_counts(len(values), resamples)]
    return interval(float(values.mean()), np.concatenate(resampled), confidence, lowest)


def score_intervals(
    comparisons: Sequence[Comparison], resamples: int, confidence: float, task: Task | None = None
) -> dict[str, Interval]:
    """Return the intervals of the `METRICS`, averaged over seeds.

    Args:
        comparisons: classes and clusters of the same images, one per seed.
        task: counts the resamples that are done.
    """
    membership = vstack([comparison.membership for comparison in comparisons], format="csr")
    bounds = np.cumsum([comparison.membership.shape[0] for comparison in comparisons])[:-1]
    resampled: dict[str, list[Numbers]] = {name: [] for name in METRICS}
    for counts in resample_counts(membership.shape[1], resamples):
        tables = np.split(membership @ counts, bounds)
        per_seed = [comparison.scores(table) for comparison, table in zip(comparisons, tables)]
        for name in METRICS:
            resampled[name].append(np.mean([scores[name] for scores in per_seed], axis=0))
        if task is not None:
            task.advance(counts.shape[1])
    estimates = [comparison.score() for comparison in comparisons]
    return {
        name: interval(
            float(np.mean([scores[name] for scores in estimates])),
            np.concatenate(resampled[name]),
            confidence,
            lowest=-1.0 if name in {"ari", "ami"} else 0.0,
        )
        for name in METRICS
    }
