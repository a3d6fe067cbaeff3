"""Live progress of a job whose output goes to a log file.

A job writes one small JSON file next to its log; the workflow's main process reads these files and paints them (see
`deepclust.planning.terminal`). Run by hand, a command shows an ordinary progress bar instead.
"""

import contextlib
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

INTERVAL = 0.5  # seconds between two updates of the file


class Progress:
    """Count of units of work; see `Progress.task`."""

    def __init__(self, path: Path | None = None, name: str = "", hidden: bool = False) -> None:
        """Begin without a task.

        Args:
            path: file for live progress; None: a progress bar on the terminal.
            name: the job's name beside its progress.
            hidden: show nothing, because another process that does the same work shows it.
        """
        self.path = path
        self.name = name
        self.hidden = hidden
        self._last = 0.0
        self._warnings: list[str] = []
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def task(self, what: str, total: int | None, unit: str, done: int = 0) -> Iterator["Task"]:
        """Begin a piece of work of `total` units; an earlier process did `done` of them.

        Args:
            what: a few words, e.g. `epoch 3/60`.
            unit: the noun of the rate, e.g. `images`.
        """
        hidden = self.hidden or self.path is not None or not sys.stderr.isatty()
        with tqdm(total=total, initial=done, unit=f" {unit}", desc=what, disable=hidden, unit_scale=True) as bar:
            task = Task(self, what, total, unit, done, bar)
            task.advance(0)
            yield task

    def publish(self, state: dict[str, Any], force: bool = False) -> None:
        """Write the current state for the main process, at most every `INTERVAL` seconds."""
        now = time.time()
        if self.path is None or (now - self._last < INTERVAL and not force):
            return
        self._last = now
        state = {"name": self.name, "time": now, "pid": os.getpid(), "host": socket.gethostname(), **state}
        # Progress is never worth a failed job, nor a flush to disk.
        with contextlib.suppress(OSError):
            temporary = self.path.with_name(f"{self.path.name}.new")
            temporary.write_text(json.dumps(state), encoding="utf-8")
            temporary.replace(self.path)

    def fail(self, message: str) -> None:
        """Leave the reason of a failure where the main process finds it."""
        self.publish({"error": message}, force=True)

    def warn(self, message: str) -> None:
        """Warn, in the log and at the end of the workflow, of something that does not stop the job."""
        message = " ".join(message.split())
        print(f"warning: {message}", file=sys.stderr, flush=True)
        self._warnings.append(message)

    def clear(self) -> None:
        """Remove the progress file; or leave the warnings in it, where the main process finds them."""
        if self._warnings:
            self.publish({"warnings": self._warnings}, force=True)
        elif self.path is not None:
            with contextlib.suppress(OSError):
                self.path.unlink(missing_ok=True)


class Task:
    """One counted piece of work."""

    def __init__(self, progress: Progress, what: str, total: int | None, unit: str, done: int, bar: Any) -> None:
        self.progress, self.what, self.total, self.unit = progress, what, total, unit
        self.done = self._first = done
        self._start = time.perf_counter()
        self._bar = bar

    def advance(self, amount: int = 1, what: str | None = None) -> None:
        """Report `amount` more units done; `what` replaces the description."""
        self.done += amount
        self._bar.update(amount)
        if what is not None:
            self.what = what
            self._bar.set_description(what, refresh=False)
        seconds = time.perf_counter() - self._start
        rate = (self.done - self._first) / seconds if seconds > 0 else 0.0
        left = (self.total - self.done) / rate if self.total is not None and rate > 0 else None
        self.progress.publish(
            {"what": self.what, "done": self.done, "total": self.total, "unit": self.unit, "rate": rate, "eta": left}
        )
