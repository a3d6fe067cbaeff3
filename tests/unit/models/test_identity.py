"""Whose features an array holds."""

import json
from pathlib import Path

import pytest

from deepclust.features.options import ExtractionOptions
from deepclust.models.identity import features_identity, identity_beside

SHIPPED = Path(__file__).resolve().parents[3] / "weights" / "cifar10-simclr-resnet10_w32" / "model.json"


def identity(folder, *, description=(), **options):
    """Of the shipped backbone with changes in its description, read out with options."""
    path = folder / "model.json"
    path.write_text(json.dumps({**json.loads(SHIPPED.read_text()), **dict(description)}))
    return features_identity(path, ExtractionOptions(**options).model_dump(mode="json"))


@pytest.mark.parametrize(
    "changes",
    [
        {"description": {"sha256": "0" * 64}},
        {"description": {"mean": [0.1, 0.2, 0.3], "std": [0.1, 0.2, 0.3]}},
        {"description": {"interpolation": "bicubic"}},
        {"image_size": 48},
        {"crop_fraction": 0.5},
        {"pooling": "max"},
        {"layers": [-1]},
        {"test_time_augmentation": "flip"},
    ],
)
def test_what_makes_other_features(tmp_path, changes):
    assert identity(tmp_path, **changes) != identity(tmp_path)


def test_what_does_not(tmp_path):
    same = identity(tmp_path)
    assert len(same) == 64
    assert identity(tmp_path, description={"origin": {"weights": "elsewhere"}, "dataset": "mine"}) == same
    assert identity(tmp_path, dtype="float32", precision="fp32") == same
    spec = json.loads(SHIPPED.read_text())
    assert identity(tmp_path, image_size=spec["image_size"], pooling=spec["pooling"]) == same


def test_features_without_a_record(tmp_path):
    assert identity_beside(tmp_path / "features.npy") is None
    (tmp_path / "features.provenance.json").write_text('{"options": {}}')
    assert identity_beside(tmp_path / "features.npy") is None
