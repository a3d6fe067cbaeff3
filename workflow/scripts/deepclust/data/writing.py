"""Writing a prepared split: images in one folder, labels and names in another, all of them or none."""

import csv
import os
import tempfile
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from deepclust.core.errors import DeepclustError, some_of
from deepclust.core.files import atomic_path, write_array, write_json
from deepclust.core.images import write_encoded, write_raw
from deepclust.core.progress import Progress
from deepclust.data.names import Names
from deepclust.data.reading import read_checked
from deepclust.data.splits import UNKNOWN, EncodedSplit, RawSplit, opaque_key

_SHOWN = 3  # unreadable images named in an error
_BLOCK = 256  # images written at once
_MOST_CLASSES = 1_000_000  # without names; a larger label is taken for a mistake


def write_split(
    split: RawSplit | EncodedSplit,
    images: Path,
    labels: Path,
    *,
    progress: Progress,
    count: int | None = None,
    threads: int = 0,
) -> int:
    """Write a split; return its number of images N.

    Memory holds a few images and an index of all: per image its name and some 30 bytes.

    Args:
        images: folder of `images.bin` and `images.json` (see `deepclust.core.images`).
        labels: folder of `labels.npy` (int32 [N], -1: unknown), `classes.json` (names of the classes, empty if the
            images have no labels), `ids.csv` (image id → name) and, if there are other files, `skipped.csv` (name and
            reason of each).
        count: number of images that there must be, if known.
        threads: threads that decode images; 0: one per CPU.

    Raises:
        DeepclustError: the split is not as described, or the disk is full. Then none of the files exists.
    """
    files = [images / "images.bin", images / "images.json"]
    files += [labels / name for name in ("labels.npy", "classes.json", "ids.csv", "skipped.csv")]
    _remove(files)
    try:
        writer = _SplitWriter(split.classes, count, progress)
        if isinstance(split, RawSplit):
            write_raw(images, writer.raw(split), split.shape)
        elif split.shape is not None:
            write_raw(images, writer.decoded(split, threads or os.cpu_count() or 1), split.shape)
        else:
            encoded = writer.encoded(split, threads or os.cpu_count() or 1)
            ordered = _reorder(encoded, writer.shuffle, images) if split.shuffle else encoded
            write_encoded(images, ordered, split.channels, skipped=writer.count_skipped)
        writer.write_labels(labels)
        writer.tell_skipped(labels)
    except BaseException:
        _remove(files)
        raise
    return len(writer.names)


def _remove(files: Sequence[Path]) -> None:
    for file in files:
        file.unlink(missing_ok=True)


def _reorder(items: Iterable[bytes], order: Callable[[], npt.NDArray[np.integer]], folder: Path) -> Iterator[bytes]:
    """Yield every item once, in the order that `order()` tells when all have come.

    Until then they are in a nameless file.
    """
    ends = array("q", [0])
    with tempfile.TemporaryFile(dir=folder) as file:
        for item in items:
            file.write(item)
            ends.append(ends[-1] + len(item))
        file.flush()
        for row in order():
            yield os.pread(file.fileno(), ends[row + 1] - ends[row], ends[row])


