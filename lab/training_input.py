"""The whole of a pretraining's step, from images to updated weights, against the usual pipeline; and how JPEGs are fed.

Baseline of the steps: PIL images, torchvision's transforms for both views in a DataLoader with as many worker processes
as cores, the same network, loss and batch in fp32 with PyTorch's own SGD; its row says how many workers there were and
whether TF32 was on. Baseline of the JPEGs: simplejpeg decoding
the same files at full size into memory that is used again, nothing else. Times are CPU time of all processes and
threads together, so that other work on the machine matters little; each process computes on one thread. Steps on a GPU
are measured by the clock. The ways take turns and the best round counts, because other work only ever takes time.
"""

import io
import os
import resource
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from timing import Row, seconds
from torch import nn
from torch.utils.data import DataLoader, Dataset
from training import make_trainer

from deepclust.core.device import choose_device
from deepclust.core.images import Images, write_encoded, write_raw
from deepclust.core.progress import Progress
from deepclust.models.torchvision_ops import declare_missing_operators
from deepclust.pretraining import simclr
from deepclust.pretraining.engine.image_store import ImageStore

BATCH = 128
NETWORKS = {"resnet10_w32, stl stem": ("resnet10_w32", "stl", 8), "ResNet-18": ("resnet18", "cifar", 2)}  # and steps
GPU_STEPS = 100
WORKERS = os.cpu_count() or 1
JPEGS = 256
SIDE = 224


class Pictures(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """PIL images and two views of each, as the reference implementations of contrastive methods draw them."""

    def __init__(self, pixels: np.ndarray, options: simclr.Options) -> None:
        declare_missing_operators()
        from torchvision import transforms

        drawn = options.augmentation
        jitter = transforms.ColorJitter(drawn.brightness, drawn.contrast, drawn.saturation, drawn.hue)
        self.pictures = [Image.fromarray(image) for image in pixels.transpose(0, 2, 3, 1)]
        self.transform = transforms.Compose(
            [
                transforms.RandomResizedCrop(pixels.shape[-1], drawn.crop_scale, drawn.crop_ratio),
                transforms.RandomHorizontalFlip(drawn.flip_probability),
                transforms.RandomApply([jitter], drawn.jitter_probability),
                transforms.RandomGrayscale(drawn.grayscale_probability),
                transforms.ToTensor(),
                transforms.Normalize([0.5] * 3, [0.25] * 3),
            ]
        )

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.transform(self.pictures[index]), self.transform(self.pictures[index])


def cpu_seconds() -> float:
    """CPU time of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def time_of(work: Callable[[], None], device: torch.device) -> float:
    """CPU seconds; on a GPU seconds by the clock."""
    if device.type == "cuda":
        return seconds(work, device)
    start = cpu_seconds()
    work()
    return cpu_seconds() - start


def best(ways: dict[str, Callable[[], None]], rounds: int, device: torch.device) -> dict[str, float]:
    """Time of each way: all take turns, the best round counts."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, work in ways.items():
            found[name].append(time_of(work, device))
    return {name: min(values) for name, values in found.items()}


def usual_pipeline(method: nn.Module, data: Pictures, device: torch.device) -> None:
    """One pass of the usual loop."""
    rate, momentum, decay = 0.1, 0.9, 1e-4
    optimizer = torch.optim.SGD(method.parameters(), rate, momentum, weight_decay=decay)
    pinned = device.type == "cuda"
    loader = DataLoader(data, BATCH, shuffle=True, num_workers=WORKERS, drop_last=True, pin_memory=pinned)
    for views in loader:
        embeddings = method.embed([view.to(device, non_blocking=True) for view in views])
        loss = method.loss(embeddings, torch.arange(BATCH, device=device))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()


def engine(trainer, count: int) -> None:
    """The same number of the engine's steps."""
    for indices, images in trainer.store.batches(torch.randperm(count), BATCH):
        trainer._step(images, indices)


def setting_of_baseline(device: torch.device) -> str:
    """Return notes on the usual pipeline, whose settings are PyTorch's defaults."""
    parts = {"convolutions": torch.backends.cudnn.allow_tf32, "products": torch.backends.cuda.matmul.allow_tf32}
    used = [name for name, on in parts.items() if on and device.type == "cuda"]
    tf32 = f"TF32 in {' and '.join(used)}" if used else "no TF32"
    return f"{WORKERS} workers, {tf32}, {device.type}"


def steps(folder: Path, rounds: int, device: torch.device) -> Iterator[Row]:
    setting = setting_of_baseline(device)
    for name, (architecture, stem, count) in NETWORKS.items():
        count = GPU_STEPS if device.type == "cuda" else count
        rates = images_per_second(folder / architecture, architecture, stem, count, rounds, device)
        yield Row(f"SimCLR, {name}: usual pipeline (baseline; {setting})", rates["usual"], "images/s", None, 1.0)
        ratio = rates["engine"] / rates["usual"]
        yield Row(f"SimCLR, {name}: engine", rates["engine"], "images/s", 3 * rates["usual"], ratio)


def images_per_second(
    folder: Path, architecture: str, stem: str, count: int, rounds: int, device: torch.device
) -> dict[str, float]:
    """Images per second of both ways, in `count` steps."""
    pixels = np.random.default_rng(0).integers(0, 256, (count * BATCH, 3, 32, 32), dtype=np.uint8)
    write_raw(folder / "images", [pixels], (3, 32, 32))
    options = {"architecture": architecture, "stem": stem}
    trainer, plain = (make_trainer(simclr, options | compiled, folder, device) for compiled in ({}, {"compile": False}))
    method = plain.method.to(memory_format=torch.contiguous_format).train()
    data = Pictures(pixels, plain.options)
    ways = {"usual": lambda: usual_pipeline(method, data, device), "engine": lambda: engine(trainer, len(pixels))}
    best(ways, 1, device)  # warms up
    return {way: len(pixels) / value for way, value in best(ways, rounds, device).items()}


def photographs(count: int) -> list[bytes]:
    """JPEGs of `SIDE` pixels with the spectrum of photographs (1 / frequency), and some grain."""
    random = np.random.default_rng(0)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(SIDE), np.fft.rfftfreq(SIDE), indexing="ij"))
    falloff = 1 / np.maximum(frequency, 1 / SIDE)
    files = []
    for _ in range(count):
        waves = np.fft.irfft2(np.fft.rfft2(random.standard_normal((3, SIDE, SIDE))) * falloff, (SIDE, SIDE))
        pixels = 128 + 45 * waves / waves.std() + 4 * random.standard_normal(waves.shape)
        buffer = io.BytesIO()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8).transpose(1, 2, 0)).save(buffer, "JPEG", quality=90)
        files.append(buffer.getvalue())
    return files


