"""The prepared images of one split: one file of bytes, one small manifest, opened without loading anything.

`images.bin` holds either all pixels (raw: uint8, planes first, for sets of one small size) or the encoded files one after
the other (JPEG, PNG …) followed by their offsets. `images.json` says which. Image ids are row numbers; nothing in either
file tells a label or a file name.
"""

import hashlib
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from deepclust.common.errors import DeepclustError
from deepclust.common.files import atomic_path, read_json, write_json

FORMAT = 1


class Images:
    """Read access to a prepared split.

    Attributes:
        count: number of images N.
        shape: (C, H, W) of raw images, None for encoded ones.
        channels: 1 or 3.
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
            raise DeepclustError(f"{manifest} has format {self.manifest.get('format')}, expected {FORMAT}: delete it and prepare again")
        self.count: int = self.manifest["count"]
        self.channels: int = self.manifest["channels"]
        self.shape: tuple[int, int, int] | None = tuple(self.manifest["shape"]) if self.manifest["shape"] else None
        self.mean: list[float] | None = self.manifest["mean"]
        self.std: list[float] | None = self.manifest["std"]
        self.sha256: str = self.manifest["sha256"]
        if path.stat().st_size != self.manifest["bytes"]:
            raise DeepclustError(f"{path} has {path.stat().st_size} bytes, its manifest says {self.manifest['bytes']}: delete both and prepare again")
        self._path = path
        if self.shape is not None:
            self._pixels = np.memmap(path, np.uint8, "r", shape=(self.count, *self.shape)) if self.count else np.empty((0, *self.shape), np.uint8)
        else:
            at = self.manifest["offsets_at"]
            self._offsets = np.memmap(path, np.int64, "r", offset=at, shape=(self.count + 1,))
            self._bytes = np.memmap(path, np.uint8, "r", shape=(at,)) if at else np.empty(0, np.uint8)

    def __len__(self) -> int:
        return self.count

    def pixels(self, indices: Sequence[int] | npt.NDArray[np.integer] | slice) -> npt.NDArray[np.uint8]:
        """Raw images, uint8 [n, C, H, W], copied out of the memory map. Only for raw storage."""
        assert self.shape is not None, "encoded images have no common shape: use encoded() or decode()"
        return np.array(self._pixels[indices])

    def read(self, start: int, stop: int) -> npt.NDArray[np.uint8]:
        """Raw images `start` to `stop`, uint8 [n, C, H, W], by an ordinary read: a pass over all does not grow in memory."""
        assert self.shape is not None
        size = int(np.prod(self.shape))
        flat = np.fromfile(self._path, np.uint8, count=(stop - start) * size, offset=start * size)
        return flat.reshape(-1, *self.shape)

    def encoded(self, index: int) -> bytes:
        """The bytes of one encoded image, as they were in its file. Only for encoded storage."""
        assert self.shape is None
        return self._bytes[int(self._offsets[index]) : int(self._offsets[index + 1])].tobytes()

    def decode(self, index: int) -> npt.NDArray[np.uint8]:
        """One image as uint8 [C, H, W], whatever the storage. Orientation tags are honoured; palettes become RGB.

        Raises:
            DeepclustError: the bytes are not an image.
        """
        if self.shape is not None:
            return np.array(self._pixels[index])
        return decode_image(self.encoded(index), self.channels, f"image {index} of {self._path}")


def decode_image(data: bytes, channels: int, name: str) -> npt.NDArray[np.uint8]:
    """Decode one image file to uint8 [C, H, W] with 1 or 3 channels.

    Raises:
        DeepclustError: `name` does not decode.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(data)) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB" if channels == 3 else "L")
    except Exception as error:  # Pillow's decoders raise almost anything on damaged bytes
        raise DeepclustError(f"{name} does not decode ({error}): replace or remove it") from error
    pixels = np.asarray(upright)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1) if channels == 3 else pixels[None])


def write_raw(folder: Path, blocks: Iterable[npt.NDArray[np.uint8]], shape: tuple[int, int, int]) -> int:
    """Write raw images, given in blocks of uint8 [n, C, H, W], as the prepared split `folder`; return their number."""
    with _Writer(folder) as writer:
        total, squares, count = np.zeros(shape[0]), np.zeros(shape[0]), 0
        for block in blocks:
            assert block.dtype == np.uint8 and block.shape[1:] == shape
            writer.write(np.ascontiguousarray(block).data.cast("B"))
            histogram = [np.bincount(block[:, c].ravel(), minlength=256) for c in range(shape[0])]
            total += [h @ np.arange(256) for h in histogram]
            squares += [h @ np.arange(256) ** 2 for h in histogram]
            count += len(block)
        pixels = max(1, count * shape[1] * shape[2])
        mean = total / pixels / 255
        std = np.sqrt(np.maximum(squares / pixels / 255**2 - mean**2, 0))
        writer.finish(count=count, channels=shape[0], shape=list(shape), mean=mean.tolist(), std=std.tolist(), offsets_at=None)
    return count


def write_encoded(folder: Path, files: Iterable[bytes], channels: int) -> int:
    """Write encoded images as the prepared split `folder`, byte for byte; return their number."""
    with _Writer(folder) as writer:
        offsets = [0]
        for data in files:
            writer.write(data)
            offsets.append(offsets[-1] + len(data))
        padding = -offsets[-1] % 8
        writer.write(bytes(padding))
        writer.write(np.asarray(offsets, np.int64).tobytes())
        writer.finish(count=len(offsets) - 1, channels=channels, shape=None, mean=None, std=None, offsets_at=offsets[-1] + padding)
    return len(offsets) - 1


class _Writer:
    """Streams `images.bin` to a temporary file, then puts it and its manifest into place."""

    def __init__(self, folder: Path) -> None:
        self._folder = Path(folder)
        self._target = atomic_path(self._folder / "images.bin")
        self._hash = hashlib.sha256()
        self._size = 0
        self._manifest: dict[str, Any] | None = None

    def __enter__(self) -> "_Writer":
        self._file = self._target.__enter__().open("wb", buffering=1 << 20)
        return self

    def write(self, data: bytes | memoryview) -> None:
        self._file.write(data)
        self._hash.update(data)
        self._size += len(data)

    def finish(self, **facts: Any) -> None:
        storage = "raw" if facts["shape"] else "encoded"
        self._manifest = {"format": FORMAT, "storage": storage, **facts, "bytes": self._size, "sha256": self._hash.hexdigest()}

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self._file.close()
        except OSError as closing:  # a full disk may show only now
            if not self._target.__exit__(type(closing), closing, closing.__traceback__):
                raise
        self._target.__exit__(kind, error, trace)
        if kind is None and self._manifest is not None:
            write_json(self._folder / "images.json", self._manifest)
