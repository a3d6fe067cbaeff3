"""Weights that were trained elsewhere: a preset, any network of timm, or a backbone of this project.

They come from the hub, a server or a file.
"""

import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import nn

from deepclust.backbones.checkpoints import Fit, Tensors, fit, read_tensors
from deepclust.backbones.own import fetch_own
from deepclust.backbones.sources import Source, obtain
from deepclust.core.addresses import hub_address
from deepclust.core.errors import DeepclustError, some_of
from deepclust.core.options import Options as BaseOptions
from deepclust.core.progress import Progress
from deepclust.models.description import INTERPOLATIONS, is_description
from deepclust.models.model import Model, save_model
from deepclust.models.networks import build_network, set_image_size

_SHOWN = 5  # tensors that an error names of each kind


# Only these options may stand beside a backbone of this project; its description has the rest.
_BESIDE_OWN = frozenset({"weights", "sha256", "data", "supervision"})


class Options(BaseOptions):
    """Give `preset`, or `model` with whatever else is not timm's own, or `weights` of a backbone of this project.

    An option beside a preset replaces that of the preset.
    """

    preset: str | None = None
    """Name of a backbone whose weights and use are known, see docs/backbones.md."""
    model: str | None = None
    """A network of timm: with a tag that names its weights on the hub (`vit_small_patch16_224.dino`), or without one
    if `weights` are given."""
    arguments: dict[str, Any] = Field({})
    """Arguments of timm's `create_model`. `num_classes` keeps the last, projecting layer."""
    weights: str | None = None
    """Place of the weights: `hf://owner/name[@revision][/file]`, an address (https, http, file), or a path. By default
    those that the model's tag means. For a backbone that was pretrained with this project, give its `model.json`, which
    says all else, with `model.safetensors` beside it. The revision and checksum of the first use hold from then on."""
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    """SHA-256 of the file that `weights` names."""
    prefix: str | None = None
    """Prefix of the network's tensors in the file, e.g. `teacher.backbone`, or "" for its top; by default found by
    their names."""
    image_size: int | None = Field(None, ge=1)
    """Side of the images that the network is used with, in pixels; by default the model's."""
    crop_fraction: float | None = Field(None, gt=0, le=1)
    """Share of a resized image's side that is left when its centre is cropped; by default the model's."""
    interpolation: Literal["bilinear", "bicubic"] | None = None
    """Interpolation when images are resized; by default the model's."""
    mean: Annotated[list[float], Field(min_length=1, max_length=3)] | None = None
    """Mean of each channel of pixels in [0, 1], which is subtracted; by default the model's."""
    std: Annotated[list[float], Field(min_length=1, max_length=3)] | None = None
    """Standard deviation of each channel, by which they are divided; by default the model's."""
    pooling: Literal["class", "avg", "max", "avgmax", "class+avg", "head"] | None = None
    """Pooling of the network's output to one vector, see `features.pooling`; by default that of the model's own head.
    """
    layers: Annotated[list[int], Field(min_length=1)] | None = None
    """Blocks that are read, see `features.layers`; by default the end of the network."""
    data: str | None = None
    """Images that the network saw in training, for tables: ImageNet-1k, LVD-142M …"""
    supervision: Literal["self-supervised", "language-supervised", "supervised"] | None = None
    """Supervision of its training, for tables: nothing but the images, texts, or labels."""


def fetch(
    options: Options, file: Path | None, pins: Path, model_json: Path, progress: Progress, tensors: Path | None = None
) -> dict[str, Any]:
    """Write the backbone that `options` describe; return where its weights came from.

    Args:
        options: with a preset's part filled in.
        file: the file of `weights`, if it is here or was downloaded; None: it is on the hub.
        pins: folder that remembers the version of the first use.
        tensors: the weights of a backbone of this project, if they do not lie beside `file`.

    Raises:
        DeepclustError: the weights cannot be had, are not those of the first use, or do not fit the network.
    """
    if options.weights is not None and is_description(options.weights):
        said = _said_of_own(options)
        source = obtain(options.weights, file, options.sha256, pins, progress)
        return fetch_own(source, tensors, said, pins, model_json, progress)
    if options.model is None:
        raise DeepclustError("name the network that the weights are for (model), or a preset")
    architecture = {"name": "timm", "model": options.model.partition(".")[0], "arguments": options.arguments}
    network = build_network(architecture)
    config = _timm_config(options.model)
    spec = _spec(options, config, architecture)
    spec["feature_dim"] = _feature_dim(network, spec)  # before the download: it may be impossible to use it like that
    weights = options.weights or _hub_address(options, config)
    source = obtain(weights, file, options.sha256, pins, progress)
    fitted = fit(network, read_tensors(source.path), options.prefix, _converter(options.model))
    _explain(fitted, source, options.model)
    broken = [name for name, tensor in fitted.tensors.items() if not torch.isfinite(tensor).all()]
    if broken:
        shown = some_of(broken, _SHOWN)
        raise DeepclustError(f"{source.weights} has NaN or infinite values in {shown}: get other weights")
    network.load_state_dict(fitted.tensors)
    source.keep(pins)
    origin = source.origin() | {"preset": options.preset, "prefix": fitted.prefix, "dropped": fitted.dropped}
    save_model(model_json, network, spec | {"origin": origin})
    return origin


