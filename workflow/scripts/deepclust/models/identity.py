"""Identity of features: the backbone that made them and the way it was read out.

It is recorded in the provenance beside the features. Clusters keep the identities of the features they were fitted on.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deepclust.core.files import json_digest, read_json
from deepclust.models.description import read_description

# The other keys of a description say where a network comes from. They do not change its features.
DECISIVE = (
    *("architecture", "sha256", "mean", "std", "interpolation"),
    *("image_size", "crop_fraction", "pooling", "layers"),
)
VIEWS = "test_time_augmentation"


def features_identity(model_json: Path, reading: Mapping[str, Any]) -> str:
    """Return a SHA-256 over a backbone's description, its weights' SHA-256 and the way it is read out.

    The arithmetic and the type in which features are stored are left out, because they only round them.

    Args:
        reading: options of the extraction; None stands for the backbone's own setting.

    Raises:
        DeepclustError: the description cannot be read.
    """
    spec = read_description(model_json)
    chosen = {key: spec[key] if reading.get(key) is None else reading[key] for key in DECISIVE}
    return json_digest({**chosen, VIEWS: reading[VIEWS]})


def identity_beside(features: Path) -> str | None:
    """Return the identity in the provenance beside a `features.npy`; None if there is none.

    Raises:
        DeepclustError: the provenance is damaged.
    """
    record = features.with_suffix(".provenance.json")
    return read_json(record)["options"].get("identity") if record.is_file() else None
