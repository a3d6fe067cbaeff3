"""Writing a prepared split: images in one folder, labels and names in another, all of them or none."""

import csv
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from deepclust.common.errors import DeepclustError
from deepclust.common.files import write_array, write_json, write_text
from deepclust.common.images import write_encoded, write_raw
from deepclust.common.progress import Progress
from deepclust.data.reading import read_checked
from deepclust.data.splits import UNKNOWN, EncodedSplit, RawSplit

_SHOWN = 3  # unreadable images named in an error


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

    Args:
        images: folder of `images.bin` and `images.json` (see `deepclust.common.images`).
        labels: folder of `labels.npy` (int32 [N], -1: unknown), `classes.json` (names of the classes, empty if the
            images have no labels), `ids.csv` (image id → name) and, if images were left out, `skipped.csv` (name,
            reason).
        count: number of images that there must be, if known.
        threads: threads that decode images; 0: one per CPU.

    Raises:
        DeepclustError: the split is not what it should be, or the disk is full. Then none of the files exists.
    """
    files = [images / "images.bin", images / "images.json"]
    files += [labels / name for name in ("labels.npy", "classes.json", "ids.csv", "skipped.csv")]
    _remove(files)
    try:
        writer = _SplitWriter(split.classes, count, progress)
        if isinstance(split, RawSplit):
            write_raw(images, writer.raw(split), split.shape)
        else:
            write_encoded(images, writer.encoded(split, threads or os.cpu_count() or 1), split.channels)
        writer.write_labels(labels)
    except BaseException:
        _remove(files)
        raise
    return len(writer.names)


def _remove(files: Sequence[Path]) -> None:
    for file in files:
        file.unlink(missing_ok=True)


class _SplitWriter:
    """Passes images on, collecting and checking what belongs to them."""

    def __init__(self, classes: Sequence[str], count: int | None, progress: Progress) -> None:
        self.classes = classes
        self.count = count
        self.progress = progress
        self.labels: list[npt.NDArray[np.int32]] = []
        self.names: list[str] = []
        self.skipped: list[tuple[str, str]] = []

    def raw(self, split: RawSplit) -> Iterator[npt.NDArray[np.uint8]]:
        with self.progress.task("prepare", self.count, "images") as task:
            for block in split.blocks:
                self._collect(block.labels, block.names)
                yield block.images
                task.advance(len(block.images))
        self._check_count()

    def encoded(self, split: EncodedSplit, threads: int) -> Iterator[bytes]:
        total = len(split.files) if isinstance(split.files, Sequence) else self.count
        with self.progress.task("prepare", total, "images") as task:
            for file, data in read_checked(split.files, split.channels, threads):
                if isinstance(data, bytes):
                    self._collect(np.array([file.label]), [file.name])
                    yield data
                else:
                    self.skipped.append((file.name, data.reason))
                task.advance()
        self._check_skipped(split.skip_unreadable)
        self._check_count()

    def write_labels(self, folder: Path) -> None:
        labels = np.concatenate([np.empty(0, np.int32), *self.labels])
        write_array(folder / "labels.npy", labels)
        write_json(folder / "classes.json", list(self.classes))
        write_text(folder / "ids.csv", _table(["id", "path"], enumerate(self.names)))
        if self.skipped:
            write_text(folder / "skipped.csv", _table(["path", "reason"], self.skipped))

    def _collect(self, labels: npt.NDArray[np.integer], names: Sequence[str]) -> None:
        assert len(labels) == len(names)
        numbers = np.asarray(labels).astype(np.int32)
        outside = (numbers < UNKNOWN) | (numbers >= len(self.classes))
        if outside.any():
            first = int(outside.argmax())
            raise DeepclustError(f"{names[first]} has the label {numbers[first]} of {len(self.classes)} classes")
        self.labels.append(numbers)
        self.names.extend(names)

    def _check_skipped(self, allowed: bool) -> None:
        if self.skipped and not (allowed and self.names):
            some = ", ".join(f"{name} ({reason})" for name, reason in self.skipped[:_SHOWN])
            more = f" and {len(self.skipped) - _SHOWN} more" if len(self.skipped) > _SHOWN else ""
            raise DeepclustError(
                f"{len(self.skipped)} of {len(self.skipped) + len(self.names)} images do not decode: {some}{more}: "
                "replace or remove them, or set on_error: skip"
            )

    def _check_count(self) -> None:
        if self.count is not None and len(self.names) != self.count:
            raise DeepclustError(f"there are {len(self.names)} images, expected {self.count}: is the archive complete?")


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
