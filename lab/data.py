"""Speed of preparing CIFAR-10 from its archive, of opening it, and of reading random batches.

Baselines: unpacking the same archive and hashing it; batches from an array in memory. Uses the archive named on the
command line or in DEEPCLUST_CIFAR10; without one, an archive of the same layout and size with random pixels.
"""

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
from commands import SCRIPTS, command, prepare_outputs
from timing import Row

sys.path.insert(0, str(SCRIPTS))

from deepclust.core.images import Images


def synthetic_archive(path: Path) -> Path:
    """An archive in the layout of CIFAR-10's binary version."""
    random = np.random.default_rng(0)
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for name in [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]:
            records = random.integers(0, 256, (10_000, 3073), dtype=np.uint8)
            records[:, 0] %= 10
            entry = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            entry.size = records.nbytes
            archive.addfile(entry, io.BytesIO(records.tobytes()))
    return path


def seconds(work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def unpack(archive: Path) -> None:
    with tarfile.open(archive) as file:
        for member in file:
            data = file.extractfile(member)
            if data is not None:
                hashlib.sha256(data.read()).digest()


def prepare(archive: Path, folder: Path) -> None:
    for split in ("train", "test"):
        outputs = prepare_outputs(folder / split, folder / "labels" / split)
        subprocess.run(command("prepare", {"archives": archive}, outputs, loader="cifar10", split=split), check=True)


def random_batches(read, count: int, batches: int = 400) -> float:
    """Images per second over random batches of 512."""
    random = np.random.default_rng(0)
    indices = [random.integers(0, count, 512) for _ in range(batches)]
    for batch in indices[:100]:
        read(batch)
    return 512 * batches / seconds(lambda: [read(batch) for batch in indices])


def main() -> list[Row]:
    named = sys.argv[1:2] or [path for path in [os.environ.get("DEEPCLUST_CIFAR10")] if path]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        archive = Path(named[0]) if named else synthetic_archive(folder / "cifar.tar.gz")
        base = seconds(lambda: unpack(archive))
        preparing = seconds(lambda: prepare(archive, folder))
        opening = seconds(lambda: Images(folder / "train"))
        images = Images(folder / "train")
        memory = images.read(0, images.count)
        rate, in_memory = random_batches(images.pixels, images.count), random_batches(memory.__getitem__, images.count)
    return [
        Row("unpack CIFAR-10 and hash it (baseline)", base, "s", None, 1.0),
        Row("prepare CIFAR-10, both splits", preparing, "s", 15.0, preparing / base),
        Row("open the prepared train split", opening, "s", 0.2, None),
        Row("random batches of 512 from an array in memory (baseline)", in_memory, "images/s", None, 1.0),
        Row("random batches of 512, memory-mapped", rate, "images/s", 200_000.0, rate / in_memory),
    ]


if __name__ == "__main__":
    print(*main(), sep="\n")
