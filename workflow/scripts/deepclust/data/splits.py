"""What a loader hands over: the images of one split, their labels and their names.

A loader is a module `loaders/<name>.py` with `FACTS`, a class `Options`, and

    def read_split(options: Options, split: str, archive: Path | None) -> RawSplit | EncodedSplit

which may be lazy: blocks and files are read once, in order.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

UNKNOWN = -1
"""Label of an image whose class is not known."""


@dataclass(frozen=True)
class RawBlock:
    """Some images of one size.

    Attributes:
        images: uint8 [n, C, H, W].
        labels: [n], index into the split's classes or `UNKNOWN`.
        names: n names: file name inside the archive, with the number of the record where a file holds many.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.integer]
    names: Sequence[str]


@dataclass(frozen=True)
class RawSplit:
    """Images of one size (C, H, W), stored as pixels."""

    classes: Sequence[str]
    shape: tuple[int, int, int]
    blocks: Iterable[RawBlock]


@dataclass(frozen=True)
class EncodedFile:
    """One image file.

    Attributes:
        read: returns the bytes; called once, in any thread.
    """

    name: str
    label: int
    read: Callable[[], bytes]


@dataclass(frozen=True)
class EncodedSplit:
    """Images of any size, stored as their files.

    Attributes:
        channels: 1 or 3: what they are decoded to.
        skip_unreadable: leave out images that do not decode, instead of failing.
    """

    classes: Sequence[str]
    channels: int
    files: Iterable[EncodedFile]
    skip_unreadable: bool = False


def opaque_order(names: Iterable[str]) -> list[str]:
    """`names` in the order of their SHA-256: tells nothing of the names, and does not change as others come or go."""
    return sorted(names, key=lambda name: hashlib.sha256(os.fsencode(name)).digest())
