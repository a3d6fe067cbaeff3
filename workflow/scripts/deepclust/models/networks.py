"""Networks with fresh weights, built from a description."""

from typing import Any, cast

import numpy as np
from torch import Tensor, nn

from deepclust.core.errors import DeepclustError
from deepclust.models.plain_networks import PLAIN, PlainNetwork, Sobel

# Blocks per stage, channels per stage, bottleneck blocks or basic ones (He et al. 2016).
RESNETS: dict[str, tuple[tuple[int, ...], tuple[int, ...], bool]] = {
    "resnet10_w32": ((1, 1, 1, 1), (32, 64, 128, 256), False),
    "resnet18": ((2, 2, 2, 2), (64, 128, 256, 512), False),
    "resnet34": ((3, 4, 6, 3), (64, 128, 256, 512), False),
    "resnet50": ((3, 4, 6, 3), (64, 128, 256, 512), True),
}
STEMS = ("cifar", "stl", "imagenet")


def architectures() -> list[str]:
    """Return the names that `build_network` knows."""
    return ["pixels", *RESNETS, *PLAIN, "timm"]


def build_network(architecture: dict[str, Any]) -> nn.Module:
    """Build a network with fresh weights, drawn from torch's global generator.

    It maps normalised images, float [B, C, H, W], to features [B, D], pooled as the network's own head does it. Its
    `feature_dim` is D, or None if D depends on the images. Its `forward_features` returns the values before pooling
    (see `deepclust.models.pooling.pool`).

    Args:
        architecture: `name` (one of `architectures()`) and, for ResNets, `in_channels` (1 or 3) and `stem`: `cifar`
            (3x3, stride 1), `stl` (the same with a 2x2 max-pool) or `imagenet` (7x7, stride 2, with a 3x3 max-pool).
            AlexNet and VGG have one stem only. With `sobel: true` these networks see the edges of the grey image
            instead of its colours. `timm` takes a `model` of that library and the `arguments` to create it with
            (`num_classes` is 0 unless given).

    Raises:
        DeepclustError: the description is unknown or incomplete.
    """
    name = architecture.get("name")
    if name not in architectures():
        raise DeepclustError(f"unknown architecture {name!r}: choose from {', '.join(architectures())}")
    expected = {"pixels": {"name"}, "timm": {"name", "model", "arguments"}}.get(name, {"name", "stem", "in_channels"})
    if set(architecture) - {"sobel"} != expected or ("sobel" in architecture and "stem" not in expected):
        raise DeepclustError(
            f"architecture {name} takes {', '.join(sorted(expected))}, got {', '.join(sorted(architecture))}"
        )
    if name == "pixels":
        return Pixels()
    if name == "timm":
        return _build_timm(architecture["model"], architecture["arguments"])
    sobel = architecture.get("sobel", False)
    channels = 2 if sobel else architecture["in_channels"]
    if name in PLAIN:
        return PlainNetwork(name, Sobel() if sobel else nn.Identity(), channels)
    resnet = _build_resnet(name, architecture["stem"], channels)
    if sobel:
        resnet.conv1 = nn.Sequential(Sobel(), resnet.conv1)
    return cast(nn.Module, resnet)


class Pixels(nn.Module):
    """The image itself as features, [B, C*H*W]."""

    feature_dim = None

    def forward_features(self, images: Tensor) -> Tensor:
        """Flatten images [B, C, H, W] to [B, C*H*W]."""
        return images.flatten(1)

    forward = forward_features


def _build_resnet(name: str, stem: str, in_channels: int) -> Any:
    from deepclust.models.torchvision_ops import declare_missing_operators

    declare_missing_operators()
    from timm.models.resnet import BasicBlock, Bottleneck, ResNet

    blocks, channels, bottleneck = RESNETS[name]
    block: Any = Bottleneck if bottleneck else BasicBlock
    # With a "deep" stem timm lets the first stage's width be chosen; the stem itself is replaced below.
    network: Any = ResNet(
        block,
        blocks,
        num_classes=0,
        in_chans=in_channels,
        channels=channels,
        stem_type="deep",
        stem_width=channels[0] // 2,
        zero_init_last=False,
    )
    if stem == "imagenet":
        network.conv1 = nn.Conv2d(in_channels, channels[0], 7, stride=2, padding=3, bias=False)
    elif stem in STEMS:
        network.conv1 = nn.Conv2d(in_channels, channels[0], 3, stride=1, padding=1, bias=False)
        network.maxpool = nn.MaxPool2d(2, stride=2, padding=1) if stem == "stl" else nn.Identity()
    else:
        raise DeepclustError(f"unknown stem {stem!r}: choose from {', '.join(STEMS)}")
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    network.feature_dim = channels[-1] * (4 if bottleneck else 1)
    return network


def _build_timm(model: str, arguments: dict[str, Any]) -> nn.Module:
    from deepclust.models.torchvision_ops import declare_missing_operators

    declare_missing_operators()
    import timm

    if not timm.is_model(model):
        close = timm.list_models(f"*{model.split('_')[0]}*")[:5]
        hint = f" (it has {', '.join(close)} …)" if close else ""
        raise DeepclustError(f"timm {timm.__version__} has no model {model!r}{hint}")
    try:
        network: Any = timm.create_model(model, pretrained=False, **{"num_classes": 0, **arguments})
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise DeepclustError(f"timm cannot make {model} with arguments {arguments}: {error}") from error
    network.feature_dim = network.num_classes or network.head_hidden_size
    return cast(nn.Module, network)


def in_channels(architecture: dict[str, Any]) -> int | None:
    """Return the number of channels of the images that a network takes; None for any number."""
    if architecture["name"] == "timm":
        return int(architecture["arguments"].get("in_chans", 3))
    return architecture.get("in_channels")


def set_image_size(network: nn.Module, side: int) -> None:
    """Make a network take images of `side` × `side` pixels; a position embedding is resampled.

    Raises:
        DeepclustError: the network takes images of one size only, or its patches or windows do not fill such images.
    """
    resizable: Any = network
    if not hasattr(network, "set_input_size"):
        config = getattr(resizable, "default_cfg", None) or {}
        if config.get("fixed_input_size") and side != config["input_size"][-1]:
            raise DeepclustError(f"this network takes images of {config['input_size'][-1]} pixels only, not {side}")
        return  # convolutions take images of any size
    patches = getattr(resizable, "patch_embed", None)
    if (getattr(patches, "img_size", None) or resizable.img_size) in (side, (side, side)):
        return
    # MaxViT and CoAtNet have stages instead of patches. A position of the last stage is this many pixels wide.
    part = resizable.partition_ratio if patches is None else np.max(patches.patch_size)
    if side % part:
        fitting = f"{side // part * part or part} or {(side // part + 1) * part}"
        raise DeepclustError(f"an image_size of {side} is no multiple of this network's {part} pixels: try {fitting}")
    resizable.set_input_size(img_size=(side, side))
