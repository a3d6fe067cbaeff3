"""A .npy file that is written block by block and survives being killed."""

import io
import math
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepclust.core.errors import DeepclustError
from deepclust.core.files import explain_disk_errors, read_json, remove_tree, write_json

SAVE_SECONDS = 1.0  # between two flushes to disk, the first of which follows the first block


class PartialArray:
    """Rows [N, D] in the making, in a folder of their own; `finish` moves the whole file to its final name.

    Attributes:
        done: number of rows written.
        notes: notes of the writer, which it finds again after a restart; saved with the rows.
    """

    def __init__(self, folder: Path, rows: int, dtype: str, notes: dict[str, Any]) -> None:
        """Continue what `folder` holds, or start with `notes` if it holds nothing."""
        self._folder, self._rows, self._dtype = folder, rows, np.dtype(dtype)
        self._data, self._marker = folder / "rows.npy", folder / "progress.json"
        self.done, self.notes = 0, notes
        self._header: bytes | None = None
        with explain_disk_errors(self._data):
            folder.mkdir(parents=True, exist_ok=True)
            resumed = self._resume()
            self._file = self._data.open("r+b" if resumed else "wb")
            if resumed:
                self._file.truncate(resumed)
                self._file.seek(resumed)
        self._saved = -math.inf

    def __enter__(self) -> "PartialArray":
        return self

    def __exit__(self, *_: object) -> None:
        with explain_disk_errors(self._data):  # closing writes what a full disk refused before
            self._file.close()

    def _resume(self) -> int:
        """Take over the rows that the marker vouches for; return the size of the file with them, 0 without any."""
        if not (self._marker.is_file() and self._data.is_file()):
            return 0
        try:
            state = read_json(self._marker)
        except DeepclustError:
            return 0
        header = _header(self._rows, state["columns"], self._dtype)
        size: int = len(header) + state["rows"] * state["columns"] * self._dtype.itemsize
        if self._data.stat().st_size < size:
            return 0
        self._header, self.done, self.notes = header, state["rows"], state["notes"]
        self._columns: int = state["columns"]
        return size

    def append(self, block: npt.NDArray[np.floating]) -> None:
        """Write the next rows, [n, D]."""
        assert block.dtype == self._dtype
        with explain_disk_errors(self._data):
            if self._header is None:
                self._columns = block.shape[1]
                self._header = _header(self._rows, self._columns, self._dtype)
                self._file.write(self._header)
            assert block.shape[1] == self._columns
            self._file.write(np.ascontiguousarray(block).data)
            self.done += len(block)
            if time.monotonic() - self._saved > SAVE_SECONDS:
                self._save()

    def _save(self) -> None:
        """Put all rows so far on disk, then write the marker that vouches for them."""
        self._flush()
        write_json(self._marker, {"rows": self.done, "columns": self._columns, "notes": self.notes})
        self._saved = time.monotonic()

    def _flush(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def finish(self, path: Path) -> None:
        """Move the file to `path` and remove the folder."""
        assert self.done == self._rows
        with explain_disk_errors(path):
            self._flush()
            self._file.close()
            self._data.replace(path)
        remove_tree(self._folder)


def remove_states(output: Path) -> None:
    """Remove the files that unfinished jobs have left for the features at `output`, once these stand."""
    for state in output.parent.glob(".state-*"):
        remove_tree(state)


def _header(rows: int, columns: int, dtype: np.dtype) -> bytes:
    buffer = io.BytesIO()
    facts = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (rows, columns)}
    np.lib.format.write_array_header_1_0(buffer, facts)
    return buffer.getvalue()
