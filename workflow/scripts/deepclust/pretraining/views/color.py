"""Colour changes with one factor per image, by torchvision's definitions.

Images are float [B, C, H, W] in [0, 1] with C 1 or 3; factors are float [B, 1, 1, 1]. Grey images have neither
saturation nor hue.
"""

import torch
from torch import Tensor


def grayscale(images: Tensor) -> Tensor:
    """Return the luma (ITU-R BT.601), [B, 1, H, W]."""
    if images.shape[1] == 1:
        return images
    red, green, blue = images.split(1, 1)
    luma: Tensor = (0.2989 * red).add_(green, alpha=0.587).add_(blue, alpha=0.114)
    return luma


def solarize(images: Tensor, threshold: float) -> Tensor:
    """Invert all values from `threshold` up."""
    return torch.where(images >= threshold, 1 - images, images)


def adjust_brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Scale all values; factor 1 changes nothing."""
    return (images * factor).clamp_(0, 1)


def adjust_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Move values away from the image's mean grey; factor 1 changes nothing."""
    return torch.lerp(grayscale(images).mean((1, 2, 3), keepdim=True), images, factor).clamp_(0, 1)


def adjust_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Move colours away from their own grey; factor 1 changes nothing."""
    return torch.lerp(grayscale(images), images, factor).clamp_(0, 1)


def adjust_hue(images: Tensor, shift: Tensor) -> Tensor:
    """Rotate the colours of RGB images around the HSV circle by a share of the circle; 0 changes nothing."""
    red, green, blue = images.split(1, 1)
    value = images.amax(1, keepdim=True)
    chroma = value - images.amin(1, keepdim=True)
    safe = torch.where(chroma == 0, 1, chroma)
    # The hue counts sextants of the circle, from 0 (red) to 6.
    hue = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    hue = hue + 6 * shift
    # The way back to RGB needs no cases: a channel falls from `value` by `chroma` over sextants that are not its own.
    offsets = 5 - 2 * torch.arange(3, device=images.device).view(1, 3, 1, 1)
    sextant = torch.remainder(offsets + hue, 6)
    return value - chroma * torch.minimum(sextant, 4 - sextant).clamp_(0, 1)