class _SplitWriter:
    """A pass over images that collects and checks their labels and names."""

    def __init__(self, classes: Sequence[str] | None, count: int | None, progress: Progress) -> None:
        self.classes = classes
        self.count = count
        self.progress = progress
        self.labels = array("i")
        self.names = Names()
        self.order: npt.NDArray[np.integer] | None = None
        self.skipped: list[tuple[str, str]] = []
        self.passed_over: list[tuple[str, str]] = []

    def raw(self, split: RawSplit) -> Iterator[npt.NDArray[np.uint8]]:
        with self.progress.task("prepare", self.count, "images") as task:
            for block in split.blocks:
                for name, label in zip(block.names, block.labels.tolist(), strict=True):
                    self._collect(name, label)
                yield block.images
                task.advance(len(block.images))
        self._check_count()

    def encoded(self, split: EncodedSplit, threads: int) -> Iterator[bytes]:
        return (data for data in self._checked(split, threads) if isinstance(data, bytes))

    def decoded(self, split: EncodedSplit, threads: int) -> Iterator[npt.NDArray[np.uint8]]:
        images = (pixels for pixels in self._checked(split, threads) if not isinstance(pixels, bytes))
        while block := list(islice(images, _BLOCK)):
            yield np.stack(block)

    def shuffle(self) -> npt.NDArray[np.integer]:
        """Put labels and names into the order of the names' hashes; return that order."""
        keys = np.fromiter((int.from_bytes(opaque_key(name)[:8]) for name in self.names), np.uint64, len(self.names))
        self.order = keys.argsort(kind="stable")
        return self.order

    def write_labels(self, folder: Path) -> None:
        labels = np.frombuffer(self.labels, np.int32) if self.labels else np.empty(0, np.int32)
        order = np.arange(len(labels)) if self.order is None else self.order
        write_array(folder / "labels.npy", labels[order])
        write_json(folder / "classes.json", self._class_names())
        _write_table(folder / "ids.csv", ["id", "path"], ((id, self.names[row]) for id, row in enumerate(order)))
        if self.skipped or self.passed_over:
            _write_table(folder / "skipped.csv", ["path", "reason"], sorted(self.skipped + self.passed_over))

    def count_skipped(self) -> int:
        """Return the number of files besides the images, when all have come."""
        return len(self.skipped) + len(self.passed_over)

    def tell_skipped(self, folder: Path) -> None:
        """Warn that files besides the images were skipped: how many, and why."""
        reasons = Counter(reason for _, reason in self.skipped + self.passed_over)
        if reasons:
            listed = some_of([f"{count} {reason}" for reason, count in reasons.most_common()], _SHOWN)
            files = "1 file" if self.count_skipped() == 1 else f"{self.count_skipped():,} files"
            counts = f"{len(self.names):,} images, {files} skipped"
            self.progress.warn(f"{counts} ({listed}): {folder / 'skipped.csv'} names them")

    def _checked(self, split: EncodedSplit, threads: int) -> Iterator[bytes | npt.NDArray[np.uint8]]:
        total = len(split.files) if isinstance(split.files, Sequence) else self.count
        with self.progress.task("prepare", total, "images") as task:
            for file, data in read_checked(split, threads):
                if isinstance(data, DeepclustError):
                    self.skipped.append((file.name, data.reason))
                else:
                    self._collect(file.name, file.label)
                    yield data
                task.advance()
        self.passed_over = split.passed_over
        self._check_skipped(split)
        self._check_count()

    def _collect(self, name: str, label: int) -> None:
        classes = _MOST_CLASSES if self.classes is None else len(self.classes)
        if not UNKNOWN <= label < classes:
            raise DeepclustError(f"{name} has the label {label} of {classes} classes")
        self.labels.append(label)
        self.names.append(name)

    def _class_names(self) -> list[str]:
        if self.classes is not None:
            return list(self.classes)
        return [str(number) for number in range(max(self.labels, default=UNKNOWN) + 1)]

    def _check_skipped(self, split: EncodedSplit) -> None:
        total = len(self.skipped) + len(self.names)
        limit = split.skip_limit if split.skip_unreadable and self.names else 0
        if not self.skipped or len(self.skipped) / total <= limit:
            return
        some = some_of([f"{name} ({reason})" for name, reason in self.skipped], _SHOWN)
        fix = "replace or remove them"
        if split.skip_unreadable is None:
            fix = "is it the official archive?"
        elif not split.skip_unreadable:
            fix += ", or set on_error: skip"
        elif self.names:
            fix += f", or set skip_limit, which is {split.skip_limit:g}, to a larger share"
        raise DeepclustError(f"{len(self.skipped)} of {total} images do not decode: {some}: {fix}")

    def _check_count(self) -> None:
        if self.count is not None and len(self.names) != self.count:
            raise DeepclustError(f"there are {len(self.names)} images, expected {self.count}: is the archive complete?")


def _write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
