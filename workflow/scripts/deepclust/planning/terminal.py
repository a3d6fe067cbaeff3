"""The messages of the workflow on the terminal while it runs, and at its end.

Jobs write their output to log files and their progress to small files beside them (`deepclust.core.progress`). A
thread of Snakemake's main process shows these: on a terminal as lines that stay below Snakemake's own messages and are
repainted in place, elsewhere as a plain line now and then. Only this thread paints, so parallel jobs cannot garble
each other.
"""

import csv
import json
import logging
import shutil
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TextIO

from deepclust.core.scores import show, show_share

REPAINT = 0.5  # seconds between two repaints on a terminal
PLAIN = 15.0  # seconds between two lines of one job elsewhere
STALE = 120.0  # seconds without a sign of life after which a job is no longer shown
ERASE_LINE = "\x1b[2K"
UP = "\x1b[1A"


class Watcher:
    """A display of the progress of running jobs until the process ends."""

    def __init__(self, folder: Path, stream: TextIO | None = None) -> None:
        self.folder = folder
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty()
        self._lock = threading.RLock()
        self._painted = 0
        self._last_plain: dict[str, float] = {}
        self._started = time.time()

    def start(self) -> None:
        """Watch in the background; ignore progress files of earlier runs."""
        if self.live:
            for handler in logging.getLogger("snakemake.logging").handlers + logging.getLogger().handlers:
                self._clear_before(handler)
        threading.Thread(target=self._run, name="progress", daemon=True).start()

    def _clear_before(self, handler: logging.Handler) -> None:
        """Let a log handler write its message above the progress lines instead of into them."""
        emit = handler.emit

        def emit_above(record: logging.LogRecord) -> None:
            with self._lock:
                self.erase()
                emit(record)

        handler.emit = emit_above  # type: ignore[method-assign]

    def _run(self) -> None:
        while True:
            time.sleep(REPAINT)
            try:
                self.show(running_jobs(self.folder, self._started))
            except (OSError, ValueError):  # the terminal is gone: nobody is watching
                return

    def show(self, jobs: list[dict[str, Any]]) -> None:
        """Show the state of jobs, once."""
        with self._lock:
            if self.live:
                self.erase()
                columns, rows = shutil.get_terminal_size()
                lines = _at_most(max(rows - 2, 1), [describe(job) for job in jobs])
                for line in lines:
                    self.stream.write(line[: columns - 1] + "\n")
                self._painted = len(lines)
            else:
                for job in jobs:
                    if time.time() - self._last_plain.get(job["file"], self._started - PLAIN / 2) >= PLAIN:
                        self._last_plain[job["file"]] = time.time()
                        self.stream.write(describe(job) + "\n")
            self.stream.flush()

    def erase(self) -> None:
        """Take the progress lines away."""
        with self._lock:
            self.stream.write((UP + ERASE_LINE) * self._painted)
            self.stream.flush()
            self._painted = 0


def running_jobs(folder: Path, since: float) -> list[dict[str, Any]]:
    """Return the progress of the jobs that gave a sign of life lately, by log file."""
    jobs = []
    for file in sorted(folder.rglob("*.progress")):
        try:
            job = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue  # just being replaced or removed
        if job["time"] >= since and time.time() - job["time"] < STALE and not {"error", "warnings"} & job.keys():
            label = str(file.relative_to(folder)).removesuffix(".log.progress")
            jobs.append({**job, "file": str(file), "label": label})
    return jobs


def _at_most(number: int, lines: list[str]) -> list[str]:
    """Return the lines, or as many as fit with one that counts the others: lines that scroll off cannot be erased."""
    if len(lines) <= number:
        return lines
    return [*lines[: number - 1], f"… and {len(lines) - number + 1} more"]


def describe(job: dict[str, Any]) -> str:
    """Return one line on a job: what runs, how far it is, how fast, how long it still takes."""
    parts = [job["label"], job["what"]]
    if job["total"]:
        parts.append(f"{100 * job['done'] / job['total']:3.0f} %")
    if job["rate"]:
        parts.append(
            f"{job['rate']:,.0f} {job['unit']}/s" if job["rate"] >= 10 else f"{job['rate']:.2g} {job['unit']}/s"
        )
    if job["eta"] is not None:
        parts.append(f"{duration(job['eta'])} left")
    return "  ".join(parts)


