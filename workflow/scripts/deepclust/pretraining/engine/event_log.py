"""Log of a training for TensorBoard: an event file with one scalar per epoch and key.

tensorboardX writes the format. TensorBoard itself, which brings a web server along, is only needed to look at it.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deepclust.core.files import remove_tree


class EventLog:
    """Event file with one point per epoch, however often a training was interrupted."""

    def __init__(self, folder: Path, records: Sequence[Mapping[str, Any]] = ()) -> None:
        """Start `folder` anew with the `records` so far; its old content is removed."""
        from tensorboardX.event_file_writer import EventsWriter

        remove_tree(folder)
        folder.mkdir(parents=True, exist_ok=True)  # NFS keeps a file that someone has open
        self._writer = EventsWriter(str(folder / "events"))
        self._time = time.time() - sum(record["seconds"] for record in records)
        for record in records:
            self.add(record, self._time + record["seconds"])

    def add(self, record: Mapping[str, Any], at: float | None = None) -> None:
        """Write all numbers of an epoch; they are in the file when this returns.

        Args:
            at: end of the epoch, in seconds since 1970; now by default.
        """
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar

        self._time = time.time() if at is None else at
        for key, value in record.items():
            if key != "epoch":
                summary = scalar(key, value)
                self._writer.write_event(Event(wall_time=self._time, step=record["epoch"], summary=summary))
        self._writer.flush()

    def close(self) -> None:
        """Close the file, so that nothing can be added any more."""
        self._writer.close()
