"""Snapshots are what training would have left behind, and do not touch it."""

import json
from types import SimpleNamespace

import pytest

from deepclust.core.errors import DeepclustError
from deepclust.pretraining import secu, simclr
from deepclust.pretraining.engine.snapshots import Snapshots

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


def test_another_options_training_goes_on_with_the_snapshots_of_the_named_state(train, tmp_path):
    stops = []

    class Stopping(simclr.SimCLR):
        def end_epoch(self, current):
            if current.number == 1:
                stops[0](15)
            return {}

    module = SimpleNamespace(Options=simclr.Options, METHOD=Stopping)
    with pytest.raises(DeepclustError, match="epoch 3"):
        train(module, name="old", epochs=4, snapshot_every=1, session={"listen": stops.append})
    (state,) = tmp_path.glob("old/.state-*")
    assert epochs_in(train(name="new", epochs=5, snapshot_every=2, resume_from=str(state))) == [0, 2, 4, 5]
    assert epochs_in(train(name="none", epochs=3, resume_from=str(state))) == []


@pytest.fixture
def large_snapshot(tmp_path):
    """Of 100 kB, written before `small_disk` may limit the size of all files."""
    (tmp_path / "snapshots" / "epoch-1").mkdir(parents=True)
    (tmp_path / "snapshots" / "epoch-1" / "model.safetensors").write_bytes(bytes(100_000))


def test_a_full_disk_is_a_clear_error(large_snapshot, small_disk, tmp_path):
    snapshots = Snapshots(tmp_path / "snapshots", {}, every=1, epochs=2)
    with pytest.raises(DeepclustError, match="no space left"):
        snapshots.publish(small_disk / "snapshots")
    assert list(small_disk.iterdir()) == []
    with pytest.raises(DeepclustError, match="no space left"):
        Snapshots(small_disk / "snapshots", {}, every=1, epochs=2).adopt(tmp_path / "snapshots", 1)
