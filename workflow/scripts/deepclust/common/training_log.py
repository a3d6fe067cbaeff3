"""The log of a training: one JSON object per line and epoch."""

import json
from pathlib import Path
from typing import Any

from deepclust.common.files import write_text


class TrainingLog:
    """Collects the records of a training; a copy on disk can be watched while it runs.

    Attributes:
        lines: the records so far, as JSON.
    """

    def __init__(self, live: Path) -> None:
        """Args: `live` is the file that shows the records so far."""
        self.live = live
        self.lines: list[str] = []

    def restore(self, lines: list[str]) -> None:
        """Continue after `lines`: what an interrupted process logged beyond them is dropped."""
        self.lines = list(lines)
        self.live.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def add(self, record: dict[str, Any]) -> None:
        """Log one record; floats are shortened to 6 digits."""
        short = {key: float(f"{value:.6g}") if isinstance(value, float) else value for key, value in record.items()}
        self.lines.append(json.dumps(short, allow_nan=False))
        with self.live.open("a", encoding="utf-8") as file:
            file.write(self.lines[-1] + "\n")

    def write(self, path: Path) -> None:
        """Write the whole log to its final place."""
        write_text(path, "".join(f"{line}\n" for line in self.lines))
