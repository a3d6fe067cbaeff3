"""Whose features an array holds: the identity of a backbone together with how it is read out.

It is recorded in the provenance beside the features; clusters keep the identities of the features they were fitted on.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deepclust.core.files import json_digest, read_json
from deepclust.models.description import read_description

# What stands in a description besides says where a network comes from, not what it makes of an image.
DECISIVE = (
    *("architecture", "sha256", "mean", "std", "interpolation"),
    *("image_size", "crop_fraction", "pooling", "layers"),
)
VIEWS = "test_time_augmentation"


def features_identity(model_json: Path, reading: Mapping[str, Any]) -> str:
    """SHA-256 of what decides a backbone's features: its description, its weights' SHA-256, and how it is read out.

    Arithmetic and the type that features are stored in, which only round them, are left out.

    Args:
        reading: options of the extraction; None stands for the backbone's own.

    Raises:
        DeepclustError: the description cannot be read.
    """
    spec = read_description(model_json)
    chosen = {key: spec[key] if reading.get(key) is None else reading[key] for key in DECISIVE}
    return json_digest({**chosen, VIEWS: reading[VIEWS]})


def identity_beside(features: Path) -> str | None:
    """The identity in the provenance beside a `features.npy`; None where there is none.

    Raises:
        DeepclustError: the provenance is damaged.
    """
    record = features.with_suffix(".provenance.json")
    return read_json(record)["options"].get("identity") if record.is_file() else None
