"""What all ways of drawing views of images have in common."""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

import torch
from torch import Tensor, nn


class Views(nn.Module):
    """Draws views of one size and normalises them."""

    mean: Tensor
    std: Tensor

    def __init__(self, size: tuple[int, int], mean: list[float], std: list[float]) -> None:
        """Args: `size` of a view (height, width) in pixels; `mean` and `std` per channel of pixels in [0, 1]."""
        super().__init__()
        self.size = size
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def in_planes(self, images: Tensor) -> Tensor:
        """Images uint8 [B, C, H, W] in any memory format as float32 in [0, 1], one channel after the other."""
        return images.to(torch.float32, memory_format=torch.contiguous_format).div_(255)

    def normalized(self, views: Tensor) -> Tensor:
        """Views [B, C, H, W] in [0, 1] as a network takes them, channels last."""
        return ((views - self.mean) / self.std).contiguous(memory_format=torch.channels_last)


# First and last + 1 of the images of a batch that this process draws views of, and how many the batch has.
_PART: ContextVar[tuple[int, int, int] | None] = ContextVar("part", default=None)


@contextlib.contextmanager
def part_of_batch(start: int, stop: int, total: int) -> Iterator[None]:
    """Within this block views are drawn of images `start` to `stop` - 1 of a batch of `total`."""
    token = _PART.set((start, stop, total))
    try:
        yield
    finally:
        _PART.reset(token)


def for_each_image(draw: Callable[[int], Tensor], count: int, dim: int = 0) -> Tensor:
    """Random numbers for `count` images, whatever part of a batch they are.

    An image's numbers must not depend on how many processes share a batch. So they are drawn for the whole batch, and
    those of this process's images are kept: draw little per image.

    Args:
        draw: given a number of images, draws for all of them.
        count: number of images that are here, or a multiple of it where each image has several draws in a row.
        dim: dimension of what `draw` returns that runs over images.
    """
    part = _PART.get()
    if part is None:
        return draw(count)
    start, stop, total = part
    each, rest = divmod(count, stop - start)
    assert rest == 0, (count, part)
    return draw(total * each).narrow(dim, start * each, count)


def random_numbers(count: int, generator: torch.Generator) -> Tensor:
    """One for each image, float32 [count] in [0, 1), on the generator's device."""
    return for_each_image(lambda total: torch.rand(total, generator=generator, device=generator.device), count)
