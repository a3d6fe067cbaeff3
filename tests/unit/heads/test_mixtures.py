"""Every head finds what is plainly there, from every seed, and each seed for itself."""

import numpy as np
import pytest
from head_samples import accuracy, all_heads, fit, mixture, predict

from deepclust.heads.kit import training

HEADS = all_heads()


@pytest.mark.parametrize("name", HEADS)
def test_recovers_a_separable_mixture_from_every_seed(name):
    points, labels = mixture(600, 6)
    others, other_labels = mixture(300, 6)
    results, options = fit(name, points, 6, range(5))
    assert sorted(results) == [0, 1, 2, 3, 4]
    for result in results.values():
        assert result.failure is None
        assert np.isfinite(result.objective)
        assert accuracy(labels, predict(name, result, points, options).assignments) >= 0.99
        prediction = predict(name, result, others, options)
        assert prediction.assignments.dtype == np.int32
        assert accuracy(other_labels, prediction.assignments) >= 0.99
        if prediction.probabilities is not None:
            assert prediction.probabilities.dtype == np.float16
            np.testing.assert_allclose(prediction.probabilities.astype(float).sum(1), 1, atol=0.01)
            chosen = prediction.probabilities[np.arange(len(others)), prediction.assignments]
            np.testing.assert_array_equal(chosen, prediction.probabilities.max(1))


@pytest.mark.parametrize("name", HEADS)
def test_a_seed_is_the_same_to_the_bit_whatever_runs_with_it(name):
    points, _ = mixture(200, 4, spread=0.6)
    together, _ = fit(name, points, 4, [2, 0, 1])
    for seed in (0, 1, 2):
        alone, _ = fit(name, points, 4, [seed])
        assert alone[seed].objective == together[seed].objective
        assert alone[seed].weights.keys() == together[seed].weights.keys()
        for key, array in alone[seed].weights.items():
            np.testing.assert_array_equal(array, together[seed].weights[key], err_msg=f"{name}, seed {seed}, {key}")


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("scan", {"epochs": 2, "batch_size": 50, "heads": 2}),
        ("two_stage", {"epochs": 2, "batch_size": 50, "heads": 2, "self_labelling": {"epochs": 2}}),
        ("consensus", {"epochs": 2, "batch_size": 50, "rounds": 1, "round_epochs": 2}),
    ],
)
def test_seeds_that_are_trained_as_one_stack_are_those_trained_alone(name, changes, monkeypatch):
    """As on an accelerator, up to rounding; the logs tell the way there."""
    points, _ = mixture(200, 4, spread=0.6)
    alone, _ = fit(name, points, 4, [2, 0, 1], **changes)
    monkeypatch.setattr(training, "stacks", lambda seeds, device: [list(seeds)])
    together, _ = fit(name, points, 4, [2, 0, 1], **changes)
    assert not np.allclose(together[0].weights["weight"], together[1].weights["weight"], atol=1e-3)
    for seed in (0, 1, 2):
        assert together[seed].objective == pytest.approx(alone[seed].objective, abs=1e-4)
        for one, other in zip(together[seed].log, alone[seed].log, strict=True):
            assert one == pytest.approx(other, rel=1e-3, abs=1e-4)
        for key, array in alone[seed].weights.items():
            np.testing.assert_allclose(array, together[seed].weights[key], atol=1e-3, err_msg=f"{key} of seed {seed}")


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("normalize", ["l2", "center", "standardize", "whiten", "half_whiten"])
def test_every_normalisation(name, normalize):
    points, labels = mixture(300, 3)
    results, options = fit(name, points, 3, normalize=normalize, components=3)
    assert accuracy(labels, predict(name, results[0], points, options).assignments) >= 0.99
