"""Batches of a prepared split, read once, in order and ahead of their use."""

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from deepclust.core.errors import DeepclustError
from deepclust.core.images import Images
from deepclust.core.limits import shorter_side
from deepclust.features.ahead import in_order
from deepclust.models.preprocessing import resize_and_crop

PREFETCHED = 2  # batches that are kept ready


class Batch(NamedTuple):
    """Some images, uint8 [n, C, H, W], and whether they have been resized and cropped.

    They are [n, 5, C, S, S] if the corners have been cropped as well.
    """

    images: npt.NDArray[np.uint8]
    cropped: bool

    def like(self, other: "Batch") -> bool:
        """Tell whether both have the same shape and need the same treatment."""
        return self.images.shape == other.images.shape and self.cropped == other.cropped


def read_batches(
    images: Images,
    start: int,
    batch_size: int,
    size: int | None,
    interpolation: str,
    crop_fraction: float,
    *,
    corners: bool = False,
    stop: int | None = None,
) -> Generator[Batch, None, None]:
    """Yield the images from number `start` to `stop` or the last one, in batches of at most `batch_size`.

    Images that are larger than the backbone's input are made smaller as they are read, in threads of their own
    (decoding and resizing do not hold Python's lock); JPEGs are decoded at a fraction of their size if that is enough.
    Smaller images are left for the device, which resizes a whole batch at once; they are resized here, too, if their
    sizes differ.

    Args:
        size: side of the images that the backbone sees, see `deepclust.models.preprocessing.resize_and_crop`; None: it
            takes them as they are.
        corners: crop the four corners as well.

    Raises:
        DeepclustError: an image does not decode, images that are to stay as they are differ in size, or all crops of
            an image would be the same.
    """
    reader = _Reader(images, size, interpolation, crop_fraction, corners)
    threads = torch.get_num_threads()
    stop = len(images) if stop is None else stop
    with ThreadPoolExecutor(threads, "read") as pool:
        blocks = ((first, min(first + batch_size, stop)) for first in range(start, stop, batch_size))
        yield from in_order(lambda block: pool.submit(reader.read, *block), blocks, threads + PREFETCHED)


class _Reader:
    """A reader of batches, for several threads at once."""

    def __init__(
        self, images: Images, size: int | None, interpolation: str, crop_fraction: float, corners: bool
    ) -> None:
        self._images, self._size, self._corners = images, size, corners
        self._interpolation, self._crop_fraction = interpolation, crop_fraction
        self._wanted = None if size is None else shorter_side(size, crop_fraction)
        # The shape that all images must have if they stay as they are.
        self._shape = images.shape or images.decode(0).shape if size is None else None
        if corners and (size is None or (_is_square(images) and self._wanted == size)):
            raise DeepclustError(
                f"the crops of an image of {images.folder} would all be the same, the whole image: set image_size and "
                "a crop_fraction below 1 (features of the backbone), or do without crops (test_time_augmentation)"
            )

    def read(self, first: int, last: int) -> Batch:
        """Read images `first` to `last`."""
        if self._images.shape is not None:
            block = self._images.read(first, last)
            return Batch(self._crop(block), True) if self._is_large(block) else Batch(block, False)
        decoded = [self._decode(index) for index in range(first, last)]
        if all(decoded[0].like(image) for image in decoded):
            return Batch(np.stack([image.images for image in decoded]), decoded[0].cropped)
        return Batch(np.stack([image.images if image.cropped else self._crop(image.images) for image in decoded]), True)

    def _decode(self, index: int) -> Batch:
        """Decode one image [C, H, W], as it is, or cropped if it is large."""
        image, extent = self._images.decode_reduced(index, self._wanted)
        if self._shape is not None and image.shape != self._shape:
            raise DeepclustError(
                f"the images in {self._images.folder} have no common size (image 0 has {_sides(self._shape)} pixels, "
                f"image {index} {_sides(image.shape)}) and this backbone takes images as they are: "
                "set features.image_size of the backbone"
            )
        return Batch(self._crop(image, extent), True) if self._is_large(image) else Batch(image, False)

    def _is_large(self, images: npt.NDArray[np.uint8]) -> bool:
        return self._wanted is not None and min(images.shape[-2:]) >= self._wanted

    def _crop(self, images: npt.NDArray[np.uint8], extent: tuple[float, float] | None = None) -> npt.NDArray[np.uint8]:
        """Crop images [..., C, H, W] to [..., C, size, size], or [..., 5, C, size, size] with the corners."""
        assert self._size is not None
        pixels = torch.from_numpy(images if images.ndim == 4 else images[None])
        settings = (self._size, self._interpolation, self._crop_fraction, extent)
        cropped = resize_and_crop(pixels, *settings, corners=self._corners).numpy()
        return cropped if images.ndim == 4 else cropped[0]


def _is_square(images: Images) -> bool:
    """Tell whether all images are known to be square."""
    return images.shape is not None and images.shape[-2] == images.shape[-1]


def _sides(shape: tuple[int, ...]) -> str:
    return f"{shape[-2]} x {shape[-1]}"
