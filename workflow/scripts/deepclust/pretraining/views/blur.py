"""Gaussian blur with one strength per image, by torchvision's definition, as two batched matrix products."""

import math

import torch
from torch import Tensor

from deepclust.pretraining.views.crop import apply_separable

REACH = 3  # standard deviations that the kernel covers


def gaussian_blur(images: Tensor, sigmas: Tensor, largest: float, applied: Tensor | None = None) -> Tensor:
    """Blur each image by a Gaussian of its own width; borders are mirrored.

    Args:
        images: float [B, C, H, W].
        sigmas: float [B], standard deviations in pixels, above 0.
        largest: upper bound of `sigmas`; the kernel reaches `kernel_radius(largest, side)` pixels to each side.
        applied: mask of the images to blur, bool [B]; None blurs all.

    Returns:
        float [B, C, H, W].
    """
    rows, columns = (_blur_matrices(sigmas, kernel_radius(largest, side), side, applied) for side in images.shape[-2:])
    return apply_separable(images, rows, columns)


def kernel_radius(largest: float, side: int) -> int:
    """Return how far the kernel reaches to each side: `REACH` standard deviations, and less than `side` pixels."""
    return min(math.ceil(REACH * largest), side - 1)


def _blur_matrices(sigmas: Tensor, radius: int, side: int, applied: Tensor | None) -> Tensor:
    """Return the weights [B, side, side] of every pixel of an axis in every blurred one."""
    offsets = torch.arange(-radius, radius + 1, device=sigmas.device)
    kernel = torch.exp(-0.5 * (offsets / sigmas.view(-1, 1)) ** 2)
    kernel = kernel / kernel.sum(1, keepdim=True)
    if applied is not None:
        kernel = torch.where(applied.view(-1, 1), kernel, (offsets == 0).to(kernel.dtype))
    pixels = torch.arange(side, device=sigmas.device)
    sources = (offsets.view(-1, 1) + pixels).abs()  # mirrored at the first pixel, then at the last
    sources = torch.where(sources < side, sources, 2 * (side - 1) - sources)
    selection = (sources.unsqueeze(2) == pixels).to(kernel.dtype)  # [2 * radius + 1, side, side]
    return (kernel @ selection.flatten(1)).view(-1, side, side)
