"""Random resized crops of a batch on any device, as two batched matrix products.

Each image has its own crop. Resampling is linear and separable, so a crop is `rows @ image @ columns.T` with one pair
of matrices per image that hold the antialiased bilinear weights of torchvision's `resized_crop`.
"""

import math

import torch
from torch import Tensor

from deepclust.pretraining.views.base import for_each_image

ATTEMPTS = 10  # as torchvision's RandomResizedCrop


def random_boxes(
    count: int,
    image_size: tuple[int, int],
    scale: tuple[float, float],
    ratio: tuple[float, float],
    generator: torch.Generator,
) -> Tensor:
    """Draw boxes as torchvision's RandomResizedCrop does.

    Args:
        image_size: height and width in pixels.
        scale: range of the box's share of the image's area.
        ratio: range of its aspect ratio (width / height), drawn log-uniformly.

    Returns:
        int64 [count, 4] on the generator's device: top, left, height, width. If no attempt fits into the image, it is
        the largest central box of an allowed ratio.
    """
    height, width = image_size
    random = for_each_image(
        lambda total: torch.rand(4, total, ATTEMPTS, generator=generator, device=generator.device), count, dim=1
    )
    area = height * width * (scale[0] + (scale[1] - scale[0]) * random[0])
    low, high = math.log(ratio[0]), math.log(ratio[1])
    aspect = torch.exp(low + (high - low) * random[1])
    widths, heights = torch.sqrt(area * aspect).round(), torch.sqrt(area / aspect).round()
    fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
    first = fits.byte().argmax(1, keepdim=True)
    found = fits.any(1)
    widths, heights, down, right = (x.gather(1, first).squeeze(1) for x in (widths, heights, random[2], random[3]))

    central_width = max(1, min(width, round(height * ratio[1])))
    central_height = max(1, min(height, round(width / ratio[0])))
    widths = torch.where(found, widths, central_width)
    heights = torch.where(found, heights, central_height)
    top = torch.where(found, (down * (height - heights + 1)).floor(), (height - central_height) // 2)
    left = torch.where(found, (right * (width - widths + 1)).floor(), (width - central_width) // 2)
    return torch.stack([top, left, heights, widths], 1).long()


def resampling_matrices(start: Tensor, length: Tensor, total: int, size: int) -> Tensor:
    """Return the antialiased linear weights that resample `length` pixels from `start` to `size` pixels.

    Args:
        start, length: integers [B], in pixels of an axis of `total` pixels.

    Returns:
        float32 [B, size, total]; rows sum to 1 and are 0 outside the crop.
    """
    start, length = start.float().view(-1, 1, 1), length.float().view(-1, 1, 1)
    scale = length / size
    centers = start + (torch.arange(size, device=start.device).view(1, -1, 1) + 0.5) * scale
    pixels = torch.arange(total, device=start.device).view(1, 1, -1) + 0.5
    # The weights form a triangle that reaches one output step, and at least one input pixel, to each side.
    weights = (1 - (pixels - centers).abs() / scale.clamp(min=1)).clamp(min=0)
    weights = weights * ((pixels > start) & (pixels < start + length))
    return weights / weights.sum(2, keepdim=True)


def resized_crop(images: Tensor, boxes: Tensor, size: tuple[int, int], flip: Tensor | None = None) -> Tensor:
    """Crop each image to its own box and resize the crops to one size.

    Args:
        images: float [B, C, H, W].
        boxes: int64 [B, 4]: top, left, height, width.
        size: height and width of the result in pixels.
        flip: mask of the results to mirror left to right, bool [B]; None mirrors none.

    Returns:
        float [B, C, *size].
    """
    height, width = images.shape[-2:]
    rows = resampling_matrices(boxes[:, 0], boxes[:, 2], height, size[0])
    columns = resampling_matrices(boxes[:, 1], boxes[:, 3], width, size[1])
    if flip is not None:
        columns = torch.where(flip.view(-1, 1, 1), columns.flip(1), columns)
    return apply_separable(images, rows, columns)


def apply_separable(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Compute `rows @ image @ columns.T` for every channel of every image, as two batched matrix products.

    Args:
        images: float [B, C, H, W].
        rows: float [B, H', H].
        columns: float [B, W', W].

    Returns:
        float [B, C, H', W'].
    """
    count, channels, height, width = images.shape
    new_height, new_width = rows.shape[1], columns.shape[1]
    narrow = torch.bmm(images.reshape(count, channels * height, width), columns.transpose(1, 2))
    narrow = narrow.view(count, channels, height, new_width).transpose(1, 2).reshape(count, height, -1)
    return torch.bmm(rows, narrow).view(count, new_height, channels, new_width).transpose(1, 2)
