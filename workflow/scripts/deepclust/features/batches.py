"""Batches of a prepared split, read once and in order."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset

from deepclust.common.errors import DeepclustError
from deepclust.common.images import Images
from deepclust.common.preprocessing import resize_and_crop

Batch = npt.NDArray[np.uint8]

PREFETCHED = 2  # batches that each worker process keeps ready


def read_batches(
    images: Images, start: int, batch_size: int, size: int | None, interpolation: str, crop_fraction: float = 1.0
) -> Iterator[Batch]:
    """The images from number `start` on, uint8 [n, C, H, W] with n ≤ `batch_size`.

    Raw images come as they are stored. Encoded ones are decoded by worker processes, each once, and resized and cropped
    to `size` pixels there, so that only what the network needs travels between processes.

    Raises:
        DeepclustError: an image does not decode, or encoded images are wanted without a common size.
    """
    if images.shape is not None:
        for first in range(start, len(images), batch_size):
            yield images.read(first, min(first + batch_size, len(images)))
        return
    if size is None:
        raise DeepclustError(
            f"the images in {images.folder} have no common size and this backbone takes images as they are: "
            "set features.image_size of the backbone"
        )
    firsts = range(start, len(images), batch_size)
    batches = _DecodedBatches(images.folder, firsts, len(images), size, interpolation, crop_fraction)
    loader: DataLoader[Batch | DeepclustError] = DataLoader(
        batches,
        batch_size=None,
        num_workers=max(1, min(torch.get_num_threads(), len(batches))),
        prefetch_factor=PREFETCHED,
        collate_fn=_as_it_is,
    )
    for batch in loader:
        if isinstance(batch, DeepclustError):
            raise batch
        yield batch


class _DecodedBatches(Dataset[Batch | DeepclustError]):
    """What the worker processes do: batch number → decoded images, or the error that it ended in."""

    def __init__(
        self, folder: Path, firsts: range, count: int, size: int, interpolation: str, crop_fraction: float
    ) -> None:
        self._folder, self._firsts, self._count = folder, firsts, count
        self._size, self._interpolation, self._crop_fraction = size, interpolation, crop_fraction
        self._images: Images | None = None  # opened by each process for itself

    def __len__(self) -> int:
        return len(self._firsts)

    def __getitem__(self, number: int) -> Batch | DeepclustError:
        first = self._firsts[number]
        if self._images is None:
            self._images = Images(self._folder)
        try:
            last = min(first + self._firsts.step, self._count)
            return np.stack([self._prepared(self._images.decode(index)) for index in range(first, last)])
        except DeepclustError as error:
            return DeepclustError(str(error))  # raised here, it would arrive wrapped in a traceback

    def _prepared(self, image: Batch) -> Batch:
        pixels = torch.from_numpy(image)[None].float()
        pixels = resize_and_crop(pixels, self._size, self._interpolation, self._crop_fraction)
        rounded: Batch = pixels[0].round().to(torch.uint8).numpy()
        return rounded


def _as_it_is(batch: Any) -> Any:
    """Keeps batches as numpy arrays, which travel through a pipe; tensors would need a large /dev/shm."""
    return batch
