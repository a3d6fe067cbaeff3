"""What happens to images before a network sees them."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def resize_and_crop(images: Tensor, size: int, interpolation: str, crop_fraction: float = 1.0) -> Tensor:
    """Bring the shorter side to `shorter_side(size, crop_fraction)` pixels (antialiased), then crop the centre.

    uint8 [n, C, H, W] → [n, C, size, size]: rounded to whole levels, as by Pillow, with which backbones are trained. On
    a CPU the arithmetic is that of integers, so the bits depend neither on the batch nor on the layout.
    """
    height, width = images.shape[-2:]
    shorter, wanted = min(height, width), shorter_side(size, crop_fraction)
    if shorter != wanted:
        images = _resize(images, (wanted * height // shorter, wanted * width // shorter), interpolation)
    top, left = ((side - size) // 2 for side in images.shape[-2:])
    return images[..., top : top + size, left : left + size]


def shorter_side(size: int, crop_fraction: float) -> int:
    """Pixels of the shorter side of an image whose centre is then cropped to `size`."""
    return math.floor(size / crop_fraction)


def _resize(images: Tensor, shape: tuple[int, int], interpolation: str) -> Tensor:
    images = images.contiguous(memory_format=torch.channels_last)  # for which the kernels are fast
    if images.device.type == "cpu":
        return F.interpolate(images, shape, mode=interpolation, antialias=True)
    resized = F.interpolate(images.float(), shape, mode=interpolation, antialias=True)  # GPUs have no kernel for bytes
    return resized.round_().clamp_(0, 255).to(torch.uint8)


def match_channels(images: Tensor, channels: int | None) -> Tensor:
    """Images with as many channels as a network takes: grey is repeated, colour becomes luma (ITU-R BT.601)."""
    if channels is None or images.shape[1] == channels:
        return images
    if channels == 3:
        return images.expand(-1, 3, -1, -1)
    weights = images.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    return (images * weights).sum(1, keepdim=True)
