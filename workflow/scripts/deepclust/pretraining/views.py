"""What all ways of drawing views of images have in common."""

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

    def normalized(self, views: Tensor) -> Tensor:
        """Views [B, C, H, W] in [0, 1] as a network takes them, channels last."""
        return ((views - self.mean) / self.std).contiguous(memory_format=torch.channels_last)


def random_numbers(count: int, generator: torch.Generator) -> Tensor:
    """One for each image, float32 [count] in [0, 1), on the generator's device."""
    return torch.rand(count, generator=generator, device=generator.device)
