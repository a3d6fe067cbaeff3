"""Backbones: networks built from a description, and a trained one as two files.

`model.safetensors` holds the weights; `model.json` beside it says how to rebuild the network, how its images are
prepared and where it came from.
"""

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deepclust.common.errors import DeepclustError
from deepclust.common.files import read_json, sha256_file, write_json, write_tensors

WEIGHTS = "model.safetensors"

SPEC_KEYS = (
    "architecture",  # see `build_network`
    "image_size",  # side of the square images in pixels; None: the images as they are
    "interpolation",  # bilinear or bicubic
    "mean",  # per channel, of pixels scaled to [0, 1]; None: not normalised
    "std",
    "feature_dim",  # None where it depends on the images
    "method",  # how it was trained; None: it was not
    "dataset",  # what it was trained on
    "splits",
    "epochs",
    "start_from",  # the backbone it started from
    "sha256",  # of the weights; `save_model` fills it in
)

# Blocks per stage, channels per stage, bottleneck blocks or basic ones (He et al. 2016).
RESNETS: dict[str, tuple[tuple[int, ...], tuple[int, ...], bool]] = {
    "resnet10_w32": ((1, 1, 1, 1), (32, 64, 128, 256), False),
    "resnet18": ((2, 2, 2, 2), (64, 128, 256, 512), False),
    "resnet34": ((3, 4, 6, 3), (64, 128, 256, 512), False),
    "resnet50": ((3, 4, 6, 3), (64, 128, 256, 512), True),
}
STEMS = ("cifar", "stl", "imagenet")
POOLINGS = ("avg", "max", "avgmax")


def architectures() -> list[str]:
    """Names that `build_network` knows."""
    return ["pixels", *RESNETS]


def build_network(architecture: dict[str, Any]) -> nn.Module:
    """A network with fresh weights, drawn from torch's global generator.

    It maps normalised images, float [B, C, H, W], to features [B, D] (average-pooled); `feature_dim` is D, or None
    where it depends on the images. `forward_features` gives what is there before pooling.

    Args:
        architecture: `name` (one of `architectures()`) and, for ResNets, `in_channels` (1 or 3) and `stem`: `cifar`
            (3x3, stride 1), `stl` (the same with a 2x2 max-pool) or `imagenet` (7x7, stride 2, with a 3x3 max-pool).

    Raises:
        DeepclustError: the description is unknown or incomplete.
    """
    name = architecture.get("name")
    expected = {"name"} if name == "pixels" else {"name", "stem", "in_channels"}
    if name not in architectures():
        raise DeepclustError(f"unknown architecture {name!r}: choose from {', '.join(architectures())}")
    if set(architecture) != expected:
        raise DeepclustError(
            f"architecture {name} takes {', '.join(sorted(expected))}, got {', '.join(sorted(architecture))}"
        )
    if name == "pixels":
        return Pixels()
    return _build_resnet(name, architecture["stem"], architecture["in_channels"])


class Pixels(nn.Module):
    """The image itself as features, [B, C*H*W]."""

    feature_dim = None

    def forward_features(self, images: Tensor) -> Tensor:
        """Images [B, C, H, W] → [B, C*H*W]."""
        return images.flatten(1)

    forward = forward_features


def _build_resnet(name: str, stem: str, in_channels: int) -> nn.Module:
    from deepclust.common.torchvision_ops import declare_missing_operators

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
    return cast(nn.Module, network)


