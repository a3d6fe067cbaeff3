"""Cost of a head's job beside its work: from the start of its command to its end, with next to nothing to cluster.

Baseline: a Python that imports PyTorch and ends. Times are the best of some rounds, both in turn; CPU time counts all
threads, and is the better measure on a busy machine.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from commands import command
from timing import Row

HEADS = {
    "kmeans": {"n_init": 1},
    "temi": {"heads": 1, "epochs": 1, "neighbors": 2},
    "turtle": {"inner_steps": 1, "steps": 1},
}
ROUNDS = 3


def run(command: list[str], folder: Path) -> tuple[float, float]:
    """Seconds of a command by the clock, and of CPU time."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr[-2000:]
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def head(folder: Path, method: str) -> list[str]:
    """The command of a head on a few features."""
    (folder / method).mkdir(exist_ok=True)
    inputs = {"features": "features.npy", "neighbors": "neighbors.npy"}
    outputs = {"clusters": f"{method}/clusters.safetensors", "seeds": f"{method}/seeds.json"}
    plan = {"k": 2, "seeds": [0], "train": ["train"], "splits": ["train"], "backbones": ["pixels"]}
    record = f"{method}/provenance.json"
    return command("cluster", inputs, outputs, method=method, provenance=record, **plan, **HEADS[method])


def main() -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        random = np.random.default_rng(0)
        np.save(folder / "features.npy", random.normal(size=(64, 8)).astype(np.float16))
        np.save(folder / "neighbors.npy", random.integers(0, 64, (64, 4)))
        commands = {"python -c 'import torch' (baseline)": [sys.executable, "-c", "import torch"]}
        commands |= {f"`cluster` with {method}, 64 images": head(folder, method) for method in HEADS}
        times = {what: [] for what in commands}
        for _ in range(ROUNDS):
            for what, command in commands.items():
                times[what].append(run(command, folder))
    rows = []
    baseline = [min(column) for column in zip(*next(iter(times.values())))]
    for what, measured in times.items():
        for unit, kind, best, base in zip(("s", "CPU s"), ("", ", CPU time"), map(min, zip(*measured)), baseline):
            rows.append(Row(what + kind, best, unit, None if best == base else 4.0, best / base))
    return rows


if __name__ == "__main__":
    print(*main(), sep="\n")
