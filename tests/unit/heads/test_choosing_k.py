import dataclasses
import itertools
import json

import numpy as np
import pytest
from commands import run_command
from head_samples import mixture
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.metrics import adjusted_rand_score, silhouette_score

from deepclust.core.errors import DeepclustError
from deepclust.core.progress import Progress
from deepclust.heads.kit import choosing_k
from deepclust.heads.kit.choosing_k import CRITERIA, candidate_numbers, choose_k, stability
from deepclust.heads.kit.graph import leading_eigenpairs, neighbor_graph
from deepclust.heads.kit.options import ChooseKOptions

QUICK = {"range": (2, 8), "resamples": 3, "neighbors": 10}


def choose(*splits, **options):
    return choose_k([[points] for points in splits], ChooseKOptions(**{**QUICK, **options}), Progress())


@pytest.mark.parametrize("k", [2, 3, 5])
@pytest.mark.parametrize("seed", range(2))
def test_a_mixture_has_as_many_clusters_as_it_was_made_of(k, seed):
    points, _ = mixture(300, k, seed=seed)
    choice = choose(points)
    assert choice.k == k
    assert f"k = {k} " in choice.reason
    assert choice.numbers == list(range(2, 9)) and choice.images == len(points)
    assert {len(values) for values in choice.criteria.values()} == {7}


def test_a_mixture_of_uneven_sizes():
    points, _ = mixture(0, 4, sizes=[200, 100, 50, 50])
    assert choose(points).k == 4


def test_digits_have_about_ten_clusters():
    choice = choose(load_digits().data.astype(np.float32), range=(2, 20))
    assert 8 <= choice.k <= 13


def test_all_splits_and_backbones_are_looked_at():
    """Three clusters each in two splits, four together; the second backbone says nothing new."""
    points, labels = mixture(400, 4)
    first, second = points[labels < 3], points[labels > 0]
    assert choose(first).k == choose(second).k == 3
    assert choose(first, second).k == 4
    joint = choose_k([[first, -first], [second, -second]], ChooseKOptions(**QUICK), Progress())
    assert (joint.k, joint.images) == (4, len(first) + len(second))


def test_a_sample_stands_for_all():
    points, _ = mixture(3000, 5)
    choice = choose(points, samples=300)
    assert (choice.k, choice.images) == (5, 300)
    assert choice == choose(points, samples=300)


def test_criteria_are_what_they_are_called(monkeypatch):
    points, labels = mixture(300, 3)
    choice = choose(points, normalize="none")
    third = {name: values[1] for name, values in choice.criteria.items()}
    rows = points.astype(np.float64)
    assert third["silhouette"] == pytest.approx(silhouette_score(rows, labels), abs=1e-3)
    assert third["stability"] == 1 and third["mean_rank"] < 1.5
    distances = ((rows[:, None] - rows[None]) ** 2).sum(2)
    np.fill_diagonal(distances, np.inf)
    nearest = np.argsort(distances, axis=1)[:, :10]
    together = (labels[nearest] == labels[:, None]).mean()
    assert third["modularity"] == pytest.approx(together - 1 / 3, abs=0.01)
    weights = np.zeros((300, 300))
    np.put_along_axis(weights, nearest, 1.0, axis=1)
    weights = (weights + weights.T) / 2
    scale = 1 / np.sqrt(weights.sum(1))
    values = np.sort(np.linalg.eigvalsh(scale[:, None] * weights * scale))[::-1]
    # The bridges that join the parts of the graph change the spectrum a little.
    assert third["eigengap"] == pytest.approx(values[2] - values[3], abs=0.05)


def test_stability_compares_subsamples_on_what_they_share(monkeypatch):
    rows = mixture(100, 2)[0].astype(np.float32)
    monkeypatch.setattr(choosing_k, "_cluster", lambda rows, fitted, k, seed: (np.arange(len(rows)) + seed) % 3)
    parts = [choosing_k._subsample(100, 80, "part", number) for number in range(3)]
    labels = [dict(zip(part, (np.arange(80) + seed) % 3)) for seed, part in enumerate(parts)]
    expected = []
    for one, other in itertools.combinations(labels, 2):
        shared = sorted(one.keys() & other.keys())
        expected.append(adjusted_rand_score([one[i] for i in shared], [other[i] for i in shared]))
    assert stability(rows, 3, 3) == pytest.approx(np.mean(expected))


