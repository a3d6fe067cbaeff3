"""Rotations, shears and shifts with one magnitude per image, by torchvision's definition of an affine transform."""

import torch
from torch import Tensor
from torch.nn import functional as F


def affine(images: Tensor, matrices: Tensor) -> Tensor:
    """Move pixels without interpolation: the nearest one is taken, and pixels from outside are black.

    Args:
        images: float [B, C, H, W].
        matrices: float [B, 2, 3]; a matrix maps a pixel's place in the result, (x, y, 1) in pixels from the image's
            centre, to its place in the image.
    """
    height, width = images.shape[-2:]
    (xx, xy, x), (yx, yy, y) = (row.unbind(1) for row in matrices.unbind(1))
    # The sampling grid counts in halves of the image's width and height.
    theta = torch.stack([xx, xy * height / width, 2 * x / width, yx * width / height, yy, 2 * y / height], 1)
    grid = F.affine_grid(theta.view(-1, 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="nearest", padding_mode="zeros", align_corners=False)


def rotation(degrees: Tensor) -> Tensor:
    """Return the matrices [B, 2, 3] that turn images counter-clockwise about their centre."""
    radians = torch.deg2rad(degrees)
    cos, sin, zero = torch.cos(radians), torch.sin(radians), torch.zeros_like(degrees)
    return torch.stack([cos, -sin, zero, sin, cos, zero], 1).view(-1, 2, 3)


def shear(x: Tensor, y: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the matrices [B, 2, 3] that push rows sideways by `x` pixels per row and columns down by `y` per column.

    The pixel at the top left stays, as in torchvision's AutoAugment. `size` is height and width.
    """
    one = torch.ones_like(x)
    return torch.stack([one, x, x * size[0] / 2, y, one, y * size[1] / 2], 1).view(-1, 2, 3)


def shift(x: Tensor, y: Tensor) -> Tensor:
    """Return the matrices [B, 2, 3] that take the result from `x` pixels further right and `y` further down."""
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    return torch.stack([one, zero, x, zero, one, y], 1).view(-1, 2, 3)
