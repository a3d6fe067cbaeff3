import numpy as np
import pytest

from deepclust.evaluation import bootstrap, metrics
from deepclust.evaluation.bootstrap import interval, mean_interval, resample_counts, score_intervals
from deepclust.evaluation.metrics import METRICS, Comparison

EXACT = 1e-12


def noisy(images, classes, right, seed, seeds=1):
    """Assignments that put the given share of the images right, and the others anywhere."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(classes, size=images)
    random = generator.integers(classes, size=(seeds, images))
    clusters = np.where(generator.random((seeds, images)) < right, labels, random)
    return [Comparison.of(labels, assigned) for assigned in clusters]


def test_accuracy_interval_is_that_of_a_proportion():
    comparisons = noisy(2000, 5, 0.6, seed=1)
    accuracy = comparisons[0].score()["acc"]
    low, high = score_intervals(comparisons, 1000, 0.95)["acc"]
    half = 1.96 * np.sqrt(accuracy * (1 - accuracy) / 2000)
    assert (accuracy - low, high - accuracy) == pytest.approx((half, half), rel=0.15)


def test_seeds_share_their_resamples():
    """The same assignment for five seeds tells no more than one."""
    comparisons = noisy(500, 4, 0.5, seed=2)
    once, five_times = score_intervals(comparisons, 200, 0.9), score_intervals(5 * comparisons, 200, 0.9)
    for name in METRICS:
        assert five_times[name] == pytest.approx(once[name], abs=EXACT)


@pytest.mark.parametrize("limit", [200, 0])
def test_intervals_lie_around_scores_of_large_tables(monkeypatch, limit):
    """Few images per cell, where resampled agreement comes out far too high; with and without matching anew."""
    monkeypatch.setattr(metrics, "REMATCH_LIMIT", limit)
    comparisons = noisy(1000, 60, 0.5, seed=3, seeds=2)
    intervals = score_intervals(comparisons, 100, 0.95)
    for name in METRICS:
        mean = np.mean([comparison.score()[name] for comparison in comparisons])
        assert intervals[name][0] < mean < intervals[name][1]
        assert intervals[name][1] - intervals[name][0] < 0.1


def test_intervals_do_not_depend_on_chunks(monkeypatch):
    comparisons = noisy(100, 4, 0.5, seed=4, seeds=2)
    whole = score_intervals(comparisons, 50, 0.95)
    monkeypatch.setattr(bootstrap, "CHUNK", 700)
    in_parts = score_intervals(comparisons, 50, 0.95)
    for name in METRICS:
        assert in_parts[name] == pytest.approx(whole[name], abs=EXACT)


def test_every_resample_draws_as_many_images():
    counts = np.concatenate(list(resample_counts(50, 20)), axis=1)
    assert counts.shape == (50, 20)
    assert (counts.sum(axis=0) == 50).all()
    assert len(np.unique(counts, axis=1).T) == 20


def test_mean_interval_is_that_of_a_mean():
    values = np.random.default_rng(5).normal(0.2, 0.1, size=1000)
    low, high = mean_interval(values, 2000, 0.95, lowest=-1.0)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)


def test_a_single_image_has_an_interval_of_no_width():
    intervals = score_intervals([Comparison.of(np.array([3]), np.array([0]))], 10, 0.95)
    assert intervals == dict.fromkeys(METRICS, (1.0, 1.0))


def test_intervals_stay_within_the_range_of_the_score():
    assert interval(0.999, [0.9, 0.95, 1.0, 1.0], 0.95)[1] == 1.0
    assert interval(0.001, [0.1, 0.0, 0.0, 0.0], 0.95)[0] == 0.0
