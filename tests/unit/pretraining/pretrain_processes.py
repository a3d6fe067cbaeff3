"""How tests start the command `pretrain`: its words, and a process that imports everything once and forks trainings."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[3] / "workflow" / "scripts"


def start_server(program, **variables):
    """A process that runs `program` and is spoken to through pipes."""
    return subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=SCRIPTS,
        env={**os.environ, "OMP_NUM_THREADS": "1", "DEEPCLUST_DEVICE": "cpu", **variables},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def words(method, images, folder):
    """Flags that every pretraining needs, for one in a folder of its own."""
    return [
        *("--method", method, "--images", str(images / "images.bin"), "--dataset", "noise"),
        *("--model", str(folder / "model.json"), "--log", str(folder / "training.jsonl")),
        *("--tensorboard", str(folder / "tensorboard"), "--snapshots", str(folder / "snapshots")),
    ]
