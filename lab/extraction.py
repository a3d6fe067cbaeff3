"""Speed of extracting features: against the obvious loop, against the network alone, against decoding alone.

The obvious loop is a network of timm in fp32 and a DataLoader with timm's own transform. The network alone gets batches
that are ready, in bf16. Decoding alone is the fastest decoder at hand, at the full size of the images, on all cores.
Candidates take turns, so that the ratios hold on a busy machine, too; the rates are medians.

    python lab/extraction.py [--threads 2] [--rounds 5] [--images N] [--busy] [--decoders]

`--busy` counts the time of the processor in place of that of the wall: rates per core, for a machine that others use.
`--decoders` compares those that are installed, of Pillow, simplejpeg, opencv-python-headless and imagecodecs.
"""

import argparse
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from timing import Row

SCRIPTS = Path(__file__).resolve().parents[1] / "workflow" / "scripts"
sys.path.insert(0, str(SCRIPTS))

from deepclust.models.torchvision_ops import declare_missing_operators  # noqa: E402

declare_missing_operators()

from timm.data import create_transform  # noqa: E402

from deepclust.core.images import Images, write_encoded, write_raw  # noqa: E402
from deepclust.core.progress import Progress  # noqa: E402
from deepclust.features.batches import read_batches  # noqa: E402
from deepclust.features.extract import extract  # noqa: E402
from deepclust.features.options import ExtractionOptions  # noqa: E402
from deepclust.models.description import SPEC_KEYS  # noqa: E402
from deepclust.models.model import Model, save_model  # noqa: E402
from deepclust.models.networks import build_network  # noqa: E402

CPU = torch.device("cpu")
MODEL, SIDE, BATCH = "vit_small_patch14_dinov2", 112, 32
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def rates(ways: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Median rate of each way of doing a thing; they take turns, after one round to warm up."""
    measured: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, rate in ways.items():
            value = rate()
            if number:
                measured[name].append(value)
    return {name: statistics.median(values) for name, values in measured.items()}


class Clock:
    """Seconds: of the wall, or with `busy` those that this process computed."""

    busy = False

    @classmethod
    def now(cls) -> float:
        """Seconds since some moment."""
        return time.process_time() if cls.busy else time.perf_counter()


def timed(work: Callable[[], object], count: int) -> float:
    """Images per second."""
    start = Clock.now()
    work()
    return count / (Clock.now() - start)


# --- networks ---------------------------------------------------------------------------------------------------------


class Steady(Progress):
    """Tells how fast it went from the end of the first batch on, without what happens once."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: list[tuple[float, int]] = []

    def publish(self, state: dict, force: bool = False) -> None:
        """Note how many images are done."""
        if state.get("done"):
            self._seen.append((Clock.now(), state["done"]))

    @property
    def rate(self) -> float:
        """Images per second."""
        (start, first), (end, last) = self._seen[0], self._seen[-1]
        return (last - first) / (end - start)


class Pictures(torch.utils.data.Dataset):
    """Images of Pillow, transformed for the network one by one."""

    def __init__(self, pixels: np.ndarray) -> None:
        self._pixels = pixels
        self._transform = create_transform(SIDE, mean=MEAN, std=STD, interpolation="bicubic", crop_pct=1.0)

    def __len__(self) -> int:
        return len(self._pixels)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self._transform(Image.fromarray(self._pixels[index].transpose(1, 2, 0)))


@torch.inference_mode()
def obvious_loop(network: torch.nn.Module, pixels: np.ndarray) -> None:
    loader = torch.utils.data.DataLoader(Pictures(pixels), batch_size=BATCH)
    torch.cat([network(batch) for batch in loader])


@torch.inference_mode()
def forward_alone(network: torch.nn.Module, batches: list[torch.Tensor]) -> None:
    for batch in batches:
        network(batch)


def networks(folder: Path, count: int, rounds: int) -> Iterator[Row]:
    """ViT-S/14 on small images, such as those of CIFAR-10."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, 3, 32, 32), np.uint8)
    write_raw(folder / "small", [pixels], (3, 32, 32))
    architecture = {"name": "timm", "model": MODEL, "arguments": {"img_size": SIDE}}
    network = build_network(architecture)
    facts = {"image_size": SIDE, "interpolation": "bicubic", "mean": MEAN, "std": STD, "crop_fraction": 1.0}
    facts |= {"pooling": "class", "architecture": architecture}
    save_model(folder / "model.json", network, dict.fromkeys(SPEC_KEYS) | facts)
    network = Model.load(folder / "model.json", CPU).network
    lower = Model.load(folder / "model.json", CPU).network.to(torch.bfloat16)
    ready = list(torch.randn(count, 3, SIDE, SIDE, dtype=torch.bfloat16).split(BATCH))

    def ours(**options: object) -> np.ndarray:
        progress = Steady()
        extract(
            Images(folder / "small"),
            folder / "model.json",
            folder / "features.npy",
            ExtractionOptions(**options),
            devices=[CPU],
            code="",
            progress=progress,
        )
        return progress.rate

    measured = rates(
        {
            "loop": lambda: timed(lambda: obvious_loop(network, pixels[: count // 2]), count // 2),
            "bare": lambda: timed(lambda: forward_alone(lower, ready), count),
            "ours": ours,
        },
        rounds,
    )
    half = np.load(folder / "features.npy").astype(np.float32)
    ours(precision="fp32", dtype="float32")
    exact = np.load(folder / "features.npy")
    cosines = (half * exact).sum(1) / np.linalg.norm(half, axis=1) / np.linalg.norm(exact, axis=1)
    where = f"ViT-S/14 at {SIDE} pixels"
    loop, bare, own = measured["loop"], measured["bare"], measured["ours"]
    yield Row(f"{where}: fp32, DataLoader (baseline)", loop, "images/s", None, 1.0)
    yield Row(f"{where}: `extract_features`", own, "images/s", 4 * loop, own / loop)
    yield Row(f"{where}: forward pass alone, bf16 (baseline)", bare, "images/s", None, 1.0)
    yield Row(f"{where}: `extract_features`", own, "images/s", 0.85 * bare, own / bare)
    yield Row(f"{where}: lowest cosine to features in fp32", float(cosines.min()), "", 0.999, None)


# --- decoding ---------------------------------------------------------------------------------------------------------


def photograph(random: np.random.Generator, height: int = 375, width: int = 500) -> np.ndarray:
    """An image [H, W, 3] with the spectrum of natural ones, and some noise; as JPEG about as large as ImageNet's."""
    spectrum = np.fft.rfft2(random.normal(size=(height, width, 3)), axes=(0, 1))
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    frequency[0, 0] = 1
    layers = np.fft.irfft2(spectrum / frequency[..., None] ** 1.2, s=(height, width), axes=(0, 1))
    colors = layers / layers.std((0, 1)) @ [[1, 0.9, 0.8], [0.3, -0.1, -0.3], [0.1, -0.2, 0.15]]
    grain = 6 * random.normal(size=(height, width, 1))
    return np.clip(118 + 58 * colors + grain, 0, 255).astype(np.uint8)


def photographs(count: int) -> list[bytes]:
    """JPEG files."""
    random, files = np.random.default_rng(0), []
    for _ in range(count):
        file = io.BytesIO()
        Image.fromarray(photograph(random)).save(file, "JPEG", quality=92)
        files.append(file.getvalue())
    return files


def decoders() -> dict[str, Callable[[bytes], np.ndarray]]:
    """Those that are installed, by name."""
    import simplejpeg

    found = {
        "simplejpeg": lambda data: simplejpeg.decode_jpeg(data, "RGB"),
        "Pillow": lambda data: np.asarray(Image.open(io.BytesIO(data)).convert("RGB")),
    }
    try:
        import cv2

        cv2.setNumThreads(1)
        found["OpenCV"] = lambda data: cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except ImportError:
        pass
    try:
        import imagecodecs

        found["imagecodecs"] = imagecodecs.jpeg8_decode
    except ImportError:
        pass
    return found


def decode_alone(files: list[bytes], threads: int) -> None:
    """The fastest decoder on all cores, into memory that is used again."""
    import simplejpeg

    def decode(part: list[bytes]) -> None:
        memory = np.empty(375 * 500 * 3, np.uint8)
        for data in part:
            simplejpeg.decode_jpeg(data, "RGB", buffer=memory)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(decode, [files[start::threads] for start in range(threads)]))


