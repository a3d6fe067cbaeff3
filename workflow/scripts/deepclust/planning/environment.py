"""The environment of jobs."""

import os
import sys
from pathlib import Path


def prefer_this_python() -> None:
    """Let `python` in a job mean the one that runs Snakemake. An activated conda environment still comes before it."""
    folder = str(Path(sys.executable).parent)
    os.environ["PATH"] = os.pathsep.join([folder, os.environ.get("PATH", os.defpath)])