@pytest.mark.parametrize("count", [300, 1200])
def test_eigenpairs(count):
    """Dense and sparse solvers, against the definition."""
    rows = mixture(count, 3)[0].astype(np.float32)
    distances = ((rows[:, None, :4] - rows[None, :, :4]) ** 2).sum(2)
    graph = neighbor_graph([np.argsort(distances, axis=1)[:, 1:11].astype(np.int32)], 10, rows)
    values, vectors = leading_eigenpairs(graph, 5)
    degrees = np.sqrt(graph.sum(axis=1))
    matrix = graph.toarray() / degrees[:, None] / degrees[None]
    np.testing.assert_allclose(matrix @ vectors, vectors * values, atol=2e-3)
    assert values[0] == pytest.approx(1) and (np.diff(values) <= 0).all()


@given(st.integers(2, 300), st.integers(0, 500), st.integers(2, 50))
def test_candidates(smallest, wider, count):
    numbers = candidate_numbers(smallest, smallest + wider, count)
    assert numbers[0] == smallest and numbers[-1] == smallest + wider
    assert len(numbers) <= count and numbers == sorted(set(numbers))
    if wider < count:
        assert numbers == list(range(smallest, smallest + wider + 1))


def test_the_end_of_the_range_is_said_to_be_one():
    points, _ = mixture(300, 5)
    assert "largest number that was tried" in choose(points, range=(2, 4)).reason
    assert "smallest number that was tried" in choose(points, range=(6, 9)).reason
    assert "was tried" not in choose(points).reason


def test_the_range_ends_where_images_are_no_longer_different():
    choice = choose(np.repeat(np.eye(4, dtype=np.float32), 20, axis=0))
    assert choice.numbers == [2, 3, 4]
    assert choice.k == 4
    assert "No 5 clusters were found" in choice.reason


@pytest.mark.parametrize(
    ("points", "options", "named"),
    [
        (mixture(30, 3)[0], {"range": (2, 28)}, "range: 28"),
        (mixture(300, 3)[0], {"range": (2, 60), "samples": 60}, "samples"),
        (np.ones((50, 4), np.float32), {}, "range"),
        (np.repeat(np.eye(4, dtype=np.float32), 20, axis=0), {"range": (5, 8)}, "no 5 clusters"),
        (np.full((50, 4), np.nan, np.float32), {}, "NaN"),
    ],
)
def test_bad_input(points, options, named):
    with pytest.raises(DeepclustError, match=named) as error:
        choose(points, **options)
    assert "\n" not in str(error.value)


def test_the_command(tmp_path):
    points, _ = mixture(300, 3)
    paths = [tmp_path / name for name in ("train.npy", "unlabeled.npy")]
    for path, part in zip(paths, np.split(points, [200])):
        np.save(path, part)
    words = [
        "--input.features",
        *paths,
        "--train",
        '["train", "unlabeled"]',
        "--backbones",
        '["net"]',
        "--range",
        "[2, 6]",
    ]
    words += [
        "--resamples",
        "2",
        "--output.choice",
        tmp_path / "k.json",
        "--provenance",
        tmp_path / "k.provenance.json",
    ]
    done = run_command("choose_k", *words)
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "k.json").read_text())
    expected = choose(*np.split(points, [200]), range=(2, 6), resamples=2, neighbors=20)
    assert written == dataclasses.asdict(expected)
    assert written["k"] == 3 and set(CRITERIA) < set(written["criteria"])
    provenance = json.loads((tmp_path / "k.provenance.json").read_text())
    assert [read["path"] for read in provenance["inputs"].values()] == list(map(str, paths))
    assert provenance["options"]["train"] == ["train", "unlabeled"]