class Model:
    """A trained backbone.

    Attributes:
        spec: content of `model.json`, see `SPEC_KEYS`.
        network: see `build_network`; in evaluation mode when it was loaded.
        feature_dim: D, or None where it depends on the images.
    """

    def __init__(self, network: nn.Module, spec: dict[str, Any]) -> None:
        self.network = network
        self.spec = spec
        self.feature_dim: int | None = spec["feature_dim"]

    @classmethod
    def load(cls, model_json: Path, device: torch.device) -> "Model":
        """Load a backbone for inference.

        Raises:
            DeepclustError: a file is missing or damaged, or the weights do not fit the architecture.
        """
        model_json = Path(model_json)
        weights = model_json.with_name(WEIGHTS)
        for path in (model_json, weights):
            if not path.is_file():
                raise DeepclustError(f"{path} is missing: make the backbone first")
        spec = read_json(model_json)
        absent = [key for key in SPEC_KEYS if not isinstance(spec, dict) or key not in spec]
        if absent:
            raise DeepclustError(f"{model_json} lacks {', '.join(absent)}: it is not a backbone's description")
        if sha256_file(weights) != spec["sha256"]:
            raise DeepclustError(
                f"{weights} is not the file that {model_json.name} describes (sha256): delete both and make them again"
            )
        network = build_network(spec["architecture"])
        load_weights(network, weights)
        network.to(device).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        return cls(network, spec)

    @torch.no_grad()
    def preprocess(self, images: Tensor, image_size: int | None = None) -> Tensor:
        """Prepare images for the network: size, channels, range, normalisation.

        Args:
            images: uint8 [n, C, H, W] with C 1 or 3, on the device.
            image_size: side of the prepared images in pixels; None: the backbone's own.

        Returns:
            float32 [n, C', S, S] (or [n, C', H, W] for a backbone that takes images as they are), channels last.
        """
        size = image_size or self.spec["image_size"]
        prepared = images.float()
        if size is not None:
            prepared = resize_and_crop(prepared, size, self.spec["interpolation"])
        prepared = match_channels(prepared, self.spec["architecture"].get("in_channels")) / 255
        if self.spec["mean"] is not None:
            mean, std = (prepared.new_tensor(self.spec[key]).view(1, -1, 1, 1) for key in ("mean", "std"))
            prepared = (prepared - mean) / std
        return prepared.contiguous(memory_format=torch.channels_last)

    def features(self, images: Tensor, pooling: str) -> Tensor:
        """Features of prepared images; call it under `torch.inference_mode()`, and under autocast for bf16.

        Args:
            images: float [n, C, H, W] from `preprocess`.
            pooling: see `pool`.

        Returns:
            float32 [n, D].
        """
        return pool(self.network.forward_features(images), pooling)  # type: ignore[operator]


def pool(features: Tensor, pooling: str) -> Tensor:
    """One vector per image from what a network gives before pooling: float32 [n, D].

    Args:
        features: maps [n, D, h, w], or vectors [n, D], which stay as they are.
        pooling: over the positions of maps: `avg`, `max`, or `avgmax` (the mean of both).

    Raises:
        DeepclustError: the pooling is unknown.
    """
    if pooling not in POOLINGS:
        raise DeepclustError(f"unknown pooling {pooling!r}: choose from {', '.join(POOLINGS)}")
    features = features.float()
    if features.ndim == 2:
        return features
    average, maximum = features.mean((2, 3)), features.amax((2, 3))
    return {"avg": average, "max": maximum, "avgmax": (average + maximum) / 2}[pooling]


def resize_and_crop(images: Tensor, size: int, interpolation: str) -> Tensor:
    """Bring the shorter side to `size` pixels (antialiased), then crop the centre.

    Float [n, C, H, W] → [n, C, size, size]. Values stay within [0, 255], which bicubic interpolation alone would leave.
    """
    height, width = images.shape[-2:]
    shorter = min(height, width)
    if shorter != size:
        shape = (size * height // shorter, size * width // shorter)
        images = F.interpolate(images, shape, mode=interpolation, antialias=True, align_corners=False).clamp(0, 255)
    top, left = ((side - size) // 2 for side in images.shape[-2:])
    return images[..., top : top + size, left : left + size]


def match_channels(images: Tensor, channels: int | None) -> Tensor:
    """Images with as many channels as a network takes: grey is repeated, colour becomes luma (ITU-R BT.601)."""
    if channels is None or images.shape[1] == channels:
        return images
    if channels == 3:
        return images.expand(-1, 3, -1, -1)
    weights = images.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    return (images * weights).sum(1, keepdim=True)


def load_weights(network: nn.Module, path: Path) -> None:
    """Load the tensors of a .safetensors file into `network`.

    Raises:
        DeepclustError: the file is damaged, or its tensors are not those of the network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise DeepclustError(f"{path} is damaged ({error}): delete it and make it again") from error
    expected = network.state_dict()
    problems = {
        "missing": sorted(expected.keys() - tensors.keys()),
        "unexpected": sorted(tensors.keys() - expected.keys()),
        "of another shape": sorted(
            k for k in expected.keys() & tensors.keys() if expected[k].shape != tensors[k].shape
        ),
    }
    found = [f"{what}: {_some(names)}" for what, names in problems.items() if names]
    if found:
        raise DeepclustError(f"{path} does not fit its architecture; tensors {'; '.join(found)}")
    network.load_state_dict(tensors)


def _some(names: list[str], limit: int = 3) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def save_model(model_json: Path, network: nn.Module, spec: dict[str, Any]) -> None:
    """Write `model.safetensors`, then `model.json`, each atomically.

    Args:
        spec: every key of `SPEC_KEYS` but `sha256`.
    """
    model_json = Path(model_json)
    weights = model_json.with_name(WEIGHTS)
    tensors = {name: tensor.detach().cpu().numpy() for name, tensor in network.state_dict().items()}
    write_tensors(weights, tensors, metadata={"format": "pt"})
    complete = spec | {"sha256": sha256_file(weights)}
    write_json(model_json, {key: complete[key] for key in SPEC_KEYS})
