"""Strong views for SCAN: flip, random operations as in RandAugment, and cutout, drawn on the device.

Cubuk et al. 2020, arXiv 1909.13719; DeVries & Taylor 2017, arXiv 1708.04552; operations and ranges are SCAN's (Van
Gansbeke et al. 2020). Each image draws its own operations and magnitudes. The operations are drawn on the CPU, so that
each runs on its own images alone, without waiting for the device.
"""

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from deepclust.core.options import Options
from deepclust.core.seeding import derive_seed
from deepclust.pretraining.engine.options import Probability
from deepclust.pretraining.views import color, geometry, tone
from deepclust.pretraining.views.base import Views, random_numbers
from deepclust.pretraining.views.crop import resized_crop

# Operation: smallest and largest magnitude. Shifts are shares of the image's side.
OPERATIONS = {
    "identity": (0.0, 1.0),
    "autocontrast": (0.0, 1.0),
    "equalize": (0.0, 1.0),
    "rotate": (-30.0, 30.0),
    "solarize": (0.0, 256 / 255),
    "saturation": (0.05, 0.95),
    "contrast": (0.05, 0.95),
    "brightness": (0.05, 0.95),
    "sharpness": (0.05, 0.95),
    "shear_x": (-0.1, 0.1),
    "shear_y": (-0.1, 0.1),
    "shift_x": (-0.1, 0.1),
    "shift_y": (-0.1, 0.1),
    "posterize": (4.0, 8.0),
}


class StrongAugmentationOptions(Options):
    """Options of a strong view of an image."""

    flip_probability: Probability = 0.5
    """Probability of a horizontal flip."""
    operations: int = Field(4, ge=0)
    """Number of random operations, one after the other."""
    cutout: int = Field(16, ge=0)
    """Largest side in pixels of the square that is cut out."""


class StrongAugmentation(Views):
    """Strong augmentation, from uint8 images to one view of each."""

    def __init__(
        self, options: StrongAugmentationOptions, size: tuple[int, int], mean: list[float], std: list[float]
    ) -> None:
        """Keep the options; see `Views` for the other arguments."""
        super().__init__(size, mean, std)
        self.options = options

    @torch.no_grad()
    def forward(self, images: Tensor, seed: int) -> Tensor:
        """Draw one view of each image; the same seed gives the same views.

        Args:
            images: uint8 [B, C, H, W] with C 1 or 3.

        Returns:
            float32 [B, C, *size], normalised, channels last; the square that was cut out is 0.
        """
        options, count = self.options, len(images)
        generator = torch.Generator(images.device).manual_seed(seed)
        whole = torch.zeros(count, 4, dtype=torch.long, device=images.device)
        whole[:, 2], whole[:, 3] = images.shape[-2:]
        flip = random_numbers(count, generator) < options.flip_probability
        views = resized_crop(self.in_planes(images), whole, self.size, flip)
        for chosen in draw_operations(count, options.operations, derive_seed(seed, "operations")):
            views = apply_operations(views, chosen, random_numbers(count, generator))
        views = self.normalized(views)
        return cutout(views, options.cutout, generator) if options.cutout else views


def draw_operations(count: int, number: int, seed: int) -> list[Tensor]:
    """Draw indices into `OPERATIONS` for `count` images in each of `number` turns, int64 [count] on the CPU."""
    generator = torch.Generator().manual_seed(seed)
    return [(random_numbers(count, generator) * len(OPERATIONS)).long() for _ in range(number)]


def apply_operations(images: Tensor, chosen: Tensor, position: Tensor) -> Tensor:
    """Apply one operation to each image.

    Args:
        images: float [B, C, H, W] in [0, 1].
        chosen: index into `OPERATIONS` for each image, int64 [B] on the CPU.
        position: float [B], from 0 (smallest magnitude) to 1 (largest).
    """
    operations = chosen.numpy()
    sizes = np.bincount(operations, minlength=len(OPERATIONS)).tolist()
    order = torch.from_numpy(operations.argsort(kind="stable")).to(images.device, non_blocking=True)
    parts = [
        _apply(name, part, low + (high - low) * where)
        for (name, (low, high)), part, where in zip(
            OPERATIONS.items(), images[order].split(sizes), position[order].split(sizes)
        )
        if len(part)
    ]
    return torch.empty_like(images).index_copy_(0, order, torch.cat(parts))


def _apply(name: str, images: Tensor, magnitude: Tensor) -> Tensor:
    """Apply one operation to float images [B, C, H, W] in [0, 1], at magnitudes [B]."""
    factor, zero = magnitude.view(-1, 1, 1, 1), torch.zeros_like(magnitude)
    height, width = images.shape[-2:]
    match name:
        case "autocontrast":
            return tone.autocontrast(images)
        case "equalize":
            return tone.equalize(images)
        case "rotate":
            return geometry.affine(images, geometry.rotation(magnitude))
        case "solarize":
            return torch.where(images >= factor, 1 - images, images)
        case "saturation" if images.shape[1] == 3:
            return color.adjust_saturation(images, factor)
        case "contrast":
            return color.adjust_contrast(images, factor)
        case "brightness":
            return color.adjust_brightness(images, factor)
        case "sharpness":
            return tone.adjust_sharpness(images, factor)
        case "shear_x":
            return geometry.affine(images, geometry.shear(magnitude, zero, (height, width)))
        case "shear_y":
            return geometry.affine(images, geometry.shear(zero, magnitude, (height, width)))
        case "shift_x":
            return geometry.affine(images, geometry.shift(magnitude * width, zero))
        case "shift_y":
            return geometry.affine(images, geometry.shift(zero, magnitude * height))
        case "posterize":
            return tone.posterize(images, factor.floor())
        case _:  # identity; grey images have no saturation
            return images


def cutout(images: Tensor, largest: int, generator: torch.Generator) -> Tensor:
    """Set a square around a random pixel of each image to 0; it may reach over the border.

    Half of its side is a whole number from 1 to `largest`, halved and rounded down.
    """
    count, (height, width) = len(images), images.shape[-2:]
    half = ((random_numbers(count, generator) * largest).long() + 1) // 2

    def inside(length: int) -> Tensor:
        center = (random_numbers(count, generator) * length).long().view(-1, 1)
        pixels = torch.arange(length, device=images.device)
        return (pixels >= center - half.view(-1, 1)) & (pixels < center + half.view(-1, 1))

    hole = inside(height).unsqueeze(2) & inside(width).unsqueeze(1)
    return images.masked_fill(hole.unsqueeze(1), 0.0)
