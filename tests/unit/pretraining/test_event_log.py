"""TensorBoard's copy of a training's log, read back from the bytes of the file."""

import json
import struct
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event

from deepclust.core.errors import DeepclustError
from deepclust.pretraining.engine import event_log
from deepclust.pretraining.engine.training_log import TrainingLog


def points(folder):
    """(step, key, value) of every scalar, from the one event file: length, checksum, event, checksum, and so on."""
    [path] = folder.iterdir()
    content, start, found = path.read_bytes(), 0, []
    while start < len(content):
        (length,) = struct.unpack_from("<Q", content, start)
        event = Event.FromString(content[start + 12 : start + 12 + length])
        found += [(event.step, value.tag, value.simple_value, event.wall_time) for value in event.summary.value]
        start += 12 + length + 4
    return found


def record(epoch):
    return {"epoch": epoch, "loss": 1.5 * epoch, "seconds": 10.0}


def test_every_number_of_every_epoch_is_a_point(tmp_path):
    log = TrainingLog(tmp_path)
    for epoch in (1, 2):
        log.add(record(epoch))
    expected = [(1, "loss", 1.5), (1, "seconds", 10), (2, "loss", 3), (2, "seconds", 10)]
    assert [point[:3] for point in points(tmp_path / "tensorboard")] == expected
    log.write(tmp_path / "final.jsonl", tmp_path / "final")
    assert [point[:3] for point in points(tmp_path / "final")] == expected
    times = [point[3] for point in points(tmp_path / "final")]
    assert times[2] - times[0] == pytest.approx(10)


def test_an_interrupted_training_leaves_no_point_twice(tmp_path):
    first = TrainingLog(tmp_path)
    first.add(record(1))
    saved = list(first.lines)
    first.add(record(2))  # after the last checkpoint
    second = TrainingLog(tmp_path)
    second.restore(saved)
    second.add(record(2))
    assert [point[0] for point in points(tmp_path / "tensorboard")] == [1, 1, 2, 2]
    assert (tmp_path / "training.jsonl").read_text().splitlines() == second.lines


def test_a_training_that_starts_anew_forgets_what_was_logged(tmp_path):
    TrainingLog(tmp_path).add(record(1))
    log = TrainingLog(tmp_path)
    log.add(record(1))
    assert len(points(tmp_path / "tensorboard")) == 2
    assert (tmp_path / "training.jsonl").read_text().splitlines() == log.lines


def open_files(folder):
    links = (str(entry.readlink()) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink())
    return [link for link in links if link.startswith(str(folder))]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="there is no list of open files")
def test_no_file_is_open_when_its_folder_is_removed(tmp_path, monkeypatch):
    """On NFS such a file would stay, under another name."""
    held = []
    remove_tree = event_log.remove_tree
    monkeypatch.setattr(event_log, "remove_tree", lambda path: held.append(open_files(path)) or remove_tree(path))
    log = TrainingLog(tmp_path)
    log.add(record(1))
    assert len(open_files(tmp_path)) == 1
    log.restore(log.lines)
    log.add(record(2))
    assert len(open_files(tmp_path)) == 1
    log.write(tmp_path / "final.jsonl", tmp_path / "final")
    assert open_files(tmp_path) == []
    assert held == [[], [], []]


def test_a_folder_that_another_host_still_reads_is_used_again(tmp_path, monkeypatch):
    TrainingLog(tmp_path).add(record(1))
    kept = tmp_path / "tensorboard" / ".nfs0001"
    kept.touch()
    monkeypatch.setattr(event_log, "remove_tree", lambda path: [f.unlink() for f in path.glob("events*")])
    TrainingLog(tmp_path).add(record(2))
    kept.unlink()
    assert {point[0] for point in points(tmp_path / "tensorboard")} == {2}


@pytest.mark.parametrize("restored", [False, True])
def test_a_full_disk_is_a_clear_error(small_disk, restored):
    log = TrainingLog(small_disk)
    with pytest.raises(DeepclustError, match=r"no space left.*training\.jsonl"):
        if restored:
            log.restore([json.dumps(record(1))] * 5000)
        else:
            for epoch in range(5000):
                log.add(record(epoch))
