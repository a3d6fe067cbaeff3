"""Measurement of a job's GPUs, their busy time and memory: for its record, without Slurm's accounting."""

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import device as Device

FIRST, LONGEST = 1.0, 30.0  # seconds between two looks: soon at first, for short jobs, then less and less often


class Utilization:
    """A thread that looks at GPUs until the process ends."""

    def __init__(self, uuids: Sequence[str]) -> None:
        self._command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
        self._command.append(f"--id={','.join(uuids)}")
        self._busy = self._seen = 0.0
        threading.Thread(target=self._watch, name="GPU use", daemon=True).start()

    def mean(self) -> float | None:
        """Return the mean share of the time so far in which the GPUs computed, 0 to 1; None if it is not known."""
        return self._busy / self._seen if self._seen else None

    def _watch(self) -> None:
        pause = FIRST
        while True:
            time.sleep(pause)
            try:
                done = subprocess.run(self._command, capture_output=True, text=True, timeout=LONGEST)
                shares = [float(line) / 100 for line in done.stdout.split("\n") if line]
            except (OSError, subprocess.TimeoutExpired, ValueError):
                return  # no driver answers, or it does not tell of parts of GPUs (MIG)
            if shares:
                self._busy += pause * sum(shares) / len(shares)
                self._seen += pause
            pause = min(2 * pause, LONGEST)


_utilization: Utilization | None = None


def watch_gpus(devices: Sequence["Device"]) -> None:
    """Begin to look at GPUs that are about to be used."""
    global _utilization
    import torch

    if _utilization is None and shutil.which("nvidia-smi"):
        _utilization = Utilization([f"GPU-{torch.cuda.get_device_properties(device).uuid}" for device in devices])


def gpu_use() -> dict[str, float | None]:
    """Return the use of GPUs so far, for the record.

    It holds the highest peak of allocated memory of one GPU in MiB, the memory that such a GPU has, and the share of
    busy time. Each is None where it is not known, as in a process that used no GPU.
    """
    torch = sys.modules.get("torch")
    peak = memory = None
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        number = torch.cuda.device_count()
        peak = round(max(torch.cuda.max_memory_allocated(index) for index in range(number)) / 2**20, 1)
        memory = round(torch.cuda.get_device_properties(0).total_memory / 2**20, 1)
    busy = _utilization.mean() if _utilization is not None else None
    return {
        "peak_gpu_memory_mb": peak,
        "gpu_memory_mb": memory,
        "gpu_utilization": None if busy is None else round(busy, 3),
    }