def duration(seconds: float) -> str:
    """Return `0:07`, `12:30` or `3:05:00`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def log_notes(folder: Path, newer_than: float = 0.0) -> list[str]:
    """Return the notes of jobs beside their logs, one line each: reasons of failures, and warnings; remove them."""
    lines = []
    for file in sorted(folder.rglob("*.progress")):
        try:
            job = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        notes = [("error", job["error"])] if "error" in job else [("warning", text) for text in job.get("warnings", [])]
        if notes and job["time"] >= newer_than:
            log = str(file).removesuffix(".progress")
            lines += [f"{kind} in {job['name']}: {text} (log: {log})" for kind, text in notes]
            file.unlink(missing_ok=True)
    return lines


def closing_table(leaderboard: Path, page: Path, floors: Sequence[str]) -> str:
    """Return the scores of all runs, the gains over raw pixels, and the place of the report.

    Args:
        floors: names of the raw-pixel backbones.
    """
    if not leaderboard.exists():
        return ""
    with leaderboard.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    labelled = any(row["acc_mean"] for row in rows)
    metrics = ("acc", "nmi", "ari") if labelled else ("silhouette",)
    shown = rows[:20]
    header = [
        "dataset",
        "backbone",
        "head",
        "k",
        "split",
        *(metric.upper() if labelled else metric for metric in metrics),
    ]
    gains = [_gain(row, rows, floors) for row in shown]
    lines = [header + (["vs pixels"] if any(gains) else [])]
    for row, gain in zip(shown, gains):
        cells = [row["dataset"], row["backbone"], row["head"], _clusters(row), row["split"]]
        cells += [_score(row, metric) for metric in metrics] if row["seeds"] != "0" else _failed(metrics)
        lines.append(cells + ([gain] if any(gains) else []))
    more = f"\n  … and {len(rows) - len(shown)} more rows in {leaderboard}" if len(rows) > len(shown) else ""
    where = f"\n\n  Report: {page}   Table: {leaderboard}" if page.exists() else f"\n\n  Table: {leaderboard}"
    return "\n" + _columns(lines) + more + _skipped(rows) + where + _version_warning(rows) + "\n"


def _skipped(rows: list[dict[str, str]]) -> str:
    """Return how many files beside the images were skipped, for every dataset that has such."""
    found = [row for row in rows if int(row.get("skipped") or 0)]
    lines = [f"{row['dataset']} ({row['split']}): {row['images']} images, {row['skipped']} skipped" for row in found]
    return "".join(f"\n  {line}" for line in dict.fromkeys(lines))


def _clusters(row: dict[str, str]) -> str:
    return f"{row['k']} (auto)" if row["k_by"] == "auto" else row["k"]


def _version_warning(rows: list[dict[str, str]]) -> str:
    if len({row.get("versions") for row in rows}) <= 1:
        return ""
    return "\n  Warning: rows were computed with different package versions (last column of the table)."


def _score(row: dict[str, str], metric: str) -> str:
    mean, spread = row.get(f"{metric}_mean") or "", row.get(f"{metric}_std") or ""
    if not mean:
        return "–"
    return show(float(mean), metric) + (f" ± {show(float(spread), metric)}" if spread else "")


def _failed(metrics: Sequence[str]) -> list[str]:
    """Return the cells of a run whose every seed failed."""
    return ["failed", *("–" for _ in metrics[1:])]


def _gain(row: dict[str, str], rows: list[dict[str, str]], floors: Sequence[str]) -> str:
    """Return ACC above that of the best run on raw pixels that is otherwise the same; nothing for raw pixels."""
    if not row["acc_mean"] or _on_pixels(row, floors):
        return ""
    keys = ("dataset", "head", "k_by", "protocol", *(() if row["k_by"] == "auto" else ("k",)))
    same = [r for r in rows if _on_pixels(r, floors) and all(r[key] == row[key] for key in keys)]
    scores = [float(r["acc_mean"]) for r in same if r["acc_mean"]]
    return show_share(float(row["acc_mean"]) - max(scores), sign=True) if scores else ""


def _on_pixels(row: dict[str, str], floors: Sequence[str]) -> bool:
    return set(row["backbone"].split("+")) <= set(floors)


def _columns(lines: Iterable[list[str]]) -> str:
    table = list(lines)
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    text = ["  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in table]
    return "\n".join([text[0], "  " + "─" * (len(text[0]) - 2), *text[1:]])