def _said_of_own(options: Options) -> dict[str, str]:
    """Return entries for tables instead of those in the description of a backbone of this project.

    Raises:
        DeepclustError: an option is given that only the description of such a backbone has.
    """
    default = Options()
    for key in sorted(Options.model_fields.keys() - _BESIDE_OWN):
        if getattr(options, key) != getattr(default, key):
            raise DeepclustError(f"{options.weights} says itself how it is used: leave out {key}")
    said = {"dataset": options.data, "supervision": options.supervision}
    return {key: value for key, value in said.items() if value is not None}


def _timm_config(model: str) -> Any:
    """Return timm's configuration of a model's weights and preprocessing."""
    import timm

    try:
        return timm.models.get_pretrained_cfg(model)
    except RuntimeError as error:
        architecture, _, tag = model.partition(".")
        tags = [name.partition(".")[2] for name in timm.list_pretrained(f"{architecture}.*")]
        raise DeepclustError(
            f"timm {timm.__version__} has no weights {tag!r} of {architecture} (it has {some_of(tags, _SHOWN)})"
        ) from error


def _hub_address(options: Options, config: Any) -> str:
    """Return the place on the hub that a model's tag means."""
    if "." not in str(options.model):
        raise DeepclustError(f"{options.model} does not say which weights: add their tag, or give weights")
    if not config.hf_hub_id:
        known = f", e.g. weights: {config.url}" if config.url else ""
        raise DeepclustError(f"timm knows no place on the hub for {options.model}: give weights{known}")
    return hub_address(config.hf_hub_id, config.hf_hub_filename)


def _converter(model: str) -> Callable[[Tensors, nn.Module], Tensors] | None:
    """Return timm's function that turns the weights of other codes into those of this kind of network."""
    import timm

    module = sys.modules[timm.model_entrypoint(model.partition(".")[0]).__module__]
    return getattr(module, "checkpoint_filter_fn", None)


def _explain(fitted: Fit, source: Source, model: str) -> None:
    if fitted.problems:
        found = "; ".join(f"{what}: {some_of(names, _SHOWN)}" for what, names in fitted.problems.items())
        where = f" below {fitted.prefix}" if fitted.prefix else ""
        raise DeepclustError(f"{source.weights} does not fit {model}{where}; tensors {found}")
    print(f"{source.weights}: {len(fitted.tensors)} tensors below {fitted.prefix or 'the top'}", flush=True)
    if fitted.dropped:
        print(f"left out: {', '.join(fitted.dropped)}", flush=True)


def _spec(options: Options, config: Any, architecture: dict[str, Any]) -> dict[str, Any]:
    interpolation = options.interpolation or config.interpolation
    if interpolation not in INTERPOLATIONS:
        known = " or ".join(INTERPOLATIONS)
        raise DeepclustError(
            f"{options.model} is meant for {interpolation} interpolation: choose {known} (interpolation)"
        )
    return {
        "architecture": architecture,
        "image_size": options.image_size or options.arguments.get("img_size") or config.input_size[-1],
        "interpolation": interpolation,
        "mean": options.mean or list(config.mean),
        "std": options.std or list(config.std),
        "crop_fraction": options.crop_fraction or config.crop_pct,
        "pooling": options.pooling or "head",
        "layers": options.layers,
        "method": "pretrained",
        "dataset": options.data,
        "supervision": options.supervision,
        "splits": [],
        "epochs": None,
        "start_from": None,
    }


@torch.inference_mode()
def _feature_dim(network: nn.Module, spec: dict[str, Any]) -> int:
    """Return the length of its features, found by using it as it will be used."""
    used = deepcopy(network).eval()
    set_image_size(used, spec["image_size"])
    image = torch.zeros(1, 3, spec["image_size"], spec["image_size"], dtype=torch.uint8)
    model = Model(used, spec)
    return model.features(model.preprocess(image)).shape[1]