def decode(files: list[bytes]) -> None:
    import simplejpeg

    memory = np.empty((SIDE, SIDE, 3), np.uint8)
    for data in files:
        simplejpeg.decode_jpeg(data, "RGB", buffer=memory)


def jpegs(folder: Path, rounds: int) -> Iterator[Row]:
    files = photographs(JPEGS)
    write_encoded(folder / "jpegs", files, 3)
    cpu = torch.device("cpu")  # which decodes in any case
    store = ImageStore([Images(folder / "jpegs")], SIDE, cpu, Progress(), workers=1, budget=0)
    ways = {
        "decode": lambda: decode(files),
        "store": lambda: [None for _ in store.batches(torch.randperm(store.count), 64)] and None,
    }
    best(ways, 1, cpu)
    rates = {way: len(files) / value for way, value in best(ways, rounds, cpu).items()}
    size = statistics.mean(map(len, files)) / 1000
    yield Row(
        f"JPEGs of {SIDE} pixels ({size:.0f} kB): decode alone (baseline)", rates["decode"], "images/s", None, 1.0
    )
    ratio = rates["store"] / rates["decode"]
    yield Row("batches of uint8 for the training", rates["store"], "images/s", 0.9 * rates["decode"], ratio)


def main(rounds: int = 3) -> Iterator[Row]:
    device = choose_device()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        yield from jpegs(Path(folder), rounds)
        yield from steps(Path(folder), rounds, device)


if __name__ == "__main__":
    for row in main(int(sys.argv[1]) if len(sys.argv) > 1 else 3):
        print(row, flush=True)
