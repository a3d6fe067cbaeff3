"""Backbones: networks built from a description, and a trained one as two files.

`model.safetensors` holds the weights. `model.json` beside it says how to rebuild the network, how to prepare its images
and where it came from (`deepclust.models.description`).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deepclust.core.errors import DeepclustError, some_of
from deepclust.core.files import sha256_file, write_json, write_tensors
from deepclust.models.description import SPEC_KEYS, WEIGHTS, read_description
from deepclust.models.networks import build_network, in_channels, set_image_size
from deepclust.models.pooling import read_out
from deepclust.models.preprocessing import match_channels, resize_and_crop


class Model:
    """A trained backbone.

    Attributes:
        spec: content of `model.json` (see `SPEC_KEYS`) with the changes that `load` was asked for.
        network: see `build_network`; `load` puts it into evaluation mode.
    """

    def __init__(self, network: nn.Module, spec: dict[str, Any]) -> None:
        self.network = network
        self.spec = spec

    @classmethod
    def load(
        cls,
        model_json: Path,
        device: torch.device,
        *,
        image_size: int | None = None,
        crop_fraction: float | None = None,
        pooling: str | None = None,
        layers: Sequence[int] | None = None,
    ) -> "Model":
        """Load a backbone for inference.

        The backbone's own setting holds for every option that is None.

        Args:
            image_size: side of the images it will see, in pixels; a position embedding is resampled to it, once.
            crop_fraction: share of a resized image's side that is left when its centre is cropped.
            pooling: one of `deepclust.models.description.POOLINGS`.
            layers: blocks whose outputs are read; negative numbers count from the last one.

        Raises:
            DeepclustError: a file is missing or damaged, the weights do not fit the architecture, or the network cannot
                be used in the way that is asked for.
        """
        model_json = Path(model_json)
        spec = _read_spec(model_json)
        wanted = {"image_size": image_size, "crop_fraction": crop_fraction, "pooling": pooling, "layers": layers}
        spec |= {key: value for key, value in wanted.items() if value is not None}
        network = build_network(spec["architecture"])
        load_weights(network, model_json.with_name(WEIGHTS))
        if spec["image_size"] is not None:
            set_image_size(network, spec["image_size"])
        network.to(device).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        return cls(network, spec)

    @torch.no_grad()
    def preprocess(self, images: Tensor, *, cropped: bool = False, corners: bool = False) -> Tensor:
        """Prepare images for the network: size, channels, range, normalisation.

        Args:
            images: uint8 [n, C, H, W] with C 1 or 3, on the device.
            cropped: whether they have been resized and cropped before.
            corners: whether to crop the four corners as well.

        Returns:
            float32 [n, C', S, S] (or [n, C', H, W] for a backbone that takes images as they are), channels last; with
            `corners` [n * 5, C', S, S], the crops of an image one after the other.
        """
        if self.spec["image_size"] is not None and not cropped:
            size, interpolation, crop = (self.spec[key] for key in ("image_size", "interpolation", "crop_fraction"))
            images = resize_and_crop(images, size, interpolation, crop, corners=corners)
        images = images.flatten(0, -4)
        prepared = match_channels(images.float(), in_channels(self.spec["architecture"])) / 255
        if self.spec["mean"] is not None:
            mean, std = (prepared.new_tensor(self.spec[key]).view(1, -1, 1, 1) for key in ("mean", "std"))
            prepared = (prepared - mean) / std
        return prepared.contiguous(memory_format=torch.channels_last)

    def features(self, images: Tensor) -> Tensor:
        """Return the features of prepared images.

        Call it under `torch.inference_mode()`, and for bf16 under autocast too.

        Args:
            images: float [n, C, H, W] from `preprocess`.

        Returns:
            float32 [n, D].
        """
        return read_out(self.network, images, self.spec["pooling"], self.spec["layers"])


def _read_spec(model_json: Path) -> dict[str, Any]:
    """Return a backbone's description after checking that the weights are those it describes."""
    weights = model_json.with_name(WEIGHTS)
    for path in (model_json, weights):
        if not path.is_file():
            raise DeepclustError(f"{path} is missing: make the backbone first")
    spec = read_description(model_json)
    if sha256_file(weights) != spec["sha256"]:
        raise DeepclustError(
            f"{weights} is not the file that {model_json.name} describes (sha256): delete both and make them again"
        )
    return spec


def load_weights(network: nn.Module, path: Path) -> None:
    """Load the tensors of a .safetensors file into `network`.

    Raises:
        DeepclustError: the file is damaged, or its tensors do not fit the network.
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
    found = [f"{what}: {some_of(names, 3)}" for what, names in problems.items() if names]
    if found:
        raise DeepclustError(f"{path} does not fit its architecture; tensors {'; '.join(found)}")
    network.load_state_dict(tensors)


def save_model(model_json: Path, network: nn.Module, spec: dict[str, Any]) -> None:
    """Write `model.safetensors`, then `model.json`, each atomically.

    Args:
        spec: every key of `SPEC_KEYS` except `sha256`.
    """
    model_json = Path(model_json)
    weights = model_json.with_name(WEIGHTS)
    tensors = {name: tensor.detach().cpu().numpy() for name, tensor in network.state_dict().items()}
    write_tensors(weights, tensors, metadata={"format": "pt"})
    complete = spec | {"sha256": sha256_file(weights)}
    write_json(model_json, {key: complete[key] for key in SPEC_KEYS})
