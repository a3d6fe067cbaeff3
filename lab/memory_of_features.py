"""Peak memory of feature extraction and neighbor search at N and 4N images.

It must not grow with N beyond the features themselves: extraction writes them to disk as they come, the search holds
one float32 copy and its result.

    python lab/memory_of_features.py [--images 5000]
"""

import argparse
import io
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from commands import SCRIPTS, Files, command, prepared

sys.path.insert(0, str(SCRIPTS))

SIDE = 64  # pixels
DIMENSION = 256


def peak_mib(script: str, inputs: Files, outputs: Files, **options: object) -> float:
    """Run a command of the workflow; return the most memory that it or one of its processes held."""
    process = subprocess.Popen(command(script, inputs, outputs, **options))
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{script} failed")
    return usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def aside(function: Callable, *arguments: object) -> None:
    """Call a function in a process of its own: on Linux the peak of a process starts at that of its parent."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        pool.submit(function, *arguments).result()


def noise(count: int) -> Iterator[np.ndarray]:
    """Random images, uint8 [3, SIDE, SIDE]."""
    generator = np.random.default_rng(0)
    for _ in range(count):
        yield generator.integers(0, 256, (3, SIDE, SIDE), np.uint8)


def png(image: np.ndarray) -> bytes:
    """One image as the content of a PNG file."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def write_images(folder: Path, storage: str, count: int) -> None:
    """A prepared split."""
    from deepclust.core.images import write_encoded, write_raw

    if storage == "raw":
        write_raw(folder, (image[None] for image in noise(count)), (3, SIDE, SIDE))
    else:
        write_encoded(folder, (png(image) for image in noise(count)), 3)


def write_backbone(model: Path) -> None:
    """A small network with random weights."""
    from deepclust.models.description import SPEC_KEYS
    from deepclust.models.model import save_model
    from deepclust.models.networks import build_network

    architecture = {"name": "resnet10_w32", "stem": "imagenet", "in_channels": 3}
    spec = dict.fromkeys(SPEC_KEYS) | {"architecture": architecture, "image_size": SIDE, "interpolation": "bilinear"}
    network = build_network(architecture)
    save_model(model, network, spec | {"crop_fraction": 1.0, "pooling": "avg", "feature_dim": network.feature_dim})


def write_features(folder: Path, count: int) -> None:
    """Random features."""
    folder.mkdir()
    np.save(folder / "features.npy", np.random.default_rng(0).normal(size=(count, DIMENSION)).astype(np.float16))


def extraction(folder: Path, storage: str, count: int, model: Path) -> tuple[float, float]:
    """Peak memory, and that of the features it has to hold: none."""
    aside(write_images, folder, storage, count)
    inputs = {**prepared(folder), "model": model, "weights": model.with_suffix(".safetensors")}
    return peak_mib("extract_features", inputs, {"features": folder / "features.npy"}), 0.0


def search(folder: Path, count: int, half_whiten: bool) -> tuple[float, float]:
    """Peak memory, and that of the features it has to hold, with the neighbors."""
    aside(write_features, folder, count)
    files = {"features": folder / "features.npy"}, {"neighbors": folder / "neighbors.npy"}
    peak = peak_mib("find_neighbors", *files, k=20, half_whiten=half_whiten)
    return peak, (count * DIMENSION * 4 + count * 20 * 4) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000, help="N; the other size is 4N")
    count = parser.parse_args().images
    print(f"{'command':30} {'images':>8} {'peak MiB':>9} {'features MiB':>13} {'beyond MiB':>11}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = folder / "model.json"
        aside(write_backbone, model)
        for size in (count, 4 * count):
            for storage in ("raw", "encoded"):
                measured = extraction(folder / f"{storage}{size}", storage, size, model)
                report(f"extract_features, {storage}", size, *measured)
            report("find_neighbors", size, *search(folder / f"neighbors{size}", size, False))
            report("find_neighbors, half-whitened", size, *search(folder / f"halved{size}", size, True))


def report(command: str, count: int, peak: float, features: float) -> None:
    """Print one line of the table."""
    print(f"{command:30} {count:8d} {peak:9.0f} {features:13.1f} {peak - features:11.0f}", flush=True)


if __name__ == "__main__":
    main()
