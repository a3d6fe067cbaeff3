"""What stands in a backbone's `model.json`; needs no torch."""

from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from deepclust.common.errors import DeepclustError
from deepclust.common.files import read_json

DESCRIPTION = "model.json"
WEIGHTS = "model.safetensors"  # beside it

SPEC_KEYS = (
    "architecture",  # see `deepclust.common.networks.build_network`
    "image_size",  # side of the square images in pixels; None: the images as they are
    "interpolation",  # bilinear or bicubic
    "mean",  # per channel, of pixels scaled to [0, 1]; None: not normalised
    "std",
    "crop_fraction",  # of a resized image's side that is left when its centre is cropped to `image_size`
    "pooling",  # how one vector is made of what comes out of the network, see `deepclust.common.pooling`
    "layers",  # blocks whose pooled outputs are put one after the other; None: what comes out at the end
    "feature_dim",  # D with these settings; None where it depends on the images
    "method",  # how it was trained; None: it was not
    "dataset",  # what it was trained on
    "supervision",  # what told it what is alike: self-supervised, language-supervised, supervised; None: nothing
    "splits",
    "epochs",
    "start_from",  # the backbone it started from
    "origin",  # where its weights were fetched from; None: made here
    "sha256",  # of the weights
)


def is_description(weights: str) -> bool:
    """Whether a path or an address is that of a backbone's description."""
    return PurePosixPath(_path(weights)).name == DESCRIPTION


def beside(description: str) -> str:
    """Path or address of the weights that a description belongs to."""
    path = _path(description)
    before, _, after = description.rpartition(path)
    return f"{before}{PurePosixPath(path).with_name(WEIGHTS)}{after}"


def _path(weights: str) -> str:
    return urlsplit(weights).path if "://" in weights else weights


def read_description(model_json: Path) -> dict[str, Any]:
    """What a `model.json` says: every key of `SPEC_KEYS`.

    Raises:
        DeepclustError: it is no backbone's description.
    """
    spec = read_json(model_json)
    absent = [key for key in SPEC_KEYS if not isinstance(spec, dict) or key not in spec]
    if absent:
        raise DeepclustError(f"{model_json} lacks {', '.join(absent)}: it is not a backbone's description")
    for key, kind in (("architecture", dict), ("splits", list | None), ("dataset", str | None), ("sha256", str)):
        if not isinstance(spec[key], kind):
            raise DeepclustError(f"{model_json} has no {key} that can be used: it is not a backbone's description")
    return {key: spec[key] for key in SPEC_KEYS}
