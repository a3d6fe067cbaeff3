"""Log of a training: one JSON object per line and epoch, and the same for TensorBoard."""

import json
from pathlib import Path
from typing import Any

from deepclust.core.files import atomic_folder, explain_disk_errors, write_text
from deepclust.pretraining.engine.event_log import EventLog


class TrainingLog:
    """Records of a training, with copies on disk that can be watched while it runs.

    Attributes:
        lines: records so far, as JSON.
    """

    NAME = "training.jsonl"

    def __init__(self, folder: Path | None) -> None:
        """Start an empty log.

        Args:
            folder: folder for the copies (a file `NAME`, and `tensorboard` with an event file); None for no copies.
        """
        self.folder = folder
        self.events: EventLog | None = None
        self.restore([])

    def restore(self, lines: list[str]) -> None:
        """Continue after `lines`; later records of an interrupted process are dropped.

        Raises:
            DeepclustError: the disk is full or the folder cannot be written. All methods that write raise this.
        """
        self.close()
        self.lines = list(lines)
        if self.folder is not None:
            self.live = self.folder / self.NAME
            with explain_disk_errors(self.live):
                self.live.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
                self.events = EventLog(self.folder / "tensorboard", self.records())

    def records(self) -> list[dict[str, Any]]:
        """Return the records so far."""
        return [json.loads(line) for line in self.lines]

    def add(self, record: dict[str, Any]) -> None:
        """Log one record: `epoch`, `seconds` and other numbers; floats are shortened to 6 digits."""
        short = {key: float(f"{value:.6g}") if isinstance(value, float) else value for key, value in record.items()}
        self.lines.append(json.dumps(short, allow_nan=False))
        if self.folder is not None and self.events is not None:
            with explain_disk_errors(self.live):
                with self.live.open("a", encoding="utf-8") as file:
                    file.write(self.lines[-1] + "\n")
                self.events.add(short)

    def write(self, path: Path, events: Path) -> None:
        """Write the whole log to its final places, a file and a folder for TensorBoard, and close the copies."""
        self.close()
        write_text(path, "".join(f"{line}\n" for line in self.lines))
        with atomic_folder(events) as folder:
            EventLog(folder, self.records()).close()

    def close(self) -> None:
        """Leave no file open, so that the folder of the copies can be removed."""
        if self.folder is not None and self.events is not None:
            events, self.events = self.events, None
            with explain_disk_errors(self.folder / self.NAME):
                events.close()
