"""Weights that others trained: a preset, or any network of timm with weights from the hub, a server or a file."""

import sys
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import nn

from deepclust.backbones.addresses import HubFile, hub_file
from deepclust.backbones.checkpoints import Fit, Tensors, fit, read_tensors
from deepclust.backbones.hub import RevisionError, fetch_from_hub
from deepclust.backbones.pins import Pin, check_pin, keep_pin, pin_path, read_pin
from deepclust.common.errors import DeepclustError
from deepclust.common.files import sha256_file
from deepclust.common.models import Model, save_model
from deepclust.common.networks import build_network, set_image_size
from deepclust.common.options import Options as BaseOptions
from deepclust.common.progress import Progress

INTERPOLATIONS = ("bilinear", "bicubic")
_SHOWN = 5  # tensors that an error names of each kind


class Options(BaseOptions):
    """Give `preset`, or `model` with whatever else is not timm's own. What stands beside a preset replaces its part."""

    preset: str | None = None
    """Name of a backbone whose weights and use are known, see docs/backbones.md."""
    model: str | None = None
    """A network of timm: with a tag that names its weights on the hub (`vit_small_patch16_224.dino`), or without one
    where `weights` are given."""
    arguments: dict[str, Any] = Field({})
    """Arguments of timm's `create_model`. `num_classes` keeps the last, projecting layer."""
    weights: str | None = None
    """Where the weights are: `hf://owner/name[@revision][/file]`, an address (https, http, file), or a path. By default
    what the model's tag means. The revision and checksum of the first use hold from then on."""
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    """SHA-256 of the file of weights."""
    prefix: str | None = None
    """Where the network's tensors stand in the file, e.g. `teacher.backbone`, or "" for its top; by default found by
    their names."""
    image_size: int | None = Field(None, ge=1)
    """Side of the images that the network is used with, in pixels; by default the model's."""
    crop_fraction: float | None = Field(None, gt=0, le=1)
    """How much of a resized image's side is left when its centre is cropped; by default the model's."""
    interpolation: Literal["bilinear", "bicubic"] | None = None
    """How images are resized; by default the model's."""
    mean: Annotated[list[float], Field(min_length=1, max_length=3)] | None = None
    """Mean of each channel of pixels in [0, 1], which is subtracted; by default the model's."""
    std: Annotated[list[float], Field(min_length=1, max_length=3)] | None = None
    """Standard deviation of each channel, by which they are divided; by default the model's."""
    pooling: Literal["class", "avg", "max", "avgmax", "class+avg", "head"] | None = None
    """How one vector is made of what the network gives, see `features.pooling`; by default by the model's own head."""
    layers: Annotated[list[int], Field(min_length=1)] | None = None
    """Blocks that are read, see `features.layers`; by default the end of the network."""
    data: str | None = None
    """What the network saw in training, for tables: ImageNet-1k, LVD-142M …"""
    supervision: Literal["self-supervised", "language-supervised", "supervised"] | None = None
    """What told it what is alike, for tables: nothing but the images, texts, or labels."""


@dataclass(frozen=True)
class Source:
    """A file of weights that is here.

    Attributes:
        path: where it is.
        weights: where it came from: an address or a path.
        hub: its place on the hub with the commit, None elsewhere.
    """

    path: Path
    weights: str
    hub: HubFile | None = None


