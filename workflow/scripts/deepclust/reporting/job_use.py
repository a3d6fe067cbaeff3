"""Use of time, processors and memory by the jobs, beside their requests.

It is read from the records that jobs write beside their results, so it needs no accounting of a cluster.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepclust.core.files import read_json
from deepclust.reporting.tables import Cell, Column, Table, duration


@dataclass(frozen=True)
class JobUse:
    """The use of one job, and its request (None: nothing, or not recorded).

    Attributes:
        seconds: time from start to end; after an interruption, the time of the last attempt.
        cpu_seconds: time of all its threads.
        memory_mb, gpu_memory_mb: peaks in MiB; the highest among several GPUs.
        gpu_share: share of the time in which its GPUs computed.
        threads, asked_memory_mb, minutes: its request.
        one_gpu_mb: memory of one of its GPUs.
    """

    rule: str
    seconds: float
    cpu_seconds: float
    memory_mb: float
    gpu_memory_mb: float | None
    gpu_share: float | None
    one_gpu_mb: float | None
    threads: float | None
    asked_memory_mb: float | None
    minutes: float | None

    @property
    def memory_share(self) -> float | None:
        """Return peak memory by requested memory."""
        return self.memory_mb / self.asked_memory_mb if self.asked_memory_mb else None

    @property
    def gpu_memory_share(self) -> float | None:
        """Return the peak memory of a GPU by the memory that it has."""
        return self.gpu_memory_mb / self.one_gpu_mb if self.gpu_memory_mb and self.one_gpu_mb else None

    @property
    def time_share(self) -> float | None:
        """Return the used time by the time limit."""
        return self.seconds / (60 * self.minutes) if self.minutes else None


def read_use(records: Iterable[Path]) -> list[JobUse]:
    """Read the use of jobs from their provenance; missing files and those of older versions are passed over."""
    contents = [read_json(path) for path in records if path.exists()]
    jobs = [job for content in contents for job in (*content.get("parts", []), content)]
    return [use for job in jobs if (use := _use(job)) is not None]


def _use(record: dict[str, Any]) -> JobUse | None:
    requested = record.get("requested")
    if requested is None:
        return None
    return JobUse(
        rule=record["rule"],
        seconds=record["seconds"],
        cpu_seconds=record["cpu_seconds"],
        memory_mb=record["peak_memory_mb"],
        gpu_memory_mb=record["peak_gpu_memory_mb"],
        gpu_share=record.get("gpu_utilization"),
        one_gpu_mb=record.get("gpu_memory_mb"),
        threads=requested["threads"],
        asked_memory_mb=requested["memory_mb"],
        minutes=requested["minutes"],
    )


def use_table(jobs: Sequence[JobUse]) -> Table:
    """Return one row per rule, the one that took longest first: sums of time, the longest job, peaks of memory."""
    columns = [
        Column("Rule", numeric=False),
        Column("Jobs"),
        Column("Time", "of all its jobs together"),
        Column("Longest", "and its share of the time limit"),
        Column("CPU", "time in which the requested threads computed"),
        Column("Memory", "highest peak, and its share of what that job requested"),
        Column("GPU", "time in which the GPUs computed"),
        Column("GPU memory", "highest peak, and its share of the GPU's memory"),
    ]
    by_rule: dict[str, list[JobUse]] = {}
    for job in jobs:
        by_rule.setdefault(job.rule, []).append(job)
    order = sorted(by_rule, key=lambda rule: -sum(job.seconds for job in by_rule[rule]))
    rows = [_row(rule, by_rule[rule]) for rule in order]
    return Table(columns, rows, [None] * len(rows))


def _row(rule: str, jobs: list[JobUse]) -> list[Cell]:
    seconds = sum(job.seconds for job in jobs)
    longest = max(jobs, key=lambda job: job.seconds)
    largest = max(jobs, key=lambda job: job.memory_mb)
    gpu = max(jobs, key=lambda job: job.gpu_memory_mb or 0.0)
    watched = [job for job in jobs if job.gpu_share is not None]
    busy = sum(job.seconds * (job.gpu_share or 0.0) for job in watched)
    gpu_share = busy / sum(job.seconds for job in watched) if watched else None
    held = sum(job.seconds * job.threads for job in jobs if job.threads)
    computed = sum(job.cpu_seconds for job in jobs if job.threads)
    return [
        Cell(rule),
        Cell(str(len(jobs)), value=len(jobs)),
        Cell(duration(seconds), value=seconds),
        Cell(duration(longest.seconds), _share(longest.time_share), longest.seconds),
        Cell(_share(computed / held if held else None), value=computed / held if held else None),
        Cell(_mebibytes(largest.memory_mb), _share(largest.memory_share), largest.memory_mb),
        Cell(_share(gpu_share), value=gpu_share),
        Cell(_mebibytes(gpu.gpu_memory_mb), _share(gpu.gpu_memory_share), gpu.gpu_memory_mb),
    ]


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.0f} %"


def _mebibytes(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f} MiB"
