"""Pins of weights: the version of their first use, which later uses must have, too.

Neither the hub nor other servers promise that an address always gives the same file, and few publish a checksum. So
the commit and the SHA-256 of the first use are kept, one small file per address, and hold from then on.
"""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path

from deepclust.core.errors import DeepclustError
from deepclust.core.files import read_json, write_json


@dataclass(frozen=True)
class Pin:
    """The version of weights that was used first.

    Attributes:
        weights: their address.
        revision: commit on the hub; None elsewhere.
        sha256: of the file.
    """

    weights: str
    revision: str | None
    sha256: str


def pin_path(folder: Path, weights: str) -> Path:
    """Return the path of an address's pin."""
    return folder / f"{hashlib.sha256(weights.encode()).hexdigest()[:16]}.json"


def read_pin(folder: Path, weights: str) -> Pin | None:
    """Read the pin of an address; None before its first use."""
    path = pin_path(folder, weights)
    return Pin(**read_json(path)) if path.is_file() else None


def check_pin(folder: Path, found: Pin) -> None:
    """Check that `found` is the version that came first from its address, if any did.

    Raises:
        DeepclustError: it is another file.
    """
    pinned = read_pin(folder, found.weights)
    if pinned is not None and pinned.sha256 != found.sha256:
        raise DeepclustError(
            f"{found.weights} is not the file it was at its first use (SHA-256 {found.sha256}, then {pinned.sha256}): "
            f"delete {pin_path(folder, found.weights)} to use the present one"
        )


def keep_pin(folder: Path, found: Pin) -> None:
    """Keep `found` if it is the first of its address; call it when the file has proved to be right."""
    if read_pin(folder, found.weights) is None:
        write_json(pin_path(folder, found.weights), asdict(found))
