"""Pooling of a network's outputs to one vector per image."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from deepclust.core.errors import DeepclustError
from deepclust.models.description import POOLINGS


def read_out(network: nn.Module, images: Tensor, pooling: str, layers: Sequence[int] | None) -> Tensor:
    """Return the features of prepared images, float32 [n, D].

    Args:
        network: see `deepclust.models.networks.build_network`.
        images: float [n, C, H, W].
        pooling: see `pool`.
        layers: blocks whose outputs are read (in a ResNet 0 is the stem, then come its stages). The outputs pass the
            network's last normalisation, are pooled and then concatenated in the order of the network. Negative
            numbers count from the last block. None reads the last output alone.

    Raises:
        DeepclustError: the network has no such blocks, or cannot be pooled in this way.
    """
    if layers is None:
        return pool(network.forward_features(images), pooling, network)  # type: ignore[operator]
    if pooling == "head":
        raise DeepclustError("a network's own head reads its last block only: with layers, choose another pooling")
    return torch.cat([pool(output, pooling, network) for output in _outputs(network, images, layers)], dim=1)


def _outputs(network: nn.Module, images: Tensor, layers: Sequence[int]) -> list[Tensor]:
    """Return the outputs of some blocks: maps [n, D, h, w] or tokens [n, T, D]."""
    if not hasattr(network, "forward_intermediates"):
        raise DeepclustError("this network has no blocks to choose layers from")
    options: dict[str, Any] = {"intermediates_only": True, "stop_early": True}
    if hasattr(network, "num_prefix_tokens"):
        options |= {"output_fmt": "NLC", "return_prefix_tokens": True, "norm": True}
    try:
        outputs = network.forward_intermediates(images, indices=list(layers), **options)  # type: ignore[operator]
    except AssertionError as error:
        raise DeepclustError(f"layers {list(layers)}: {error}") from error
    if len(outputs) < len(layers):
        raise DeepclustError(f"layers {list(layers)} name a block twice")
    # timm returns tokens as a pair: the tokens of the patches, then the others.
    return [torch.cat([output[1], output[0]], dim=1) if isinstance(output, tuple) else output for output in outputs]


def pool(features: Tensor | Sequence[Tensor], pooling: str, network: nn.Module) -> Tensor:
    """Pool the output of `network.forward_features` to float32 [n, D], or [n, 2 D] for `class+avg`.

    Args:
        features: maps [n, D, h, w] (or [n, h, w, D] if the network's `output_fmt` says so), tokens [n, T, D], of which
            the first `num_prefix_tokens` belong to no patch, or vectors [n, D], which stay as they are. Several maps,
            such as those of CrossViT, can only be pooled by the network's own head.
        pooling: `avg`, `max` or `avgmax` (the mean of both) over the positions of a map or over the tokens of the
            patches; `class`, the class token; `class+avg`, both concatenated; `head`, the output of the network's own
            head, such as attention pooling or a projection.

    Raises:
        DeepclustError: the pooling is unknown, or it needs something that the network does not return.
    """
    if pooling not in POOLINGS:
        raise DeepclustError(f"unknown pooling {pooling!r}: choose from {', '.join(POOLINGS)}")
    if isinstance(features, Tensor) and features.ndim == 2:
        return features.float()
    if pooling == "head":
        vectors: Tensor = network.forward_head(features)  # type: ignore[operator]
        return vectors.float()
    if not isinstance(features, Tensor):
        raise DeepclustError(f"{_name(network)} gives several maps, which only its own head joins: set pooling: head")
    if pooling == "class":
        return _class_token(features, network)
    positions = _positions(features, network).float()
    if pooling == "max":
        return positions.amax(1)
    average = positions.mean(1)
    if pooling == "avgmax":
        return (average + positions.amax(1)) / 2
    return average if pooling == "avg" else torch.cat([_class_token(features, network), average], dim=1)


def _class_token(features: Tensor, network: nn.Module) -> Tensor:
    if features.ndim != 3 or getattr(network, "cls_token", None) is None:
        others = ", ".join(pooling for pooling in POOLINGS if "class" not in pooling)
        raise DeepclustError(f"this network has no class token: choose another pooling ({others})")
    return features[:, 0].float()


def _positions(features: Tensor, network: nn.Module) -> Tensor:
    """Return the vectors of the positions of a map, or of the patches, [n, positions, D]."""
    if features.ndim == 3:
        patches = features[:, _prefix_tokens(network) :]
        if not patches.shape[1]:
            raise DeepclustError(f"{_name(network)} gives no tokens of patches: choose the pooling class or head")
        return patches
    if getattr(network, "output_fmt", "NCHW") == "NHWC":
        return features.flatten(1, 2)
    return features.flatten(2).transpose(1, 2)


def _prefix_tokens(network: Any) -> int:
    """Return the number of tokens before those of the patches."""
    if hasattr(network, "num_prefix_tokens"):
        return int(network.num_prefix_tokens)
    # VOLO and PiT have no `num_prefix_tokens`, only class tokens [1, n, D].
    class_tokens: Tensor | None = getattr(network, "cls_token", None)
    return 0 if class_tokens is None else class_tokens.shape[1]


def _name(network: Any) -> str:
    """Return timm's name of a network."""
    return str(network.default_cfg["architecture"]) if hasattr(network, "default_cfg") else "this network"
