"""Description of a backbone, as `model.json` holds it; reading it needs no torch."""

import json
import math
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from deepclust.core.errors import DeepclustError

DESCRIPTION = "model.json"
WEIGHTS = "model.safetensors"  # beside it

INTERPOLATIONS = ("bilinear", "bicubic")
POOLINGS = ("class", "avg", "max", "avgmax", "class+avg", "head")

SPEC_KEYS = (
    "architecture",  # see `deepclust.models.networks.build_network`
    "image_size",  # side of the square images in pixels; None: the images as they are
    "interpolation",  # one of `INTERPOLATIONS`
    "mean",  # per channel, of pixels scaled to [0, 1]; None: not normalised
    "std",
    "crop_fraction",  # share of a resized image's side that is left when its centre is cropped to `image_size`
    "pooling",  # one of `POOLINGS`: how the outputs become one vector, see `deepclust.models.pooling`
    "layers",  # blocks whose pooled outputs are concatenated; None: the last output alone
    "feature_dim",  # D with these settings; None where it depends on the images
    "method",  # the method that trained it; None: it is untrained
    "dataset",  # the images that it was trained on
    "supervision",  # self-supervised, language-supervised or supervised; None: there was none, or it is not known
    "splits",
    "epochs",
    "start_from",  # the backbone it started from
    "origin",  # the place that its weights were fetched from; None: made here
    "sha256",  # that of the weights
)


def is_description(weights: str) -> bool:
    """Return whether a path or an address is that of a backbone's description."""
    return PurePosixPath(_path(weights)).name == DESCRIPTION


def beside(description: str) -> str:
    """Path or address of the weights that a description belongs to."""
    path = _path(description)
    before, _, after = description.rpartition(path)
    return f"{before}{PurePosixPath(path).with_name(WEIGHTS)}{after}"


def _path(weights: str) -> str:
    return urlsplit(weights).path if "://" in weights else weights


def read_description(model_json: Path) -> dict[str, Any]:
    """Return the content of a `model.json`: every key of `SPEC_KEYS`.

    Raises:
        DeepclustError: the file is no backbone's description, or it is damaged.
    """
    try:
        spec = json.loads(Path(model_json).read_text(encoding="utf-8"))
    except OSError as error:
        raise DeepclustError(f"{model_json} cannot be read: {error.strerror}") from error
    except ValueError as error:  # of JSON or of UTF-8
        raise DeepclustError(f"{model_json} is not valid JSON ({error}): get it again") from error
    absent = [key for key in SPEC_KEYS if not isinstance(spec, dict) or key not in spec]
    if absent:
        raise DeepclustError(f"{model_json} lacks {', '.join(absent)}: it is not a backbone's description")
    if wrong := next(_unusable(spec), None):
        raise DeepclustError(f"{model_json} has no {wrong} that can be used: it is damaged, get it again")
    return {key: spec[key] for key in SPEC_KEYS}


def _unusable(spec: dict[str, Any]) -> Iterator[str]:
    """Yield the keys of a description whose values cannot be used."""
    if not isinstance(spec["architecture"], dict) or not isinstance(spec["architecture"].get("name"), str):
        yield "architecture"
    for key, kind in (("splits", list | None), ("dataset", str | None), ("sha256", str)):
        if not isinstance(spec[key], kind):
            yield key
    if spec["image_size"] is not None and not (type(spec["image_size"]) is int and spec["image_size"] >= 1):
        yield "image_size"
    if not _is_number(spec["crop_fraction"]) or not 0 < spec["crop_fraction"] <= 1:
        yield "crop_fraction"
    for key, known in (("interpolation", INTERPOLATIONS), ("pooling", POOLINGS)):
        if spec[key] not in known:
            yield key
    mean, std, layers = spec["mean"], spec["std"], spec["layers"]
    channels = len(mean) if isinstance(mean, list) else 0
    if mean is not None and not (channels and all(map(_is_number, mean))):
        yield "mean"
    elif (std is None) != (mean is None) or (std is not None and not _are_deviations(std, channels)):
        yield "std"
    if layers is not None and not (isinstance(layers, list) and layers and all(type(n) is int for n in layers)):
        yield "layers"


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _are_deviations(std: Any, channels: int) -> bool:
    return isinstance(std, list) and len(std) == channels and all(_is_number(value) and value > 0 for value in std)
