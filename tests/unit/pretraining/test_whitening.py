import resource

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from deepclust.core.errors import DeepclustError
from deepclust.pretraining.parts import whitening
from deepclust.pretraining.parts.whitening import fit_whitening, whitened_features

CPU = torch.device("cpu")


def correlated(count=400, dimension=12):
    torch.manual_seed(0)
    return torch.randn(count, dimension) @ torch.randn(dimension, dimension) * 3 + 5


def test_components_have_unit_covariance():
    features = correlated()
    components = fit_whitening(features, 7, CPU).components(features)
    assert torch.allclose(components.mean(0), torch.zeros(7), atol=1e-4)
    assert torch.allclose(components.T.cov(), torch.eye(7), atol=1e-3)


def test_they_are_the_largest_principal_components():
    from sklearn.decomposition import PCA

    features = correlated()
    expected = PCA(5, whiten=True).fit_transform(features.double().numpy())
    components = fit_whitening(features, 5, CPU).components(features).numpy()
    assert np.allclose(np.abs((expected * components).mean(0)), 1, atol=0.01)


def test_directions_without_variance_stay_out():
    features = correlated(dimension=4)
    flat = torch.cat([features, features[:, :2], torch.ones(400, 1)], dim=1)
    components = fit_whitening(flat, 7, CPU).components(flat)
    assert torch.isfinite(components).all()
    assert (components.std(0) > 0.5).sum() == 4


def test_rows_have_length_one(tmp_path):
    features = correlated()
    rows = whitened_features(lambda indices: features[indices], 400, 256, 0, CPU)
    assert rows.shape == (400, 12) and rows.dtype == torch.float16
    assert torch.allclose(rows.float().norm(dim=1), torch.ones(400), atol=2e-3)
    expected = F.normalize(fit_whitening(features, 256, CPU).components(features), dim=1)
    assert torch.allclose(rows.float(), expected, atol=2e-3)


def test_many_images_are_reduced_part_by_part_into_a_file(monkeypatch):
    features, asked = torch.randn(3000, 12) * 1.5 ** torch.arange(12) + 2, []

    def some(indices):
        asked.append(len(indices))
        return features[indices]

    expected = whitened_features(some, 3000, 4, 0, CPU)
    assert asked == [3000]
    monkeypatch.setattr(whitening, "SAMPLE", 1000)
    monkeypatch.setattr(whitening, "CHUNK", 700)
    monkeypatch.setattr(whitening, "MEMORY", 100)
    asked.clear()
    rows = whitened_features(some, 3000, 4, 0, CPU)
    assert asked == [700, 300, 700, 700, 700, 700, 200]
    # The components of a sample are nearly those of all; signs are arbitrary.
    agreement = (rows.float() * expected.float()).mean(0).abs() / expected.float().square().mean(0)
    assert agreement.tolist() == pytest.approx([1] * 4, abs=0.15)


def test_no_room_for_the_file(monkeypatch, tmp_path):
    """Here because no file may be that large; a disk that is full does the same."""
    features = correlated()
    monkeypatch.setattr(whitening, "MEMORY", 0)
    monkeypatch.setattr(whitening.tempfile, "tempdir", str(tmp_path))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(DeepclustError, match=rf"400 images need .* GB in {tmp_path} .*set TMPDIR"):
            whitened_features(features.__getitem__, 400, 8, 0, CPU)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []
