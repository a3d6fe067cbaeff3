"""Backbones that were pretrained with this project, elsewhere: a `model.json` and the `model.safetensors` beside it.

The description says all that is needed, and the weights are copied byte for byte, so the features are those of the
original to the bit.
"""

import shutil
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import torch

from deepclust.backbones.hub import fetch_from_hub
from deepclust.backbones.sources import Source
from deepclust.core.errors import DeepclustError
from deepclust.core.files import atomic_path, sha256_file, write_json
from deepclust.core.progress import Progress
from deepclust.models.description import WEIGHTS, read_description
from deepclust.models.model import load_weights
from deepclust.models.networks import build_network


def fetch_own(
    source: Source, tensors: Path | None, said: dict[str, str], pins: Path, model_json: Path, progress: Progress
) -> dict[str, Any]:
    """Write the backbone that a description describes; return where it came from.

    Args:
        source: the description.
        tensors: the weights; None: they lie beside the description, here or on the hub.
        said: entries for tables instead of the description's own: `dataset`, `supervision`.
        pins: folder that remembers the version of the first use.

    Raises:
        DeepclustError: the weights cannot be had, or the two do not belong together.
    """
    spec = read_description(source.path)
    tensors = tensors or _beside(source, progress)
    if sha256_file(tensors) != spec["sha256"]:
        raise DeepclustError(f"{tensors} is not what {source.weights} describes (sha256): get both again")
    network = build_network(spec["architecture"])
    load_weights(network, tensors)
    if broken := [name for name, tensor in network.state_dict().items() if not torch.isfinite(tensor).all()]:
        raise DeepclustError(f"{source.weights} has NaN or infinite values in {broken[0]}: get other weights")
    source.keep(pins)
    origin = source.origin() | {"origin": spec["origin"]}
    spec |= {"origin": origin, **said}
    if "dataset" in said:
        spec["splits"] = []
    with atomic_path(model_json.with_name(WEIGHTS)) as copy:
        shutil.copyfile(tensors, copy)
    write_json(model_json, spec)
    return origin


def _beside(source: Source, progress: Progress) -> Path:
    """Find the weights beside a description."""
    if source.hub is None:
        return source.path.with_name(WEIGHTS)
    place = replace(source.hub, file=str(PurePosixPath(source.hub.file).with_name(WEIGHTS)))
    return fetch_from_hub(place, progress)[0]
