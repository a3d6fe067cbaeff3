"""Content of a folder of images: the images, and whatever else is there."""

import functools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from deepclust.core.decoding import why_no_image
from deepclust.core.errors import DeepclustError
from deepclust.core.image_files import EXTENSIONS, Entry, ending, entries
from deepclust.data.names import printable


class FolderContent:
    """The files of a folder: each is an image or is passed over.

    Attributes:
        images: paths relative to the folder: files that decode, with any name, and files whose names are those of
            images, even if they do not decode.
        passed_over: all others, with the reason.
    """

    def __init__(self, folder: Path) -> None:
        """Look through a folder, and into files whose ending is not that of an image.

        Raises:
            DeepclustError: some folder cannot be read.
        """
        self.images: list[str] = []
        self.passed_over: list[tuple[str, str]] = []
        doubtful: list[str] = []
        for path, fault in look_through(folder):
            if fault:
                self._pass_over(path, fault)
            else:
                (self.images if ending(path) in EXTENSIONS else doubtful).append(path)
        for path, reason in _look_into(folder, doubtful):
            if reason is None:
                self.images.append(path)
            else:
                self._pass_over(path, reason)

    def _pass_over(self, path: str, reason: str) -> None:
        self.passed_over.append((printable(path), reason))


def look_through(folder: Path, hidden: bool = True) -> Iterator[Entry]:
    """Yield everything in a folder; see `deepclust.core.image_files.entries`.

    Raises:
        DeepclustError: some folder cannot be read.
    """
    try:
        yield from entries(folder, hidden)
    except OSError as error:
        raise DeepclustError(f"{folder} cannot be read: {error.strerror} ({error.filename})") from error


def _look_into(folder: Path, paths: list[str]) -> Iterator[tuple[str, str | None]]:
    """Yield every file, and why it is no image; None: it is one."""
    with ThreadPoolExecutor() as pool:
        yield from zip(paths, pool.map(_look_once, [folder / path for path in paths]))


def _look_once(path: Path) -> str | None:
    """Return why a file is no image.

    A job looks through its folders several times, and decodes a file only once while it stays the same.
    """
    try:
        status = path.stat()
    except OSError:
        return why_no_image(path)
    return _found(path, status.st_size, status.st_mtime_ns)


@functools.cache
def _found(path: Path, size: int, changed: int) -> str | None:
    return why_no_image(path)
