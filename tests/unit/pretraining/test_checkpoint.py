import os

import pytest
import torch

from deepclust.core.errors import DeepclustError
from deepclust.pretraining.engine.checkpoint import StateFolder, load_state


@pytest.fixture
def states(tmp_path):
    return StateFolder(tmp_path / "model.json", "f")


def files(states):
    return sorted(states.path.glob("*.pt"))


def test_the_newest_two_are_kept(states):
    for steps in (5, 90, 1000):
        states.save({"value": torch.tensor(steps), "text": ["a"]}, steps)
    assert len(files(states)) == 2
    state = states.load()
    assert state["value"].item() == 1000
    assert state["text"] == ["a"]


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_damage_falls_back_to_the_one_before(states, damage, capsys):
    states.save({"step": 1}, 1)
    states.save({"step": 2}, 2)
    newest = files(states)[-1]
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes({"flip": bytes(content), "cut": content[:-10], "empty": b""}[damage])
    assert states.load() == {"step": 1}
    assert newest.name in capsys.readouterr().err
    states.save({"step": 3}, 3)
    assert states.load() == {"step": 3}


def test_no_checkpoint_is_no_state(states):
    assert states.load() is None
    with pytest.raises(DeepclustError, match="no checkpoint"):
        load_state(states.path)
    with pytest.raises(DeepclustError, match="cannot be read"):
        load_state(states.path / "1-2.pt")


def test_code_in_a_checkpoint_is_not_run(states, tmp_path):
    class Evil:
        def __reduce__(self):
            return (tmp_path.joinpath("hacked").touch, ())

    states.save({"evil": Evil()}, 1)
    with pytest.raises(Exception, match=r"[Ww]eights.only"):
        states.load()
    assert not (tmp_path / "hacked").exists()


def test_leftovers_of_killed_writes_are_removed(states, tmp_path):
    old, new = (states.path / f".00000000{step}-x.pt.abc.partial" for step in (1, 2))
    for file in (old, new):
        file.write_bytes(b"half")
    os.utime(old, (0, 0))
    StateFolder(tmp_path / "model.json", "f")
    assert list(states.path.iterdir()) == [new]  # another process may be writing it


def test_removal_leaves_other_states_alone(states, tmp_path):
    other = StateFolder(tmp_path / "model.json", "g")
    states.save({}, 1)
    states.remove()
    assert not states.path.exists()
    assert other.path.exists()
