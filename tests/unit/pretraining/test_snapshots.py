"""Snapshots are what training would have left behind, and do not touch it."""

import json

import pytest

from deepclust.common.errors import DeepclustError
from deepclust.pretraining import secu

SECU = {"module": secu, "clusters": 3, "heads": 2, "warmup_epochs": 1}


def epochs_in(result):
    return sorted(int(folder.name.removeprefix("epoch-")) for folder in (result.path / "snapshots").iterdir())


def test_training_does_not_depend_on_snapshots(train):
    plain = train(name="plain", epochs=3, **SECU)
    kept = train(name="kept", epochs=3, snapshot_every=2, **SECU)
    assert kept.weights == plain.weights
    assert epochs_in(plain) == []
    assert epochs_in(kept) == [0, 2, 3]
    end = kept.path / "snapshots" / "epoch-3"
    assert (end / "model.safetensors").read_bytes() == kept.weights
    assert (end / "native.safetensors").read_bytes() == (kept.path / "native.safetensors").read_bytes()
    assert json.loads((kept.path / "snapshots/epoch-2/model.json").read_text())["epochs"] == 2


def test_a_stopped_training_goes_on_with_its_snapshots(train):
    whole = train(name="whole", epochs=3, snapshot_every=1)
    with pytest.raises(DeepclustError, match="stopped"):
        train(name="parts", epochs=3, snapshot_every=1, session={"listen": lambda stop: stop(15)})
    assert not (whole.path.parent / "parts" / "snapshots").exists()
    parts = train(name="parts", epochs=3, snapshot_every=1)
    assert epochs_in(parts) == epochs_in(whole) == [0, 1, 2, 3]
    for epoch in range(4):
        file = f"snapshots/epoch-{epoch}/model.safetensors"
        assert (parts.path / file).read_bytes() == (whole.path / file).read_bytes()
