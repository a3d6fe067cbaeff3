"""Raw pixels as features: the floor that every learned backbone has to beat."""

from pathlib import Path
from typing import Any

from pydantic import Field

from deepclust.core.options import Options as BaseOptions
from deepclust.models.model import save_model
from deepclust.models.networks import build_network


class Options(BaseOptions):
    """Options of the raw-pixel backbone."""

    image_size: int | None = Field(None, ge=1)
    """Side in pixels to which images are resized; none: as they are. Images of varying sizes need it."""


def write(options: Options, model_json: Path) -> None:
    """Write the backbone whose features are an image's pixels, scaled to [0, 1] and flattened: [n, C*H*W]."""
    architecture = {"name": "pixels"}
    spec: dict[str, Any] = {
        "architecture": architecture,
        "image_size": options.image_size,
        "interpolation": "bilinear",
        "mean": None,
        "std": None,
        "crop_fraction": 1.0,
        "pooling": "avg",
        "layers": None,
        "feature_dim": None,
        "method": None,
        "dataset": None,
        "supervision": None,
        "splits": [],
        "epochs": 0,
        "start_from": None,
        "origin": None,
    }
    save_model(model_json, build_network(architecture), spec)
