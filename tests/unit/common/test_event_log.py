"""TensorBoard's copy of a training's log, read back from the bytes of the file."""

import struct

import pytest
from tensorboardX.proto.event_pb2 import Event

from deepclust.common.training_log import TrainingLog


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
