"""What happens to images before a network sees them."""

import math
from collections.abc import Callable

import torch
from torch import Tensor


def resize_and_crop(
    images: Tensor,
    size: int,
    interpolation: str,
    crop_fraction: float = 1.0,
    extent: tuple[float, float] | None = None,
) -> Tensor:
    """Bring the shorter side to `shorter_side(size, crop_fraction)` pixels (antialiased), then crop the centre.

    uint8 [n, C, H, W] → [n, C, size, size]: rounded to whole levels, as by Pillow, with which backbones are trained. On
    a CPU the arithmetic is that of integers, so the bits depend neither on the batch nor on the layout.

    Args:
        extent: height and width of what the images show, in their pixels, where it is less than all of them; see
            `deepclust.common.decoding.Decoded`.
    """
    height, width = extent or images.shape[-2:]
    shorter, wanted = min(height, width), shorter_side(size, crop_fraction)
    if shorter != wanted:
        shape = (int(wanted * height // shorter), int(wanted * width // shorter))
        images = _resize(images, shape, interpolation, (shape[0] / height, shape[1] / width))
    top, left = ((side - size) // 2 for side in images.shape[-2:])
    return images[..., top : top + size, left : left + size]


def shorter_side(size: int, crop_fraction: float) -> int:
    """Pixels of the shorter side of an image whose centre is then cropped to `size`."""
    return math.floor(size / crop_fraction)


def _resize(images: Tensor, shape: tuple[int, int], interpolation: str, scales: tuple[float, float]) -> Tensor:
    """Resize to `shape`, by factors that may differ a little from what that takes; `F.interpolate` takes only one."""
    operator: Callable[..., Tensor] = getattr(torch.ops.aten, f"_upsample_{interpolation}2d_aa")
    images = images.contiguous(memory_format=torch.channels_last)  # for which the kernels are fast
    if images.device.type == "cpu":
        return operator(images, shape, False, *scales)
    resized = operator(images.float(), shape, False, *scales)  # GPUs have no kernel for bytes
    return resized.round_().clamp_(0, 255).to(torch.uint8)


def match_channels(images: Tensor, channels: int | None) -> Tensor:
    """Images with as many channels as a network takes: grey is repeated, colour becomes luma (ITU-R BT.601)."""
    if channels is None or images.shape[1] == channels:
        return images
    if channels == 3:
        return images.expand(-1, 3, -1, -1)
    weights = images.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    return (images * weights).sum(1, keepdim=True)
