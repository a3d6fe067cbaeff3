"""A million small encoded images: prepared from tar shards and opened; time and peak memory at a quarter and at all.

`python lab/many_images.py [N]`. Not part of `run.py`: it takes some minutes and 4 GB of disk.
"""

import io
import json
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
from commands import SCRIPTS, command, prepare_outputs
from PIL import Image

PER_SHARD = 10_000
OPEN = """
import sys, time, resource
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from deepclust.core.images import Images
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.perf_counter()
images = Images(Path(sys.argv[2]))
opened = time.perf_counter() - start
images.decode(len(images) // 2)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(f"| open them, decode one | {opened * 1000:.1f} ms | {(after - before) / 1024:.0f} MiB more |")
"""


def pictures(count: int) -> list[bytes]:
    """Different JPEGs of 32 × 32 pixels."""
    random = np.random.default_rng(0)
    found = []
    for _ in range(count):
        file = io.BytesIO()
        Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8)).resize((32, 32)).save(file, "JPEG")
        found.append(file.getvalue())
    return found


def write_shards(folder: Path, count: int) -> None:
    """Shards of images and labels in the order of their classes."""
    folder.mkdir()
    some = pictures(1000)
    for start in range(0, count, PER_SHARD):
        with tarfile.open(folder / f"{start // PER_SHARD:05d}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
            for number in range(start, min(start + PER_SHARD, count)):
                label = str(10 * number // count).encode()
                for ending, content in (("jpg", some[number % len(some)]), ("cls", label)):
                    entry = tarfile.TarInfo(f"{number:08d}.{ending}")
                    entry.size = len(content)
                    tar.addfile(entry, io.BytesIO(content))
                tar.members.clear()


def measure(folder: Path, count: int) -> None:
    """Write, prepare and open `count` images; print rows of a table."""
    write_shards(folder / "shards", count)
    size = sum(path.stat().st_size for path in (folder / "shards").iterdir())
    start = time.perf_counter()
    for path in (folder / "shards").iterdir():
        with path.open("rb") as file:
            while file.read(1 << 20):
                pass
    reading = time.perf_counter() - start
    print(f"| read {count:,} images and labels in shards of {size / 1e9:.2f} GB (baseline) | {reading:.1f} s | |")
    outputs = prepare_outputs(folder / "prepared", folder / "labels")
    options = {"loader": "shards", "split": "train", "path": folder / "shards", "provenance": folder / "record.json"}
    subprocess.run(command("prepare", {}, outputs, **options, threads=2), check=True)
    record = json.loads((folder / "record.json").read_text())
    what = f"`prepare` them: checked, shuffled ({count / record['seconds']:,.0f} images/s)"
    print(f"| {what} | {record['seconds']:.0f} s | {record['peak_memory_mb']:.0f} MiB |", flush=True)
    print(
        subprocess.run(
            [sys.executable, "-c", OPEN, str(SCRIPTS), str(folder / "prepared")],
            check=True,
            capture_output=True,
            text=True,
        ).stdout,
        end="",
        flush=True,
    )


if __name__ == "__main__":
    most = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    print("| what | time | peak memory |", "|---|---|---|", sep="\n")
    for number in (most // 4, most):
        with tempfile.TemporaryDirectory() as name:
            measure(Path(name), number)
