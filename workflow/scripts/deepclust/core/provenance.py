"""Records of how a result came about, written beside every result."""

import importlib.metadata
import os
import platform
import re
import resource
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deepclust.core.files import sha256_file
from deepclust.core.gpu_use import gpu_use

PACKAGES = (
    *(
        "deepclust",
        "torch",
        "torchvision",
        "timm",
        "faiss-cpu",
        "faiss-gpu",
        "numpy",
        "scipy",
        "scikit-learn",
        "pillow",
    ),
    *("openTSNE", "snakemake"),
)


class Recorder:
    """The facts of one job from its start to its end."""

    def __init__(self) -> None:
        self._clock = time.perf_counter()
        self._started = datetime.now(UTC)

    def record(
        self,
        *,
        rule: str,
        options: dict[str, Any],
        inputs: dict[str, Path],
        outputs: dict[str, Path],
        parts: list[dict[str, Any]],
        code: list[str],
        device: str,
        requested: dict[str, float | None],
    ) -> dict[str, Any]:
        """Return the provenance, ready for JSON, with hashes of `inputs` and `outputs`, which must be final."""
        return {
            "rule": rule,
            "command": sys.argv,
            "options": options,
            "git": _git_revision(),
            "packages": package_versions(),
            "python": platform.python_version(),
            "device": device,
            "host": socket.gethostname(),
            "started": self._started.isoformat(timespec="seconds"),
            "seconds": round(time.perf_counter() - self._clock, 3),
            "cpu_seconds": round(time.process_time(), 3),
            "peak_memory_mb": peak_memory_mb(),
            **gpu_use(),
            "requested": requested,
            "inputs": {name: _hashed(path) for name, path in inputs.items()},
            "outputs": {name: _hashed(path) for name, path in outputs.items()},
            **({"parts": parts} if parts else {}),
            "code": code,
            "accepted": [],
        }


def peak_memory_mb() -> float:
    """Return the peak resident memory of this process and its finished children, in MiB."""
    unit = 1 if sys.platform == "darwin" else 1024
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return round(max(_own_peak(), children) * unit / 2**20, 1)


def _own_peak() -> int:
    """Return this process's peak in the unit of `ru_maxrss`.

    On Linux, `ru_maxrss` itself begins at the peak of the process that started this one.
    """
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"^VmHWM:\s+(\d+) kB", status.read_text(), re.MULTILINE)):
        return int(found[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def package_versions() -> dict[str, str]:
    """Return the installed versions of the packages that can change a number."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _git_revision() -> str | None:
    """Return the checkout's revision, with `+` if tracked files differ from it; None outside a checkout."""
    folder = Path(__file__).resolve().parent
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        revision, status = (
            subprocess.run(
                ["git", "-C", str(folder), *command],
                capture_output=True,
                text=True,
                timeout=10,
                env=environment,
                check=True,
            ).stdout.strip()
            for command in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return revision + ("+" if status else "")


def _hashed(path: Path) -> dict[str, str]:
    return {"path": str(path), "sha256": sha256_file(path)}
