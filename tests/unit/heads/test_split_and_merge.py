import numpy as np
import pytest
from head_samples import accuracy, mixture, nearest

from deepclust.heads.kit.split_and_merge import moves, two_means


@pytest.fixture(scope="module")
def sample():
    points, labels = mixture(500, 5)
    return points.astype(np.float32), labels, nearest(points, 10)


def test_two_means_tells_two_groups_apart():
    points, labels = mixture(300, 2, seed=3)
    found = two_means(points.astype(np.float32))
    assert accuracy(labels, found.astype(int)) == 1


@pytest.mark.parametrize("count", [1, 2, 5])
def test_two_means_of_equal_points(count):
    assert len(two_means(np.ones((count, 3), np.float32))) == count


def test_the_best_move_mends_a_merged_and_a_split_cluster(sample):
    """Two groups share a cluster, a third is cut at random into two."""
    points, labels, neighbors = sample
    cut = np.random.default_rng(0).integers(0, 2, len(labels))
    wrong = np.where(labels == 1, 0, np.where((labels == 2) & (cut == 1), 1, labels))
    assert accuracy(labels, wrong) < 0.75
    other_half = np.where(labels == 2, 3 - wrong, wrong)
    second = np.where(labels == 2, other_half, (wrong + 1) % 5)
    best = moves(wrong, second, 5, points, neighbors, 3)[0]
    assert accuracy(labels, best) == 1


def test_moves_keep_the_number_of_clusters(sample):
    points, labels, neighbors = sample
    found = moves(labels, (labels + 1) % 5, 5, points, neighbors, 10)
    assert len(found) == 4
    assert all(len(np.unique(clusters)) == 5 for clusters in found)


def test_one_cluster_has_no_moves(sample):
    points, labels, neighbors = sample
    assert moves(np.zeros_like(labels), np.zeros_like(labels), 1, points, neighbors, 3) == []
