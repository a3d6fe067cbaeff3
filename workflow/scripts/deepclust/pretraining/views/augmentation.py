"""Random views of a batch of images, drawn on the device without a loop over images or a wait for the device."""

from collections.abc import Callable

import torch
from torch import Tensor

from deepclust.pretraining.engine.options import AugmentationOptions
from deepclust.pretraining.views import color
from deepclust.pretraining.views.base import Views, random_numbers
from deepclust.pretraining.views.blur import gaussian_blur
from deepclust.pretraining.views.crop import random_boxes, resized_crop

SOLARIZE_THRESHOLD = 128 / 255  # as Pillow's default


class Augmentation(Views):
    """Crop, flip, colour jitter, grey, blur, solarisation and normalisation, from uint8 images to one view of each.

    Every image has its own crop and factors. The order of the four colour changes is random too, but common to a batch.
    For each single image it is distributed as in torchvision's ColorJitter.
    """

    def __init__(
        self, options: AugmentationOptions, size: tuple[int, int], mean: list[float], std: list[float]
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
            float32 [B, C, *size], normalised, channels last.
        """
        options, count = self.options, len(images)
        generator = torch.Generator(images.device).manual_seed(seed)
        height, width = images.shape[-2:]
        boxes = random_boxes(count, (height, width), options.crop_scale, options.crop_ratio, generator)
        flip = self._chance(count, options.flip_probability, generator)
        views = resized_crop(self.in_planes(images), boxes, self.size, flip)
        views = self._jitter(views, seed, generator)
        if images.shape[1] == 3 and options.grayscale_probability > 0:
            gray = self._chance(count, options.grayscale_probability, generator).view(-1, 1, 1, 1)
            views = torch.where(gray, color.grayscale(views), views)
        if options.blur_probability > 0:
            low, high = options.blur_sigma
            sigmas = low + (high - low) * random_numbers(count, generator)
            views = gaussian_blur(views, sigmas, high, self._chance(count, options.blur_probability, generator))
        if options.solarize_probability > 0:
            solarized = self._chance(count, options.solarize_probability, generator).view(-1, 1, 1, 1)
            views = torch.where(solarized, color.solarize(views, SOLARIZE_THRESHOLD), views)
        return self.normalized(views)

    def _jitter(self, images: Tensor, seed: int, generator: torch.Generator) -> Tensor:
        options, count = self.options, len(images)
        changes: list[tuple[Callable[[Tensor, Tensor], Tensor], float, int]] = [
            (color.adjust_brightness, options.brightness, 1),
            (color.adjust_contrast, options.contrast, 1),
        ]
        if images.shape[1] == 3:
            changes += [(color.adjust_saturation, options.saturation, 1), (color.adjust_hue, options.hue, 0)]
        applied = self._chance(count, options.jitter_probability, generator)
        # The order is needed at once. It is drawn on the CPU, so that nothing waits for the device.
        order = torch.randperm(len(changes), generator=torch.Generator().manual_seed(seed)).tolist()
        for change, strength, neutral in (changes[i] for i in order):
            offset = strength * (2 * random_numbers(count, generator) - 1)
            if strength > 0 and options.jitter_probability > 0:
                images = change(images, torch.where(applied, neutral + offset, neutral).view(-1, 1, 1, 1))
        return images

    @staticmethod
    def _chance(count: int, probability: float, generator: torch.Generator) -> Tensor:
        return random_numbers(count, generator) < probability
