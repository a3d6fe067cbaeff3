"""Preparation of images for a network: resizing, cropping and channels."""

from collections.abc import Callable

import torch
from torch import Tensor

from deepclust.core.limits import shorter_side


def resize_and_crop(
    images: Tensor,
    size: int,
    interpolation: str,
    crop_fraction: float = 1.0,
    extent: tuple[float, float] | None = None,
    *,
    corners: bool = False,
) -> Tensor:
    """Bring the shorter side to `shorter_side(size, crop_fraction)` pixels (antialiased), then crop the centre.

    uint8 [n, C, H, W] → [n, C, size, size]. Values are rounded to whole levels as Pillow does it, with which backbones
    are trained. A CPU computes in integers, so the bits depend neither on the batch nor on the layout.

    Args:
        extent: height and width of the part that shows something, in pixels of the images, if this is not all of them;
            see `deepclust.core.decoding.Decoded`.
        corners: whether to crop the four corners as well. The result is then [n, 5, C, size, size]: the centre, top
            left, top right, bottom left and bottom right of each image (Krizhevsky et al. 2012, section 4.1).
    """
    height, width = extent or images.shape[-2:]
    shorter, wanted = min(height, width), shorter_side(size, crop_fraction)
    shape = (images.shape[-2], images.shape[-1])
    if shorter != wanted:
        shape = (int(wanted * height // shorter), int(wanted * width // shorter))
    top, left = ((side - size) // 2 for side in shape)
    if shorter != wanted:
        ends = shape if corners else (top + size, left + size)
        images = _resize(images, shape, ends, interpolation, (shape[0] / height, shape[1] / width))
    places = [(top, left)]
    if corners:
        places += [(row, column) for row in (0, shape[0] - size) for column in (0, shape[1] - size)]
    crops = [images[..., row : row + size, column : column + size] for row, column in places]
    return torch.stack(crops, dim=1) if corners else crops[0]


def _resize(
    images: Tensor, shape: tuple[int, int], ends: tuple[int, int], interpolation: str, scales: tuple[float, float]
) -> Tensor:
    """Resize to `shape` by factors that may differ a little from the ratio of the sizes.

    `F.interpolate` takes either a size or factors, not both. Pixels beyond `ends` are not needed and mostly not
    computed.
    """
    operator: Callable[..., Tensor] = getattr(torch.ops.aten, f"_upsample_{interpolation}2d_aa")
    # The kernels leave an axis as it is if it keeps its length, whatever the factor. Such an axis is made whole.
    made = [whole if end == side else end for whole, end, side in zip(shape, ends, images.shape[-2:])]
    images = images.contiguous(memory_format=torch.channels_last)  # the layout for which the kernels are fast
    if images.device.type == "cpu":
        return operator(images, made, False, *scales)
    resized = operator(images.float(), made, False, *scales)  # GPUs have no kernel for bytes
    return resized.round_().clamp_(0, 255).to(torch.uint8)


def match_channels(images: Tensor, channels: int | None) -> Tensor:
    """Give images as many channels as a network takes: grey is repeated, colour becomes luma (ITU-R BT.601)."""
    if channels is None or images.shape[1] == channels:
        return images
    if channels == 3:
        return images.expand(-1, 3, -1, -1)
    weights = images.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    return (images * weights).sum(1, keepdim=True)
