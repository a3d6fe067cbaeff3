"""Raw pixels as features: the floor that anything learned has to beat."""

from pathlib import Path

from pydantic import Field

from deepclust.common.models import build_network, save_model
from deepclust.common.options import Options as BaseOptions


class Options(BaseOptions):
    """Options of raw pixels."""

    image_size: int | None = Field(None, ge=1)
    """Side in pixels to which images are resized; none: as they are. Images of varying sizes need it."""


def write(options: Options, model: Path) -> None:
    """Write the backbone that flattens images scaled to [0, 1]: `model` (model.json) and its (empty) weights."""
    architecture = {"name": "pixels"}
    spec = {
        "architecture": architecture,
        "image_size": options.image_size,
        "interpolation": "bilinear",
        "mean": None,
        "std": None,
        "feature_dim": None,
        "method": None,
        "dataset": None,
        "splits": None,
        "epochs": None,
        "start_from": None,
    }
    save_model(model, build_network(architecture), spec)
