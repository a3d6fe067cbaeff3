"""The result of a loader: the images of one split, their labels and their names.

A loader is a module `loaders/<name>.py` with `FACTS`, a class `Options`, and

    def read_split(options: Options, split: str, archives: Sequence[Path]) -> RawSplit | EncodedSplit

where `archives` are the files of `FACTS.archives_of(split)`, in that order. It may be lazy: blocks and files are read
once, in order.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from deepclust.core.image_files import read_regular

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
        path: its place, if it is a file of its own.
    """

    name: str
    label: int
    read: Callable[[], bytes]
    path: Path | None = None

    @classmethod
    def stored(cls, name: str, label: int, path: Path) -> "EncodedFile":
        """Return a file of its own, which is read when it is wanted."""
        return cls(name, label, partial(read_regular, path), path)

    @classmethod
    def loaded(cls, name: str, label: int, data: bytes) -> "EncodedFile":
        """Return a file whose bytes are here already."""
        return cls(name, label, lambda: data)


@dataclass(frozen=True)
class EncodedSplit:
    """Image files, stored as they are, or, if all have one small size, as pixels.

    Attributes:
        classes: None: classes have no names but their numbers.
        channels: 1 or 3: what they are decoded to.
        skip_unreadable: leave out images that do not decode, instead of failing; None: official sets have none.
        skip_limit: the largest share of images that may be left out.
        shape: (C, H, W) of all images, to store them as pixels.
        shuffle: put them into the opaque order of their names, by way of a temporary copy. This is for files that come
            in an order that could tell their classes and cannot be read in any other.
        passed_over: name and reason of everything else beside the files; complete when these have been read.
    """

    classes: Sequence[str] | None
    channels: int
    files: Iterable[EncodedFile]
    skip_unreadable: bool | None = None
    shape: tuple[int, int, int] | None = None
    shuffle: bool = False
    skip_limit: float = 1.0
    passed_over: list[tuple[str, str]] = field(default_factory=list)


def opaque_order(names: Iterable[str]) -> list[str]:
    """Return `names` in the order of their SHA-256.

    The order tells nothing of the names, and does not change as others come or go.
    """
    return sorted(names, key=opaque_key)


def opaque_key(name: str) -> bytes:
    """Return the key by which names are sorted."""
    return hashlib.sha256(os.fsencode(name)).digest()
