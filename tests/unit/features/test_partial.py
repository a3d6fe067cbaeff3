import resource

import numpy as np
import pytest

from deepclust.core.errors import DeepclustError
from deepclust.features import partial
from deepclust.features.partial import PartialArray


@pytest.fixture(autouse=True)
def save_at_once(monkeypatch):
    monkeypatch.setattr(partial, "SAVE_SECONDS", -1.0)


ROWS = np.arange(60, dtype=np.float16).reshape(20, 3)


def make(folder, notes=None):
    return PartialArray(folder, 20, "float16", notes or {"batch": 8})


def test_a_whole_file(tmp_path):
    with make(tmp_path / "state") as rows:
        rows.append(ROWS[:12])
        rows.append(ROWS[12:])
        rows.finish(tmp_path / "rows.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "rows.npy"), ROWS)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.npy"]


def test_continues_behind_the_last_saved_row(tmp_path, monkeypatch):
    with make(tmp_path / "state") as rows:
        rows.append(ROWS[:8])
        rows.notes["batch"] = 4
        rows.append(ROWS[8:12])
        monkeypatch.setattr(partial, "SAVE_SECONDS", 1e9)
        rows.append(ROWS[12:16])  # written, but not vouched for
    with (tmp_path / "state" / "rows.npy").open("ab") as file:
        file.write(b"half a ro")
    with make(tmp_path / "state", {"batch": 8}) as rows:
        assert rows.done == 12
        assert rows.notes == {"batch": 4}
        rows.append(ROWS[12:])
        rows.finish(tmp_path / "rows.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "rows.npy"), ROWS)


@pytest.mark.parametrize("damage", ["marker", "rows", "short"])
def test_starts_again_where_the_state_is_damaged(tmp_path, damage):
    with make(tmp_path / "state") as rows:
        rows.append(ROWS[:8])
    if damage == "marker":
        (tmp_path / "state" / "progress.json").write_text("{")
    elif damage == "rows":
        (tmp_path / "state" / "rows.npy").unlink()
    else:
        with (tmp_path / "state" / "rows.npy").open("r+b") as file:
            file.truncate(130)
    with make(tmp_path / "state") as rows:
        assert rows.done == 0
        rows.append(ROWS)
        rows.finish(tmp_path / "rows.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "rows.npy"), ROWS)


def test_a_full_disk_is_one_clear_error(tmp_path):
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, unlimited[1]))  # to the program as if the disk were full
    try:
        with pytest.raises(DeepclustError, match="no space left"), make(tmp_path / "state") as rows:
            rows.append(np.tile(ROWS, (10, 1)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
