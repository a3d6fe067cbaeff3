"""Clustering of a pretraining method's own, as a file that the clustering head `native` reads.

`native.safetensors` holds a small network from features to one score per cluster: affine layers with ReLU between them,
then the clusters. Batch normalisation is folded into the layers. It has no tensors if a method has no clusters.

Tensors: `projector.{i}.weight` [out, in] and `projector.{i}.bias` [out] for i = 0, 1, ... (may be none);
`clusters.weight` [k, D] and `clusters.bias` [k]. Metadata `deepclust`, as JSON: `normalize`, true if the projector's
outputs are scaled to length 1 before they are compared with the clusters. The softmax of the scores is the probability
of each cluster.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from deepclust.core.errors import DeepclustError
from deepclust.core.files import write_tensors

FILE = "native.safetensors"


@dataclass(frozen=True)
class NativeHead:
    """Network from features [B, D] to one score per cluster."""

    projector: nn.Sequential
    """Linear layers, batch normalisation and ReLU, without ReLU at the end; empty if features are used as they are."""
    weight: Tensor
    """Weight of the clusters, [k, D]."""
    bias: Tensor
    """Bias of the clusters, [k]."""
    normalize: bool
    """True if the projector's outputs are scaled to length 1."""


@torch.no_grad()
def write_native(path: Path, head: NativeHead | None) -> None:
    """Write `native.safetensors`, without tensors if there is no head."""
    tensors: dict[str, Tensor] = {}
    if head is not None:
        for i, (weight, bias) in enumerate(affine_layers(head.projector)):
            tensors |= {f"projector.{i}.weight": weight, f"projector.{i}.bias": bias}
        tensors |= {"clusters.weight": head.weight, "clusters.bias": head.bias}
    arrays = {name: tensor.detach().float().cpu().numpy() for name, tensor in tensors.items()}
    facts = {"normalize": head is not None and head.normalize}
    write_tensors(path, arrays, {"deepclust": json.dumps(facts)})


def read_native(path: Path) -> NativeHead | None:
    """Read the clusters in a `native.safetensors`; return None if it holds none.

    Raises:
        DeepclustError: the file is missing.
    """
    if not path.is_file():
        raise DeepclustError(f"{path} is missing: make the backbone first")
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
        normalize = json.loads(file.metadata()["deepclust"])["normalize"]
    if not tensors:
        return None
    layers: list[nn.Module] = []
    for i in range(sum(name.startswith("projector.") for name in tensors) // 2):
        weight = tensors[f"projector.{i}.weight"]
        layer = nn.Linear(weight.shape[1], len(weight))
        layer.load_state_dict({"weight": weight, "bias": tensors[f"projector.{i}.bias"]})
        layers += [nn.ReLU(), layer] if layers else [layer]
    return NativeHead(nn.Sequential(*layers), tensors["clusters.weight"], tensors["clusters.bias"], normalize)


def affine_layers(network: nn.Sequential) -> list[tuple[Tensor, Tensor]]:
    """Return weight and bias of each linear layer, with the batch normalisation after it (at inference) folded in.

    Both are computed in float64.

    Args:
        network: linear layers, each optionally followed by batch normalisation, with ReLU between them.
    """
    layers: list[tuple[Tensor, Tensor]] = []
    for module in network:
        if isinstance(module, nn.Linear):
            weight = module.weight.double()
            layers.append((weight, weight.new_zeros(len(weight)) if module.bias is None else module.bias.double()))
        elif isinstance(module, nn.BatchNorm1d):
            weight, bias = layers.pop()
            assert module.running_mean is not None and module.running_var is not None
            scale = (module.running_var.double() + module.eps).rsqrt()
            shift = torch.zeros_like(scale)
            if module.affine:
                scale, shift = module.weight.double() * scale, module.bias.double()
            layers.append((weight * scale.unsqueeze(1), (bias - module.running_mean.double()) * scale + shift))
        else:
            assert isinstance(module, nn.ReLU), module
    return layers
