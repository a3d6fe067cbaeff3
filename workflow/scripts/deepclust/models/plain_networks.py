"""AlexNet and VGG-16 with batch normalisation, and the Sobel filter, as DeepCluster uses them (arXiv 1807.05520)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deepclust.core.errors import DeepclustError

# Channels, kernel, stride and padding of the convolutions; "pool" for a max-pool.
Layer = tuple[int, int, int, int] | str
ALEXNET: tuple[Layer, ...] = (
    (96, 11, 4, 2), "pool", (256, 5, 1, 2), "pool", (384, 3, 1, 1), (384, 3, 1, 1), (256, 3, 1, 1), "pool"
)  # fmt: skip
VGG16: tuple[Layer, ...] = (
    *[(64, 3, 1, 1)] * 2, "pool", *[(128, 3, 1, 1)] * 2, "pool", *[(256, 3, 1, 1)] * 3, "pool",
    *[(512, 3, 1, 1)] * 3, "pool", *[(512, 3, 1, 1)] * 3, "pool",
)  # fmt: skip
# Layers, kernel and stride of the max-pools, side of the last map for images of 224 pixels, whether dropout comes
# before the fully connected layers as well as between them, and the smallest side of images in pixels.
PLAIN = {"alexnet_bn": (ALEXNET, (3, 2), 6, True, 63), "vgg16_bn": (VGG16, (2, 2), 7, False, 32)}
HIDDEN = 4096
DROPOUT = 0.5


class Sobel(nn.Module):
    """Sobel's horizontal and vertical filters of grey values, [B, C, H, W] to [B, 2, H, W]; nothing is learned."""

    kernels: Tensor

    def __init__(self) -> None:
        super().__init__()
        horizontal = torch.tensor([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]])
        kernels = torch.stack([horizontal, horizontal.T]).unsqueeze(1)
        self.register_buffer("kernels", kernels, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Filter the grey values, which are the plain mean of the channels."""
        return F.conv2d(images.mean(1, keepdim=True), self.kernels.to(images.dtype), padding=1)


class SeededDropout(nn.Module):
    """Dropout whose draws are made elsewhere, so that a pass can be repeated.

    Attributes:
        width: number of values per image.
        kept: mask of the values to keep, as 0 and 1, [B, width]; None keeps all values.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.kept: Tensor | None = None

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw the mask `kept` for `count` images, uint8 [count, width] on the generator's device."""
        numbers = torch.rand(count, self.width, generator=generator, device=generator.device)
        return (numbers >= DROPOUT).to(torch.uint8)

    def forward(self, values: Tensor) -> Tensor:
        """Drop values of [B, width]; the kept ones are scaled up so that the expectation stays."""
        return values if self.kept is None or not self.training else values * self.kept / (1 - DROPOUT)


class PlainNetwork(nn.Module):
    """Convolutions (each with batch normalisation and ReLU) and max-pools, then two fully connected layers of 4096.

    Features are the outputs of the second fully connected layer before its ReLU, as DeepCluster clusters them. Adaptive
    average pooling brings images of other sizes than 224 pixels to the same last map; at 224 it does nothing.

    Attributes:
        blocks: the convolutions, each with its batch normalisation and ReLU.
    """

    feature_dim = HIDDEN

    def __init__(self, name: str, first: nn.Module, in_channels: int) -> None:
        """Build the layers.

        Args:
            name: a key of `PLAIN`.
            first: module that images go through before the first convolution.
            in_channels: number of channels that the first convolution takes.
        """
        super().__init__()
        layers, pool, side, dropped_first, self.smallest = PLAIN[name]
        self.first = first
        self.blocks = nn.ModuleList()
        self.pools = nn.ModuleList()
        channels = in_channels
        for layer in layers:
            if isinstance(layer, str):
                self.pools[-1] = nn.MaxPool2d(*pool)
                continue
            width, kernel, stride, padding = layer
            convolution = nn.Conv2d(channels, width, kernel, stride, padding)
            self.blocks.append(nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU()))
            self.pools.append(nn.Identity())
            channels = width
        self.side = side
        inputs = channels * side * side
        before = [SeededDropout(inputs)] if dropped_first else []
        hidden = [nn.Linear(inputs, HIDDEN), nn.ReLU(), SeededDropout(HIDDEN)]
        self.classifier = nn.Sequential(*before, *hidden, nn.Linear(HIDDEN, HIDDEN))
        self.apply(_initialise)

    def forward_features(self, images: Tensor) -> Tensor:
        """Return the features [B, 4096] of images [B, C, H, W].

        Raises:
            DeepclustError: the images are too small for so many poolings.
        """
        if min(images.shape[-2:]) < self.smallest:
            raise DeepclustError(
                f"this network takes images of {self.smallest} pixels or more, not {min(images.shape[-2:])}: "
                "set image_size (224 as published) or choose a ResNet"
            )
        maps = self.first(images)
        for block, pool in zip(self.blocks, self.pools):
            maps = pool(block(maps))
        features: Tensor = self.classifier(F.adaptive_avg_pool2d(maps, self.side).flatten(1))
        return features

    forward = forward_features

    def forward_intermediates(self, images: Tensor, indices: Sequence[int], **_: bool) -> list[Tensor]:
        """Return the maps [B, C, h, w] after the ReLU of some convolutions, as networks of timm do.

        Args:
            indices: numbers of the convolutions, from 0; negative numbers count from the last one.
        """
        wanted = {index % len(self.blocks) for index in indices if -len(self.blocks) <= index < len(self.blocks)}
        assert len(wanted) == len(set(indices)), f"there are {len(self.blocks)} blocks, 0 to {len(self.blocks) - 1}"
        found = []
        maps = self.first(images)
        for number, (block, pool) in enumerate(zip(self.blocks, self.pools)):
            maps = block(maps)
            if number in wanted:
                found.append(maps)
            if len(found) == len(wanted):
                break
            maps = pool(maps)
        return found


def dropouts(network: nn.Module) -> list[SeededDropout]:
    """Return the dropout layers of a network in their order."""
    return [module for module in network.modules() if isinstance(module, SeededDropout)]


def _initialise(module: nn.Module) -> None:
    """Draw weights: as He et al. 2015 for convolutions, normal with deviation 0.01 for fully connected layers."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
    if isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None:
        nn.init.zeros_(module.bias)
