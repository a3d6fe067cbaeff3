"""The clustering that a pretraining method has of its own, as a file that the clustering head `native` reads.

`native.safetensors` holds a small network from features to one score per cluster: affine layers with ReLU between them,
then the clusters. Batch normalisation is folded into the layers. It has no tensors where a method has no clusters.

Tensors: `projector.{i}.weight` [out, in] and `projector.{i}.bias` [out] for i = 0, 1, ... (may be none);
`clusters.weight` [k, D] and `clusters.bias` [k]. Metadata `deepclust`, as JSON: `normalize`, whether what the clusters
are compared with is first scaled to length 1. The softmax of the scores is the probability of each cluster.
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
    """A network from features [B, D] to one score per cluster."""

    projector: nn.Sequential
    """Linear layers, batch normalisation and ReLU; ends without ReLU. Empty: the features themselves."""
    weight: Tensor
    """[k, D]."""
    bias: Tensor
    """[k]."""
    normalize: bool
    """Whether the projector's outputs are scaled to length 1."""


@torch.no_grad()
def write_native(path: Path, head: NativeHead | None) -> None:
    """Write `native.safetensors`."""
    tensors: dict[str, Tensor] = {}
    if head is not None:
        for i, (weight, bias) in enumerate(affine_layers(head.projector)):
            tensors |= {f"projector.{i}.weight": weight, f"projector.{i}.bias": bias}
        tensors |= {"clusters.weight": head.weight, "clusters.bias": head.bias}
    arrays = {name: tensor.detach().float().cpu().numpy() for name, tensor in tensors.items()}
    facts = {"normalize": head is not None and head.normalize}
    write_tensors(path, arrays, {"deepclust": json.dumps(facts)})


def read_native(path: Path) -> NativeHead | None:
    """The clusters in a `native.safetensors`; None if it holds none.

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
    """Weight and bias of each linear layer, with the batch normalisation after it (at inference) folded in.

    Computed in float64.

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
