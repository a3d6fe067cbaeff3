"""Which files of a folder are images."""

import os
from collections.abc import Collection, Iterator
from pathlib import Path

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})


def image_paths(folder: Path, extensions: Collection[str] = EXTENSIONS) -> Iterator[str]:
    """Paths, relative to `folder`, of the image files (or others) in it at any depth, in no particular order.

    Hidden files and folders are left out. Links to folders are followed, but not upwards.
    """
    return _walk(folder, extensions, "", ())


def _walk(folder: Path, extensions: Collection[str], prefix: str, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    status = folder.stat()
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _walk(Path(entry.path), extensions, f"{prefix}{entry.name}/", (*above, here))
            elif Path(entry.name).suffix.lower() in extensions:
                yield prefix + entry.name