def fetch(options: Options, file: Path | None, pins: Path, model_json: Path, progress: Progress) -> dict[str, Any]:
    """Write the backbone that `options` describe; return where its weights came from.

    Args:
        options: with a preset's part filled in.
        file: the weights, where they are a file here or were downloaded; None: they are on the hub.
        pins: folder that remembers the version of the first use.

    Raises:
        DeepclustError: the weights cannot be had, are not those of the first use, or do not fit the network.
    """
    if options.model is None:
        raise DeepclustError("name the network that the weights are for (model), or a preset")
    architecture = {"name": "timm", "model": options.model.partition(".")[0], "arguments": options.arguments}
    network = build_network(architecture)
    config = _timm_config(options.model)
    spec = _spec(options, config, architecture)
    spec["feature_dim"] = _feature_dim(network, spec)  # before the download: it may be impossible to use it like that
    source = _source(options, config, file, pins, progress)
    sha256 = sha256_file(source.path)
    if options.sha256 not in (None, sha256):
        raise DeepclustError(f"{source.weights} has SHA-256 {sha256}, but {options.sha256} is asked for (sha256)")
    pin = Pin(source.weights, source.hub.revision if source.hub else None, sha256) if "://" in source.weights else None
    if pin:
        check_pin(pins, pin)

    fitted = fit(network, read_tensors(source.path), options.prefix, _converter(options.model))
    _explain(fitted, source, options.model)
    broken = [name for name, tensor in fitted.tensors.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise DeepclustError(f"{source.weights} has NaN or infinite values in {_some(broken)}: get other weights")
    network.load_state_dict(fitted.tensors)
    if pin:  # not before: a server's error page must not become what later downloads are held against
        keep_pin(pins, pin)

    origin = {
        "preset": options.preset,
        "weights": source.weights,
        "repository": source.hub.repository if source.hub else None,
        "revision": source.hub.revision if source.hub else None,
        "sha256": sha256,
        "prefix": fitted.prefix,
        "dropped": fitted.dropped,
    }
    save_model(model_json, network, spec | {"origin": origin})
    return origin


def _timm_config(model: str) -> Any:
    """What timm says about a model's weights and preprocessing."""
    import timm

    try:
        return timm.models.get_pretrained_cfg(model)
    except RuntimeError as error:
        architecture, _, tag = model.partition(".")
        tags = [name.partition(".")[2] for name in timm.list_pretrained(f"{architecture}.*")]
        raise DeepclustError(
            f"timm {timm.__version__} has no weights {tag!r} of {architecture} (it has {_some(tags)})"
        ) from error


def _source(options: Options, config: Any, file: Path | None, pins: Path, progress: Progress) -> Source:
    weights = options.weights or _hub_address(options, config)
    if file is not None:
        return Source(file, weights)
    wanted = hub_file(weights)
    if wanted is None:
        raise DeepclustError(f"{weights} was not fetched: give its file")
    pinned = read_pin(pins, weights)
    if wanted.revision is None and pinned is not None:
        wanted = HubFile(wanted.repository, wanted.file, pinned.revision)
    try:
        path, commit = fetch_from_hub(wanted, progress)
    except RevisionError as error:
        if pinned is None:
            raise
        raise DeepclustError(
            f"{error}; it was the first use's: delete {pin_path(pins, weights)} to use another"
        ) from error
    return Source(path, weights, HubFile(wanted.repository, wanted.file, commit))


def _hub_address(options: Options, config: Any) -> str:
    """The place on the hub that a model's tag means."""
    if "." not in str(options.model):
        raise DeepclustError(f"{options.model} does not say which weights: add their tag, or give weights")
    if not config.hf_hub_id:
        known = f", e.g. weights: {config.url}" if config.url else ""
        raise DeepclustError(f"timm knows no place on the hub for {options.model}: give weights{known}")
    return f"hf://{config.hf_hub_id}" + (f"/{config.hf_hub_filename}" if config.hf_hub_filename else "")


def _converter(model: str) -> Callable[[Tensors, nn.Module], Tensors] | None:
    """What timm uses to read the weights of other codes into this kind of network."""
    import timm

    module = sys.modules[timm.model_entrypoint(model.partition(".")[0]).__module__]
    return getattr(module, "checkpoint_filter_fn", None)


def _explain(fitted: Fit, source: Source, model: str) -> None:
    if fitted.problems:
        found = "; ".join(f"{what}: {_some(names)}" for what, names in fitted.problems.items())
        where = f" below {fitted.prefix}" if fitted.prefix else ""
        raise DeepclustError(f"{source.weights} does not fit {model}{where}; tensors {found}")
    print(f"{source.weights}: {len(fitted.tensors)} tensors below {fitted.prefix or 'the top'}", flush=True)
    if fitted.dropped:
        print(f"left out: {', '.join(fitted.dropped)}", flush=True)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


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
    """The length of its features, found by using it as it will be used."""
    used = deepcopy(network).eval()
    set_image_size(used, spec["image_size"])
    image = torch.zeros(1, 3, spec["image_size"], spec["image_size"], dtype=torch.uint8)
    model = Model(used, spec)
    return model.features(model.preprocess(image)).shape[1]
