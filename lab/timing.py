"""Rows that a benchmark reports, and the time that work takes."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass
class Row:
    """One measurement.

    Attributes:
        value: in `unit`.
        limit: what was to be reached (at most for seconds and MiB, at least for rates); None: a baseline.
        ratio: to the baseline named in the benchmark's docstring, measured in the same run.
    """

    what: str
    value: float
    unit: str
    limit: float | None
    ratio: float | None

    def __str__(self) -> str:
        """A row of a Markdown table."""
        limit = "" if self.limit is None else f"{self.limit:,g} {self.unit}"
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        return f"| {self.what} | {self.value:,.3g} {self.unit} | {limit} | {ratio} |"


def in_turns(
    work: dict[str, Callable[[], object]], device: "torch.device", rounds: int, repeats: int
) -> dict[str, list[float]]:
    """`seconds` of each piece of work in each round; one more round before them warms up."""
    times: dict[str, list[float]] = {kind: [] for kind in work}
    for number in range(rounds + 1):
        for kind, piece in work.items():
            taken = seconds(piece, device, repeats)
            if number:
                times[kind].append(taken)
    return times


def seconds(work: Callable[[], object], device: "torch.device", repeats: int = 1) -> float:
    """CPU time of `work`; on a GPU the time until it has done it, the mean of `repeats`."""
    if device.type == "cpu":
        start = time.process_time()
        work()
        return time.process_time() - start
    import torch

    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(repeats):
        work()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / repeats
