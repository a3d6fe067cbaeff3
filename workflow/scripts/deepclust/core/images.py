"""The prepared images of one split: one file of bytes, one small manifest, opened without loading anything.

`images.bin` holds either all pixels (raw: uint8, planes first, for sets of one small size) or the encoded files one
after the other (JPEG, PNG …) followed by their offsets. `images.json` says which. Image ids are row numbers; nothing in
either file tells a label or a file name.
"""

import contextlib
import hashlib
import os
import weakref
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from deepclust.core.decoding import Decoded, decode_reduced
from deepclust.core.errors import DeepclustError
from deepclust.core.files import atomic_path, read_json, write_json

FORMAT = 1


class Images:
    """Read access to a prepared split.

    Attributes:
        count: number of images N.
        shape: (C, H, W) of raw images, None for encoded ones.
        channels: 1 or 3.
        skipped: number of files that were beside the images and were left out.
        mean, std: per-channel statistics of the pixels scaled to [0, 1], as lists; None where they are not known.
    """

    def __init__(self, folder: Path) -> None:
        """Open `folder/images.bin` and `folder/images.json`.

        Raises:
            DeepclustError: the files are missing, or do not belong together.
        """
        self.folder = Path(folder)
        path, manifest = self.folder / "images.bin", self.folder / "images.json"
        for file in (path, manifest):
            if not file.is_file():
                raise DeepclustError(f"{file} is missing: prepare the dataset first")
        self.manifest: dict[str, Any] = read_json(manifest)
        if self.manifest.get("format") != FORMAT:
            raise DeepclustError(
                f"{manifest} has format {self.manifest.get('format')}, expected {FORMAT}: delete it and prepare again"
            )
        self.count: int = self.manifest["count"]
        self.channels: int = self.manifest["channels"]
        self.shape: tuple[int, int, int] | None = tuple(self.manifest["shape"]) if self.manifest["shape"] else None
        self.mean: list[float] | None = self.manifest["mean"]
        self.std: list[float] | None = self.manifest["std"]
        self.skipped: int = self.manifest.get("skipped", 0)
        self.sha256: str = self.manifest["sha256"]
        if path.stat().st_size != self.manifest["bytes"]:
            raise DeepclustError(
                f"{path} has {path.stat().st_size} bytes, its manifest says {self.manifest['bytes']}: "
                "delete both and prepare again"
            )
        self._path = path
        if self.shape is not None:
            self._pixels: npt.NDArray[np.uint8] = _map(path, np.uint8, (self.count, *self.shape))
        else:
            at = self.manifest["offsets_at"]
            self._offsets = _map(path, np.int64, (self.count + 1,), offset=at)
            self._file = os.open(path, os.O_RDONLY)
            weakref.finalize(self, os.close, self._file)

    def __len__(self) -> int:
        return self.count

    def pixels(self, indices: Sequence[int] | npt.NDArray[np.integer] | slice) -> npt.NDArray[np.uint8]:
        """Return raw images, uint8 [n, C, H, W], copied out of the memory map; only for raw storage."""
        assert self.shape is not None, "encoded images have no common shape: use encoded() or decode()"
        if isinstance(indices, slice):
            return self._pixels[indices].copy()
        return self._pixels.take(np.asarray(indices), axis=0)

    def read(self, start: int, stop: int) -> npt.NDArray[np.uint8]:
        """Read raw images `start` to `stop`, uint8 [n, C, H, W], not by the map: a pass over all takes no memory."""
        assert self.shape is not None
        size = int(np.prod(self.shape))
        flat = np.fromfile(self._path, np.uint8, count=(stop - start) * size, offset=start * size)
        return flat.reshape(-1, *self.shape)

    def encoded(self, index: int) -> bytes:
        """Return the bytes of one encoded image, as they were in its file; only for encoded storage."""
        assert self.shape is None
        start, stop = int(self._offsets[index]), int(self._offsets[index + 1])
        return os.pread(self._file, stop - start, start)  # pages of a memory map would count as this process's memory

    def decode(self, index: int) -> npt.NDArray[np.uint8]:
        """Return one image as uint8 [C, H, W], from either storage.

        Raises:
            UnreadableImageError: the bytes are not an image.
        """
        return np.array(self._pixels[index]) if self.shape is not None else self.decode_reduced(index, None).pixels

    def decode_reduced(self, index: int, at_least: int | None, memory: npt.NDArray[np.uint8] | None = None) -> Decoded:
        """Return one encoded image, no larger than needed; see `deepclust.core.decoding.decode_reduced`.

        Raises:
            UnreadableImageError: the bytes are not an image.
        """
        return decode_reduced(self.encoded(index), self.channels, f"image {index} of {self._path}", at_least, memory)


