"""Strong views for SCAN: flip, random operations as in RandAugment, cutout; drawn on the device.

Cubuk et al. 2020, arXiv 1909.13719; DeVries & Taylor 2017, arXiv 1708.04552; operations and ranges are SCAN's (Van
Gansbeke et al. 2020). Each image draws its own operations and magnitudes. All images of a batch go through every
operation, at a magnitude that changes nothing unless it was drawn: nothing waits for the device.
"""

import torch
from pydantic import Field
from torch import Tensor

from deepclust.common.options import Options
from deepclust.pretraining import color, geometry, tone
from deepclust.pretraining.crop import resized_crop
from deepclust.pretraining.options import Probability
from deepclust.pretraining.views import Views, random_numbers

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
NEUTRAL = {"solarize": 2.0, "saturation": 1.0, "contrast": 1.0, "brightness": 1.0, "sharpness": 1.0, "posterize": 8.0}


class StrongAugmentationOptions(Options):
    """How a strong view of an image is drawn."""

    flip_probability: Probability = 0.5
    """Probability of a horizontal flip."""
    operations: int = Field(4, ge=0)
    """Number of random operations, one after the other."""
    cutout: int = Field(16, ge=0)
    """Largest side in pixels of the square that is cut out."""


class StrongAugmentation(Views):
    """Uint8 images to one strong view of each."""

    def __init__(
        self, options: StrongAugmentationOptions, size: tuple[int, int], mean: list[float], std: list[float]
    ) -> None:
        """Args: see `Views`."""
        super().__init__(size, mean, std)
        self.options = options

    @torch.no_grad()
    def forward(self, images: Tensor, seed: int) -> Tensor:
        """One view of each image; the same seed gives the same views.

        Args:
            images: uint8 [B, C, H, W] with C 1 or 3.

        Returns:
            float32 [B, C, *size], normalised, channels last; what was cut out is 0.
        """
        options, count = self.options, len(images)
        generator = torch.Generator(images.device).manual_seed(seed)
        whole = torch.zeros(count, 4, dtype=torch.long, device=images.device)
        whole[:, 2], whole[:, 3] = images.shape[-2:]
        flip = random_numbers(count, generator) < options.flip_probability
        views = resized_crop(self.in_planes(images), whole, self.size, flip)
        for _ in range(options.operations):
            chosen = (random_numbers(count, generator) * len(OPERATIONS)).long()
            views = apply_operations(views, chosen, random_numbers(count, generator))
        views = self.normalized(views)
        return cutout(views, options.cutout, generator) if options.cutout else views


def apply_operations(images: Tensor, chosen: Tensor, position: Tensor) -> Tensor:
    """Apply one operation to each image.

    Args:
        images: float [B, C, H, W] in [0, 1].
        chosen: int64 [B], index into `OPERATIONS`.
        position: float [B], from 0 (smallest magnitude) to 1 (largest).
    """
    names = list(OPERATIONS)

    def drawn(name: str) -> Tensor:
        return chosen == names.index(name)

    def magnitude(name: str) -> Tensor:
        low, high = OPERATIONS[name]
        return torch.where(drawn(name), low + (high - low) * position, NEUTRAL.get(name, 0.0))

    def factor(name: str) -> Tensor:
        return magnitude(name).view(-1, 1, 1, 1)

    height, width = images.shape[-2:]
    moved = geometry.shift(magnitude("shift_x") * width, magnitude("shift_y") * height)
    sheared = geometry.shear(magnitude("shear_x"), magnitude("shear_y"), (height, width))
    turned = geometry.rotation(magnitude("rotate"))
    # At most one of the three is not the identity.
    images = geometry.affine(images, moved + sheared + turned - 2 * geometry.rotation(torch.zeros_like(position)))
    images = torch.where(drawn("autocontrast").view(-1, 1, 1, 1), tone.autocontrast(images), images)
    images = torch.where(drawn("equalize").view(-1, 1, 1, 1), tone.equalize(images), images)
    images = torch.where(images >= factor("solarize"), 1 - images, images)
    if images.shape[1] == 3:
        images = color.adjust_saturation(images, factor("saturation"))
    images = color.adjust_contrast(images, factor("contrast"))
    images = color.adjust_brightness(images, factor("brightness"))
    images = tone.adjust_sharpness(images, factor("sharpness"))
    posterized = tone.posterize(images, factor("posterize").floor())
    return torch.where(drawn("posterize").view(-1, 1, 1, 1), posterized, images)


def cutout(images: Tensor, largest: int, generator: torch.Generator) -> Tensor:
    """Set a square around a random pixel of each image to 0; it may reach over the border.

    Its side is twice half of a whole number from 1 to `largest`, rounded down.
    """
    count, (height, width) = len(images), images.shape[-2:]
    half = ((random_numbers(count, generator) * largest).long() + 1) // 2

    def inside(length: int) -> Tensor:
        center = (random_numbers(count, generator) * length).long().view(-1, 1)
        pixels = torch.arange(length, device=images.device)
        return (pixels >= center - half.view(-1, 1)) & (pixels < center + half.view(-1, 1))

    hole = inside(height).unsqueeze(2) & inside(width).unsqueeze(1)
    return images.masked_fill(hole.unsqueeze(1), 0.0)
