import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepclust.heads.kit.monitors import WATCHED, collapse, monitor, unusable_sizes, watched


def certain(assignments, k, confidence=1.0):
    rest = (1 - confidence) / (k - 1)
    return np.where(np.eye(k)[assignments] == 1, confidence, rest).astype(np.float32)


def test_numbers_of_even_and_certain_clusters():
    assignments = np.repeat(np.arange(4), 25)
    found = monitor(certain(assignments, 4), np.roll(assignments, 1))
    assert found == {
        "clusters": 4,
        "largest": 0.25,
        "smallest": 0.25,
        "entropy": pytest.approx(1),
        "confidence": pytest.approx(1),
        "unchanged": 0.96,
    }
    assert collapse(found, 4, "advice") is None


def test_entropy_of_uneven_clusters():
    found = monitor(certain(np.repeat([0, 1], [90, 10]), 2), None)
    assert found["entropy"] == pytest.approx(-(0.9 * np.log(0.9) + 0.1 * np.log(0.1)) / np.log(2))
    assert "unchanged" not in found
    assert (found["largest"], found["smallest"]) == (0.9, 0.1)


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [
        (certain(np.zeros(50, int), 10), "one cluster took all images: lower x"),
        (certain(np.arange(50) % 10, 10, 0.12), "nearly uniform.*0.120"),
    ],
)
def test_collapse_says_what_was_seen_and_what_to_try(probabilities, message):
    assert pytest.approx(1) == probabilities.sum(1)[0]
    found = collapse(monitor(probabilities, None), 10, "lower x")
    with pytest.raises(AssertionError, match=message):
        assert found is None, found


@pytest.mark.parametrize(("k", "sizes"), [(2, [1000, 10]), (10, [50] * 9), (1, [5])])
def test_no_false_alarm(k, sizes):
    """Rare clusters, one of ten without a watched image, and a single one that was asked for are no collapse."""
    probabilities = np.eye(k)[np.repeat(np.arange(len(sizes)), sizes)]
    assert collapse(monitor(probabilities, None), k, "") is None


def test_clusters_without_watched_images_are_no_collapse():
    """As with 5,000 uneven clusters and 10,000 watched images."""
    generator = np.random.default_rng(0)
    sizes = generator.lognormal(3, 1, 100).astype(int) + 1
    seen = generator.permutation(np.repeat(np.arange(100), sizes))[:200]
    assert len(np.unique(seen)) < 90
    assert collapse(monitor(np.eye(100)[seen], None), 100, "") is None
    assert unusable_sizes(sizes, "") is None


@pytest.mark.parametrize(("k", "filled", "fails"), [(1, 1, False), (2, 1, True), (20, 19, True), (20, 20, False)])
def test_none_of_few_clusters_may_be_empty(k, filled, fails):
    found = unusable_sizes(np.array([5] * filled + [0] * (k - filled)), "lower x")
    assert found == (f"only {filled} of {k} clusters have images: lower k, or lower x" if fails else None)


@pytest.mark.parametrize(("filled", "fails"), [(90, False), (89, True)])
def test_one_in_ten_of_many_clusters_may_be_empty(filled, fails):
    assert (unusable_sizes(np.array([5] * filled + [0] * (100 - filled)), "") is not None) == fails


def test_empty_clusters_may_be_no_failure():
    assert unusable_sizes(np.array([5, 5, 0]), None) is None


@pytest.mark.parametrize("advice", [None, "lower x"])
def test_a_giant_cluster_is_no_result(advice):
    found = unusable_sizes(np.array([49_991] + [1] * 9), advice)
    assert found.startswith("one cluster has 99.98% of the images: ")
    assert advice is None or found.endswith(advice)


@pytest.mark.parametrize("k", [2, 3, 10, 1000])
def test_one_class_a_hundred_times_as_large_as_each_other_is_a_result(k):
    assert unusable_sizes(np.array([600] + [6] * (k - 1)), "lower x") is None


@given(st.integers(1, 5 * WATCHED))
def test_watched_images_are_spread_over_all(count):
    rows = watched(count)
    assert len(rows) == len(set(rows)) == min(count, WATCHED)
    assert rows[0] == 0
    assert rows[-1] == count - 1 or count == 1
