"""What happens to images before a network sees them."""

import math

from torch import Tensor
from torch.nn import functional as F


def resize_and_crop(images: Tensor, size: int, interpolation: str, crop_fraction: float = 1.0) -> Tensor:
    """Bring the shorter side to `size / crop_fraction` pixels (antialiased), then crop the centre.

    Float [n, C, H, W] → [n, C, size, size]. Values stay within [0, 255], which bicubic interpolation alone would leave.
    """
    height, width = images.shape[-2:]
    shorter, wanted = min(height, width), math.floor(size / crop_fraction)
    if shorter != wanted:
        shape = (wanted * height // shorter, wanted * width // shorter)
        images = F.interpolate(images, shape, mode=interpolation, antialias=True, align_corners=False).clamp(0, 255)
    top, left = ((side - size) // 2 for side in images.shape[-2:])
    return images[..., top : top + size, left : left + size]


def match_channels(images: Tensor, channels: int | None) -> Tensor:
    """Images with as many channels as a network takes: grey is repeated, colour becomes luma (ITU-R BT.601)."""
    if channels is None or images.shape[1] == channels:
        return images
    if channels == 3:
        return images.expand(-1, 3, -1, -1)
    weights = images.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    return (images * weights).sum(1, keepdim=True)
