"""Images of a training as uint8 batches on the device.

The images are put on the device once if they fit. Else they are read batch by batch, ahead of the training. Encoded
images are decoded and brought to one square size, once if they fit, else in every epoch. Both ways give the same
pixels.
"""

import weakref
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from deepclust.core.errors import DeepclustError
from deepclust.core.images import Images
from deepclust.core.progress import Progress
from deepclust.core.rows import evenly_spread
from deepclust.models.preprocessing import resize_and_crop

CPU_BUDGET = 2 * 2**30  # bytes of images that are kept in memory on a CPU; on a GPU, half of what is free
AHEAD = 3  # batches read ahead of the training
MARGIN = 8 / 7  # stored side / side of a view (as 256 to 224), for encoded images that are large enough
TOGETHER = 8  # images that a thread decodes before it asks for more
PROBED = 32  # images of a split whose sizes are looked at
SAMPLE = 5000  # images from which mean and standard deviation are estimated if they are not known


class ImageStore:
    """Store with random access to the images of one or several splits.

    Attributes:
        count: number of images N; the splits follow one another.
        shape: (C, H, W) as stored.
        mean, std: mean and standard deviation per channel of pixels scaled to [0, 1].
        resident: whether all images are on the device.
    """

    def __init__(
        self,
        splits: list[Images],
        image_size: int | None,
        device: torch.device,
        progress: Progress,
        workers: int,
        budget: int | None = None,
    ) -> None:
        """Open the splits, and load them if they fit.

        Args:
            image_size: side of a view in pixels; needed if the images have no common size.
            workers: number of threads that read and decode.
            budget: bytes that the images may take on the device; None for a share of its memory.

        Raises:
            DeepclustError: the splits do not fit together, or `image_size` is needed.
        """
        self.device = device
        self._source = _Source(splits, image_size)
        self.count, self.shape = self._source.count, self._source.shape
        self._workers = max(1, workers)
        self.mean, self.std = self._source.statistics()
        self._pixels: Tensor | None = None
        if self.count * int(np.prod(self.shape)) <= (_budget(device) if budget is None else budget):
            self._pixels = self._load(progress)
        self.resident = self._pixels is not None

    def batches(self, order: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield indices int64 [B] and images uint8 [B, C, H, W], both on the device, in the given order.

        Args:
            order: indices on the CPU.
            size: images per batch; the last batch has the rest.
        """
        batches = order.to(self.device).split(size)  # moved at once: moving each batch would wait for the device
        if self._pixels is not None:
            for batch in batches:
                yield batch, self._pixels[batch]
            return
        for batch, pixels in zip(batches, self._read_ahead(part.numpy() for part in order.split(size))):
            yield batch, pixels.to(self.device, non_blocking=True)

    def _load(self, progress: Progress) -> Tensor:
        pixels = torch.empty((self.count, *self.shape), dtype=torch.uint8, device=self.device)
        blocks = [np.arange(start, min(start + 256, self.count)) for start in range(0, self.count, 256)]
        with progress.task("load images", self.count, "images") as task:
            for block, values in zip(blocks, self._read_ahead(iter(blocks))):
                pixels[int(block[0]) : int(block[-1]) + 1] = values
                task.advance(len(block))
        return pixels

    def _read_ahead(self, batches: Iterator[npt.NDArray[np.int64]]) -> Iterator[Tensor]:
        """Read batches in threads, `AHEAD` of them in advance, into memory that the device can copy from."""
        pinned = self.device.type == "cuda"
        with ThreadPoolExecutor(self._workers) as readers, ThreadPoolExecutor(AHEAD) as batchers:

            def submit(batch: npt.NDArray[np.int64]) -> "Future[Tensor]":
                return batchers.submit(self._source.read, batch, self._source.memory(len(batch), pinned), readers)

            waiting = [submit(batch) for batch in islice(batches, AHEAD)]
            while waiting:
                values = waiting.pop(0).result()
                waiting.extend(submit(batch) for batch in islice(batches, 1))
                yield values


class _Source:
    """Source of the pixels of several splits under consecutive indices, all of one shape."""

    def __init__(self, splits: list[Images], image_size: int | None) -> None:
        channels = {split.channels for split in splits}
        if len(channels) > 1:
            raise DeepclustError("the splits have different numbers of channels: pretrain on one of them")
        self.splits = splits
        self._free: list[npt.NDArray[np.uint8]] = []
        self.starts = np.cumsum([0] + [split.count for split in splits])
        self.count = int(self.starts[-1])
        if self.count < 2:
            raise DeepclustError(f"pretraining needs at least 2 images, {splits[0].folder} has {self.count}")
        shapes = {split.shape for split in splits}
        self.decoded = len(shapes) > 1 or None in shapes
        if not self.decoded:
            self.shape = splits[0].shape or (0, 0, 0)
        elif image_size is None:
            raise DeepclustError("the images have no common size: set image_size")
        else:
            side = max(image_size, min(round(image_size * MARGIN), self._shorter_side()))
            self.shape = (channels.pop(), side, side)

    def memory(self, count: int, pinned: bool) -> Tensor:
        """Return memory for `count` images, uint8 [count, C, H, W].

        Decoders put the channels of a pixel next to each other. New memory costs a tenth of the time of decoding into
        it, so memory that nobody holds any more is used again. PyTorch does so itself with pinned memory, from which a
        GPU copies in the background.
        """
        channels, height, width = self.shape
        if not self.decoded:
            return torch.empty((count, *self.shape), dtype=torch.uint8, pin_memory=pinned)
        shape = (count, height, width, channels)
        if pinned:
            return torch.empty(shape, dtype=torch.uint8, pin_memory=True).permute(0, 3, 1, 2)
        memory = self._free.pop() if self._free and self._free[-1].shape == shape else np.empty(shape, np.uint8)
        pixels = memory.transpose(0, 3, 1, 2)
        weakref.finalize(pixels, self._free.append, memory)
        return torch.from_numpy(pixels)

    def read(self, indices: npt.NDArray[np.int64], memory: Tensor, readers: ThreadPoolExecutor) -> Tensor:
        """Read images into `memory`."""
        pixels = memory.numpy()
        owners = np.searchsorted(self.starts, indices, side="right") - 1
        for owner in np.unique(owners):
            split, rows = self.splits[owner], np.flatnonzero(owners == owner)
            local = indices[rows] - self.starts[owner]
            if self.decoded:
                starts = range(TOGETHER, len(rows), TOGETHER)
                decode = partial(self._decode, split, pixels)
                list(readers.map(decode, np.split(local, starts), np.split(rows, starts)))
            else:
                pixels[rows] = split.pixels(local)
        return memory

    def _shorter_side(self) -> int:
        """Return the longest of the shorter sides of some images, in pixels."""
        sides: list[int] = [
            min(split.decode(int(index)).shape[1:])
            for split in self.splits
            for index in evenly_spread(split.count, PROBED)
        ]
        return max(sides)

    def _decode(
        self, split: Images, pixels: npt.NDArray[np.uint8], indices: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]
    ) -> None:
        """Decode some images into rows of a batch."""
        for index, row in zip(indices.tolist(), rows.tolist()):
            self._write_square(split, index, pixels[row])

    def _write_square(self, split: Images, index: int, square: npt.NDArray[np.uint8]) -> None:
        """Decode one image, resize its shorter side to the stored side, and write its central crop into `square`."""
        side, memory = self.shape[1], square.transpose(1, 2, 0)
        if split.shape is None:
            pixels, extent = split.decode_reduced(index, side, memory)
            if extent == (side, side):
                if not np.shares_memory(pixels, memory):
                    square[:] = pixels
                return
        else:
            pixels, extent = split.decode(index), None
        resized = resize_and_crop(torch.from_numpy(pixels[None]), side, "bilinear", extent=extent)
        square[:] = resized[0].numpy()

    def statistics(self) -> tuple[list[float], list[float]]:
        """Return mean and standard deviation per channel: those of the manifests, else those of a sample."""
        if not self.decoded and all(split.mean is not None and split.std is not None for split in self.splits):
            weights = np.diff(self.starts) / self.count
            means, stds = (np.array([getattr(split, name) for split in self.splits]) for name in ("mean", "std"))
            mean = weights @ means
            std = np.sqrt(np.maximum(weights @ (stds**2 + means**2) - mean**2, 0))
        else:
            sample = evenly_spread(self.count, SAMPLE)
            with ThreadPoolExecutor() as readers:
                pixels = self.read(sample, self.memory(len(sample), False), readers).numpy() / np.float32(255)
            mean, std = pixels.mean((0, 2, 3), np.float64), pixels.std((0, 2, 3), np.float64)
        # Images of a single colour have no spread to divide by.
        return mean.tolist(), np.maximum(std, 1e-3).tolist()


def _budget(device: torch.device) -> int:
    return torch.cuda.mem_get_info(device)[0] // 2 if device.type == "cuda" else CPU_BUDGET
