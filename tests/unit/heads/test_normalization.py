from typing import get_args

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp
from sklearn.decomposition import PCA

from deepclust.core import rows
from deepclust.core.errors import DeepclustError
from deepclust.core.rows import BLOCK
from deepclust.heads.kit.head import HeadOptions
from deepclust.heads.kit.normalization import apply_normalization, fit_normalization

matrices = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12),
    elements=st.floats(-100, 100, width=32),
)


@given(matrices)
def test_l2_gives_directions_and_keeps_zero_rows(features):
    normalized, weights = fit_normalization([features], HeadOptions(normalize="l2"))
    lengths = np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    expected = np.where(lengths > 0, features / np.where(lengths > 0, lengths, 1), 0)
    np.testing.assert_allclose(normalized, expected, atol=1e-6)
    assert weights == {}


def test_standardize_uses_the_training_statistics_for_other_images():
    generator = np.random.default_rng(0)
    train = generator.normal(5, 3, (BLOCK + 100, 4)).astype(np.float32)
    test = generator.normal(-1, 2, (50, 4)).astype(np.float32)
    normalized, weights = fit_normalization([train], HeadOptions(normalize="standardize"))
    np.testing.assert_allclose(normalized.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(normalized.std(0), 1, atol=1e-4)
    expected = (test - train.mean(0, dtype=np.float64)) / train.std(0, dtype=np.float64)
    np.testing.assert_allclose(
        apply_normalization([test], HeadOptions(normalize="standardize"), weights), expected, atol=1e-4
    )


@pytest.mark.parametrize("value", [0, 0.1, 1e-3, 12345.678])
def test_standardize_does_not_blow_up_the_rounding_of_constant_dimensions(value):
    features = np.full((1000, 3), value, np.float32)
    normalized, weights = fit_normalization([features], HeadOptions(normalize="standardize"))
    assert np.abs(normalized).max() <= 1e-3
    np.testing.assert_array_equal(weights["scale"], 1)


def test_several_backbones_weigh_the_same():
    generator = np.random.default_rng(0)
    small, large = generator.normal(0, 1, (30, 4)), generator.normal(0, 1000, (30, 6))
    normalized, _ = fit_normalization(
        [small.astype(np.float16), large.astype(np.float32)], HeadOptions(normalize="none")
    )
    assert normalized.shape == (30, 10)
    np.testing.assert_allclose(np.linalg.norm(normalized[:, :4], axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(normalized[:, 4:], axis=1), 1, atol=1e-5)


def test_the_input_stays_as_it_is():
    features = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    features.flags.writeable = False
    for normalize in get_args(HeadOptions.model_fields["normalize"].annotation):
        normalized, weights = fit_normalization([features], HeadOptions(normalize=normalize))
        np.testing.assert_array_equal(
            apply_normalization([features], HeadOptions(normalize=normalize), weights), normalized
        )


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_an_error(value):
    features = np.zeros((10, 2), np.float16)
    features[3, 1] = value
    with pytest.raises(DeepclustError, match="1 image"):
        fit_normalization([features], HeadOptions(normalize="none"))


def test_center_takes_the_training_mean_away_before_the_length_is_set():
    generator = np.random.default_rng(0)
    train = generator.normal(5, 3, (BLOCK + 100, 4)).astype(np.float32)
    test = generator.normal(5, 3, (50, 4)).astype(np.float32)
    _, weights = fit_normalization([train], HeadOptions(normalize="center"))
    expected = test - train.mean(0, dtype=np.float64)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    applied = apply_normalization([test], HeadOptions(normalize="center"), weights)
    np.testing.assert_allclose(applied, expected, atol=1e-4)


def correlated(count, rank=6, dimension=8):
    """Features of `rank` independent directions of very different variance, far from the origin."""
    generator = np.random.default_rng(1)
    mixing = generator.normal(size=(rank, dimension)) * np.logspace(1, -1, rank)[:, None]
    return (generator.normal(size=(count, rank)) @ mixing + 30).astype(np.float32)


@pytest.mark.parametrize("components", [3, 6, 100])
def test_whiten_equals_scikit_learns_pca(components):
    train, test = correlated(BLOCK + 500), correlated(40)
    options = HeadOptions(normalize="whiten", components=components)
    _, weights = fit_normalization([train], options)
    applied = apply_normalization([test], options, weights)
    kept = min(components, 6)  # what does not vary is left out
    expected = PCA(kept, whiten=True).fit(train.astype(np.float64)).transform(test)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert applied.shape == expected.shape
    np.testing.assert_allclose(applied @ applied.T, expected @ expected.T, atol=2e-3)  # axes have no sign


def test_principal_axes_of_many_dimensions(monkeypatch):
    """By the products of images, they are those by the covariances of dimensions, up to their signs."""
    points = correlated(300).astype(np.float64)
    mean = points.mean(axis=0)
    variances, axes = rows.principal_axes(points, mean, 8)
    monkeypatch.setattr(rows, "WIDE", 7)
    found, directions = rows.principal_axes(points, mean, 8)
    np.testing.assert_allclose(found[:6], variances[:6], rtol=1e-6)
    np.testing.assert_allclose(np.abs(directions[:, :6].T @ axes[:, :6]), np.eye(6), atol=1e-4)
    assert np.linalg.norm(directions[:, 6:], axis=0).max() <= 1.001  # of rank 6


@pytest.mark.parametrize("components", [3, 100])
def test_half_whiten_divides_by_the_root_of_the_deviation(components):
    """Against scikit-learn: the same directions, whose variance is then their own standard deviation."""
    train, test = correlated(BLOCK + 500), correlated(40)
    options = HeadOptions(normalize="half_whiten", components=components)
    _, weights = fit_normalization([train], options)
    pca = PCA(min(components, 6)).fit(train.astype(np.float64))
    expected = pca.transform(test) / np.sqrt(np.sqrt(pca.explained_variance_))
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    applied = apply_normalization([test], options, weights)
    np.testing.assert_allclose(applied @ applied.T, expected @ expected.T, atol=2e-3)


@pytest.mark.parametrize("normalize", ["whiten", "half_whiten"])
def test_whiten_of_constant_features_is_zero(normalize):
    normalized, _ = fit_normalization([np.full((50, 4), 0.1, np.float32)], HeadOptions(normalize=normalize))
    np.testing.assert_array_equal(normalized, np.zeros((50, 1)))
