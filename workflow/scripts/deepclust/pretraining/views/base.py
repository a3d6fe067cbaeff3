"""Base of all ways of drawing views of images."""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

import torch
from torch import Tensor, nn


class Views(nn.Module):
    """Base of augmentations that draw views of one size and normalise them."""

    mean: Tensor
    std: Tensor

    def __init__(self, size: tuple[int, int], mean: list[float], std: list[float]) -> None:
        """Keep the size and the normalisation.

        Args:
            size: height and width of a view in pixels.
            mean: mean per channel of pixels in [0, 1].
            std: standard deviation per channel of pixels in [0, 1].
        """
        super().__init__()
        self.size = size
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def in_planes(self, images: Tensor) -> Tensor:
        """Bring uint8 images [B, C, H, W] in any memory format to float32 in [0, 1], one channel after the other."""
        return images.to(torch.float32, memory_format=torch.contiguous_format).div_(255)

    def normalized(self, views: Tensor) -> Tensor:
        """Normalise views [B, C, H, W] in [0, 1] for a network, channels last."""
        return ((views - self.mean) / self.std).contiguous(memory_format=torch.channels_last)


# First and last + 1 of the images of a batch that this process draws views of, and the number of images in the batch.
_PART: ContextVar[tuple[int, int, int] | None] = ContextVar("part", default=None)


@contextlib.contextmanager
def part_of_batch(start: int, stop: int, total: int) -> Iterator[None]:
    """Let views within this block be drawn of images `start` to `stop` - 1 of a batch of `total`."""
    token = _PART.set((start, stop, total))
    try:
        yield
    finally:
        _PART.reset(token)


def for_each_image(draw: Callable[[int], Tensor], count: int, dim: int = 0) -> Tensor:
    """Draw random numbers for `count` images, whatever part of a batch they are.

    An image's numbers must not depend on how many processes share a batch. So they are drawn for the whole batch, and
    those of this process's images are kept. This is meant for few numbers per image.

    Args:
        draw: function that draws for a given number of images.
        count: number of images of this process, or a multiple of it if each image has several draws in a row.
        dim: dimension of the drawn numbers that runs over images.
    """
    part = _PART.get()
    if part is None:
        return draw(count)
    start, stop, total = part
    each, rest = divmod(count, stop - start)
    assert rest == 0, (count, part)
    return draw(total * each).narrow(dim, start * each, count)


def random_numbers(count: int, generator: torch.Generator) -> Tensor:
    """Draw one number for each image, float32 [count] in [0, 1), on the generator's device."""
    return for_each_image(lambda total: torch.rand(total, generator=generator, device=generator.device), count)