def _map(path: Path, dtype: type[np.generic], shape: tuple[int, ...], offset: int = 0) -> npt.NDArray[Any]:
    """Map a file as a read-only array.

    Empty files cannot be mapped; a plain array is faster to index than `np.memmap`.
    """
    if 0 in shape:
        return np.empty(shape, dtype)
    return np.asarray(np.memmap(path, dtype, "r", offset, shape))


def write_raw(folder: Path, blocks: Iterable[npt.NDArray[np.uint8]], shape: tuple[int, int, int]) -> int:
    """Write raw images, blocks of uint8 [n, C, H, W], as the prepared split `folder`; return their number."""
    levels = np.arange(256)
    with _writing(folder) as writer:
        total, squares, count = np.zeros(shape[0]), np.zeros(shape[0]), 0
        for block in blocks:
            assert block.dtype == np.uint8 and block.shape[1:] == shape
            block = np.ascontiguousarray(block)
            writer.write(block.data.cast("B") if block.size else b"")
            histograms = np.stack([np.bincount(block[:, c].ravel(), minlength=256) for c in range(shape[0])])
            total += histograms @ levels
            squares += histograms @ levels**2
            count += len(block)
        pixels = max(1, count * shape[1] * shape[2])
        mean = total / pixels / 255
        std = np.sqrt(np.maximum(squares / pixels / 255**2 - mean**2, 0))
        writer.facts = {
            "storage": "raw",
            "count": count,
            "channels": shape[0],
            "shape": list(shape),
            "mean": mean.tolist(),
            "std": std.tolist(),
            "offsets_at": None,
        }
    return count


def write_encoded(folder: Path, files: Iterable[bytes], channels: int, skipped: Callable[[], int] = lambda: 0) -> int:
    """Write encoded images as the prepared split `folder`, byte for byte; return their number.

    Args:
        skipped: tells, when all images have come, how many files were left out.
    """
    with _writing(folder) as writer:
        offsets = array("q", [0])
        for data in files:
            writer.write(data)
            offsets.append(offsets[-1] + len(data))
        padding = -offsets[-1] % 8
        writer.write(bytes(padding))
        writer.write(offsets.tobytes())
        writer.facts = {
            "storage": "encoded",
            "count": len(offsets) - 1,
            "channels": channels,
            "shape": None,
            "mean": None,
            "std": None,
            "offsets_at": offsets[-1] + padding,
            "skipped": skipped(),
        }
    return len(offsets) - 1


class _Writer:
    """Counter and hash of the bytes on their way to `images.bin`; whoever knows the images sets its `facts`."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._size = 0
        self.facts: dict[str, Any] = {}

    def write(self, data: bytes | memoryview) -> None:
        self._file.write(data)
        self._hash.update(data)
        self._size += len(data)

    def manifest(self) -> dict[str, Any]:
        return {"format": FORMAT, **self.facts, "bytes": self._size, "sha256": self._hash.hexdigest()}


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[_Writer]:
    """Put `images.bin`, then its manifest, into place if the block succeeds: no manifest without its images."""
    path, manifest = Path(folder) / "images.bin", Path(folder) / "images.json"
    with atomic_path(manifest) as new_manifest, atomic_path(path) as new_path:
        with new_path.open("wb", buffering=1 << 20) as file:
            writer = _Writer(file)
            yield writer
        write_json(new_manifest, writer.manifest())
        manifest.unlink(missing_ok=True)  # an older one would not belong to the new images
