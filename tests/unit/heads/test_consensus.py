import numpy as np
import pytest
from head_samples import accuracy, nearest

from deepclust.core.progress import Progress
from deepclust.features.neighbors import half_whitened
from deepclust.heads import consensus
from deepclust.heads.kit import consensus_training, training
from deepclust.heads.kit.head import Partition, TrainingData

OPTIONS = {"members": ["a", "b"], "batch_size": 128, "epochs": 10, "rounds": 1, "round_epochs": 3}


def partition(assignments, member="a", seed=0, probabilities=None):
    return Partition(member, seed, assignments.astype(np.int32), probabilities)


def nuisance(count=1200):
    """Four classes that show a little in each of 40 directions, and a nuisance that shows strongly in one."""
    generator = np.random.default_rng(0)
    labels, other = generator.integers(0, 4, (2, count))
    points = generator.normal(0, 1, (count, 41))
    points[:, :40] += 0.9 * generator.normal(size=(4, 40))[labels]
    points[:, 40] = 30 * other + generator.normal(0, 1, count)
    return points.astype(np.float32), labels, other


@pytest.fixture(scope="module")
def sample():
    """The features, the classes, and partitions that mix classes and nuisance."""
    points, labels, other = nuisance()
    generator = np.random.default_rng(1)
    mixed = [np.where(generator.uniform(size=len(labels)) < 0.55, labels, other) for _ in range(3)]
    members = [partition(generator.permutation(4)[clusters], seed=seed) for seed, clusters in enumerate(mixed)]
    return TrainingData([points], near(points), members), labels


def near(points):
    """As the workflow searches them."""
    return [nearest(half_whitened(points / np.linalg.norm(points, axis=1, keepdims=True)), 20)]


def fit(data, k=4, seeds=(0,), **options):
    return list(consensus.fit(data, k, list(seeds), consensus.Options(**{**OPTIONS, **options}), Progress()))


def assign(result, data, **options):
    return consensus.predict(result.weights, data.features, consensus.Options(**{**OPTIONS, **options})).assignments


def test_goes_beyond_its_members(sample):
    data, labels = sample
    members = [accuracy(labels, member.assignments) for member in data.members]
    assert max(members) < 0.8
    for result in fit(data, seeds=range(3)):
        assert result.failure is None
        assert accuracy(labels, assign(result, data)) > max(members) + 0.1


@pytest.mark.parametrize("heads", [2, 10])
def test_more_starts_than_classifiers_in_a_round(sample, heads):
    """The last of three votes is chosen in the first phase, and rounds have only two classifiers."""
    data, labels = sample
    generator = np.random.default_rng(2)
    halves = labels // 2
    shares = (0.5, 0.7, 0.9)
    noisy = [np.where(generator.uniform(size=len(halves)) < share, halves, 1 - halves) for share in shares]
    members = [partition(clusters, seed=seed) for seed, clusters in enumerate(noisy)]
    for rounds in (1, 2):
        halved = TrainingData(data.features, data.neighbors, members)
        results = fit(halved, 2, range(3), heads=heads, epochs=1, rounds=rounds, starts=5)
        assert all(result.failure is None and np.isfinite(result.objective) for result in results)


def test_a_training_that_diverges_is_a_failed_seed(sample):
    """Also where the vote that was chosen has a higher number than there are classifiers in a round."""
    results = fit(sample[0], seeds=[0, 1], learning_rate=3e37, heads=2)
    assert all("diverged" in result.failure and result.weights == {} for result in results)


def test_soft_votes_are_read(sample):
    """Assignments that say nothing, probabilities that say all."""
    data, labels = sample
    soft = np.where(np.eye(4, dtype=bool)[labels], 0.4, 0.2).astype(np.float16)
    members = [partition(np.arange(len(labels)) % 4, probabilities=soft)]
    [result] = fit(TrainingData(data.features, data.neighbors, members))
    assert accuracy(labels, assign(result, data)) > 0.9


def test_does_not_depend_on_the_names_of_clusters_or_the_order_of_members(sample):
    data, _ = sample
    renamed = [partition(np.array([1, 2, 3, 0])[m.assignments], "b", m.seed) for m in data.members[::-1]]
    [one] = fit(data)
    [other] = fit(TrainingData(data.features, data.neighbors, renamed))
    assert accuracy(assign(one, data), assign(other, data)) > 0.97


@pytest.mark.parametrize("stop", [11, 18, 30])
def test_a_killed_training_goes_on(sample, tmp_path, monkeypatch, stop):
    """In the first phase, at its end, and in the round: 9 steps per epoch, 2 epochs and 3."""
    data, _ = sample
    monkeypatch.setattr(training, "SAVE_SECONDS", 0)
    [whole] = fit(data, epochs=2)
    scratch = TrainingData(data.features, data.neighbors, data.members, tmp_path)
    save = training._Run._save

    def dies(run, states):
        save(run, states)
        if run.step == stop:
            raise KeyboardInterrupt

    monkeypatch.setattr(training._Run, "_save", dies)
    with pytest.raises(KeyboardInterrupt):
        fit(scratch, epochs=2)
    monkeypatch.setattr(training._Run, "_save", save)
    [resumed] = fit(scratch, epochs=2)
    assert all(np.array_equal(whole.weights[name], resumed.weights[name]) for name in whole.weights)
    assert whole.objective == resumed.objective


def test_without_any_result_of_a_member(sample):
    """That would come again, and is no reason to keep other runs waiting."""
    [result] = fit(TrainingData(sample[0].features, sample[0].neighbors, []))
    assert "every seed of a, b failed" in result.failure


def test_all_images_are_assigned_in_blocks(sample, monkeypatch):
    """Whatever the size of the blocks, the clusters are the same."""
    data, _ = sample
    [whole] = fit(data, epochs=1)
    monkeypatch.setattr(consensus_training, "BLOCK", 100)
    [parts] = fit(data, epochs=1)
    assert np.array_equal(assign(whole, data), assign(parts, data))
    assert whole.objective == pytest.approx(parts.objective)


def test_sizes_that_all_members_deny():
    """Whatever the clusters are called."""
    uneven, even = np.repeat([0, 1], [95, 5]), np.repeat([0, 1], [50, 50])
    assert "95.0%" in consensus.evened_out(even, [uneven, 1 - uneven], 2)
    assert consensus.evened_out(1 - uneven, [uneven, uneven], 2) is None
    assert consensus.evened_out(even, [uneven, even], 2) is None  # the members do not agree
    assert consensus.evened_out(even, [np.repeat([0, 1], [85, 15])], 2) is None