def obvious_reading(files: list[bytes], size: int, threads: int) -> None:
    """Pillow's decoder and its resizing on all cores."""

    def prepare(data: bytes) -> np.ndarray:
        image = Image.open(io.BytesIO(data)).convert("RGB")
        return np.asarray(ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC))

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(prepare, files))


def read(images: Images, size: int) -> None:
    """The work of extraction before the network."""
    with closing(read_batches(images, 0, BATCH * SIDE**2 // size**2, size, "bicubic", 1.0)) as batches:
        for _ in batches:
            pass


def decoding(folder: Path, count: int, rounds: int, threads: int) -> Iterator[Row]:
    files = photographs(count)
    write_encoded(folder / "photographs", files, 3)
    images = Images(folder / "photographs")
    ways = {"alone": lambda: timed(lambda: decode_alone(files, threads), count)}
    for size in (SIDE, 224):
        ways[f"to {size}"] = lambda size=size: timed(lambda: read(images, size), count)
        ways[f"Pillow to {size}"] = lambda size=size: timed(lambda: obvious_reading(files, size, threads), count)
    measured = rates(ways, rounds)
    yield Row("decode JPEGs of 500 x 375 pixels, nothing else (baseline)", measured["alone"], "images/s", None, 1.0)
    for size in (SIDE, 224):
        rate = measured[f"to {size}"]
        what = f"read, decode, resize to {size} pixels"
        yield Row(what, rate, "images/s", 0.9 * measured["alone"], rate / measured["alone"])
        pillow = measured[f"Pillow to {size}"]
        yield Row(f"the same with Pillow to {size} pixels", pillow, "images/s", None, pillow / measured["alone"])


def comparison(count: int, rounds: int) -> Iterator[Row]:
    """Decoders, one core, full size."""
    files = photographs(count)
    ways = {
        name: lambda decode=decode: timed(lambda: [decode(data) for data in files], count)
        for name, decode in decoders().items()
    }
    measured = rates(ways, rounds)
    for name, rate in measured.items():
        yield Row(f"decode with {name}, one core", rate, "images/s", None, rate / measured["Pillow"])


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--busy", action="store_true", help="count the time of the processor")
    parser.add_argument("--decoders", action="store_true", help="compare those that are installed, and nothing else")
    return parser.parse_args(words)


def main(chosen: argparse.Namespace | None = None) -> Iterator[Row]:
    chosen = chosen or arguments([])
    torch.set_num_threads(chosen.threads)
    Clock.busy = chosen.busy
    if chosen.decoders:
        yield from comparison(chosen.images, chosen.rounds)
        return
    with tempfile.TemporaryDirectory() as name:
        yield from networks(Path(name), chosen.images, chosen.rounds)
        yield from decoding(Path(name), chosen.images, chosen.rounds, chosen.threads)


if __name__ == "__main__":
    for row in main(arguments()):
        print(row, flush=True)
