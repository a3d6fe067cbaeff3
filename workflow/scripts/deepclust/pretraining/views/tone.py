"""Changes of tone and sharpness by torchvision's definitions, batched.

Images are float [B, C, H, W] in [0, 1]. Changes that depend on grey levels use 256 of them.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

LEVELS = 256


def autocontrast(images: Tensor) -> Tensor:
    """Stretch every channel of every image to the whole range."""
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    flat = low == high
    return torch.where(flat, images, ((images - low) / torch.where(flat, 1, high - low)).clamp(0, 1))


def equalize(images: Tensor) -> Tensor:
    """Spread the grey levels of every channel of every image evenly over the range."""
    channels = _levels(images).flatten(2).flatten(0, 1)  # [B * C, H * W]
    ones = torch.ones_like(channels, dtype=images.dtype)
    histogram = images.new_zeros(len(channels), LEVELS).scatter_add_(1, channels, ones)
    last = histogram.gather(1, channels.amax(1, keepdim=True))  # number of pixels that have the highest level
    step = ((channels.shape[1] - last) / (LEVELS - 1)).floor()
    before = histogram.cumsum(1) - histogram
    table = ((before + (step / 2).floor()) / step.clamp(min=1)).floor().clamp(0, LEVELS - 1)
    table[:, 0] = 0
    equalized = (table.gather(1, channels) / (LEVELS - 1)).view_as(images)
    return torch.where(step.view(*images.shape[:2], 1, 1) == 0, images, equalized)


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Keep the highest `bits` (whole numbers [B, 1, 1, 1], at most 8) of the 8 bits of all values."""
    width = 2.0 ** (8 - bits)
    return (_levels(images) / width).floor() * width / (LEVELS - 1)


def adjust_sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with a slightly blurred image; a factor [B, 1, 1, 1] of 1 changes nothing, 0 gives the blurred image."""
    if min(images.shape[-2:]) < 3:
        return images
    blurred = images.clone()
    # The kernel weighs the middle 5 and its eight neighbors 1: 9 parts of the mean of all nine, and 4 of the middle.
    blurred[..., 1:-1, 1:-1].mul_(4 / 13).add_(F.avg_pool2d(images, 3, 1), alpha=9 / 13)
    return torch.lerp(blurred, images, factor).clamp_(0, 1)


def _levels(images: Tensor) -> Tensor:
    return (images * (LEVELS - 1)).round().long()
