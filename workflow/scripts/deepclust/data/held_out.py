"""Mistakes between the splits of one's own images: an image in both, a class that only the test split has."""

import hashlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from deepclust.core.decoding import UnreadableImageError, decode_reduced
from deepclust.core.errors import DeepclustError, some_of
from deepclust.core.progress import Progress
from deepclust.data.names import Names
from deepclust.data.reading import in_threads
from deepclust.data.splits import UNKNOWN, EncodedFile, EncodedSplit

_SHOWN = 3  # images and classes named in a message


@dataclass(frozen=True)
class _Content:
    """The bytes of an image file.

    Attributes:
        key: 64 bits of their SHA-256; None: they do not count.
        nbytes: their number.
    """

    key: int | None
    nbytes: int


_NOTHING = _Content(None, 0)


def check_held_out(test: EncodedSplit, train: EncodedSplit, *, keep: bool, threads: int, progress: Progress) -> None:
    """Look for test images that are training images, byte for byte, and for classes without any training image.

    Both sources are read, but images are not decoded. A training file of a size that no test image has stays unread.
    An image that does not decode is in neither split. Memory holds per test image its name and some 30 bytes.

    Args:
        keep: whether to warn of images that are in both splits, instead of failing.

    Raises:
        DeepclustError: images are in both splits.
    """
    names, keys, sizes, held_out = Names(), array("Q"), set[int](), Counter[int]()
    for file, content in _contents(test, _read, "test", threads, progress):
        held_out[file.label] += 1
        if content.key is not None:
            names.append(file.name)
            keys.append(content.key)
            sizes.add(content.nbytes)
    ordered = np.sort(np.array(keys, np.uint64))

    def read_if_shared(file: EncodedFile) -> _Content:
        if file.path is not None and _size(file) not in sizes:
            return _NOTHING
        data = _bytes(file)
        key = _key(data)
        place = int(np.searchsorted(ordered, np.uint64(key)))
        shared = place < len(ordered) and int(ordered[place]) == key and _decodes(data, train.channels, file.name)
        return _Content(key if shared else None, len(data))

    trained: set[int] = set()
    partners: dict[int, str] = {}
    for file, content in _contents(train, read_if_shared, "train", threads, progress):
        trained.add(file.label)
        if content.key is not None:
            partners.setdefault(content.key, file.name)
    if both := [f"{name} (train: {partners[key]})" for name, key in zip(names, keys, strict=True) if key in partners]:
        message = f"{len(both)} of {len(names)} test images are training images, byte for byte: {some_of(both, _SHOWN)}"
        if not keep:
            raise DeepclustError(f"{message}: take them out of one split, or, if it must be so, set on_overlap: keep")
        progress.warn(message)
    _warn_of_unseen_classes(test.classes, held_out, trained, progress)


def _warn_of_unseen_classes(
    names: Sequence[str] | None, held_out: Counter[int], trained: set[int], progress: Progress
) -> None:
    unseen = sorted(held_out.keys() - trained - {UNKNOWN})
    if unseen and trained != {UNKNOWN}:
        named = [f"{names[label] if names else label} ({held_out[label]} images)" for label in unseen]
        progress.warn(
            f"no training image is of a class that test images are of: {some_of(named, _SHOWN)}: no probe can tell it; "
            "is it called otherwise in train?"
        )


def _contents(
    split: EncodedSplit, read: Callable[[EncodedFile], _Content], what: str, threads: int, progress: Progress
) -> Iterator[tuple[EncodedFile, _Content]]:
    total = len(split.files) if isinstance(split.files, Sequence) else None
    with progress.task(f"compare splits: {what}", total, "images") as task:
        for file, content in in_threads(split.files, read, lambda content: content.nbytes, threads):
            yield file, content
            task.advance()


def _read(file: EncodedFile) -> _Content:
    data = _bytes(file)
    return _Content(_key(data), len(data)) if data else _NOTHING


def _bytes(file: EncodedFile) -> bytes:
    """Return an image's bytes; none if they cannot be read: `on_error` decides about such an image."""
    try:
        return file.read()
    except OSError:
        return b""


def _size(file: EncodedFile) -> int:
    assert file.path is not None
    try:
        return file.path.stat().st_size
    except OSError:
        return 0


def _key(data: bytes) -> int:
    return int.from_bytes(hashlib.sha256(data).digest()[:8])


def _decodes(data: bytes, channels: int, name: str) -> bool:
    try:
        decode_reduced(data, channels, name, 1)
    except UnreadableImageError:
        return False
    return True
