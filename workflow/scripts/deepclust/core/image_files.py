"""The images among the files of a folder, as far as their names tell; `prepare` goes by their content."""

import os
import stat
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

EXTENSIONS = frozenset(
    f".{ending}"
    for line in (
        "apng avif bmp dib gif heic heics heif heifs hif ico j2c j2k jfif jp2 jpc jpe jpeg jpf jpg jpx",
        "mpo pbm pcx pgm png pnm ppm psd qoi sgi tga tif tiff webp",
    )
    for ending in line.split()
)
"""Endings of files that are expected to be images: one that is none is damaged."""

OTHERS = frozenset(
    f".{ending}"
    for line in (
        "avi bib csv db doc docx eps gz h5 hdf5 htm html ini ipynb js json jsonl log m4a mat md mkv mov mp3 mp4 mpeg",
        "mpg npy npz parquet pdf pickle pkl pt pth py rst rtf safetensors sh sqlite svg tar tex tgz toml tsv txt wav",
        "webm wmf xls xlsx xml xmp xz yaml yml zip",
    )
    for ending in line.split()
)
"""Endings of files that are expected to be none."""

HIDDEN = "hidden"
SPECIAL = "not a regular file"
UPWARDS = "a link to a folder that it is in"


class Entry(NamedTuple):
    """Something in a folder that is no folder.

    Attributes:
        path: relative to the folder.
        fault: why it is none of the files to look into, or empty.
    """

    path: str
    fault: str = ""


def entries(folder: Path, hidden: bool = True) -> Iterator[Entry]:
    """Yield everything in a folder, at any depth, in no particular order.

    Links to folders are followed, but not upwards. A link to nowhere, or in a circle, is a file: the error comes when
    it is read.

    Args:
        hidden: whether to name hidden files, and those in hidden folders, too.

    Raises:
        OSError: some folder cannot be looked through.
    """
    yield from _walk(folder, "", (), hidden, "")


def _walk(folder: Path, prefix: str, above: tuple[tuple[int, int], ...], hidden: bool, fault: str) -> Iterator[Entry]:
    status = folder.stat()
    here = (status.st_dev, status.st_ino)
    if here in above:
        yield Entry(prefix.rstrip("/"), fault or UPWARDS)
        return
    with os.scandir(folder) as found:
        for entry in found:
            reason = fault or (HIDDEN if entry.name.startswith(".") else "")
            if reason and not hidden:
                continue
            if _is_folder(entry):
                yield from _walk(Path(entry.path), f"{prefix}{entry.name}/", (*above, here), hidden, reason)
            else:
                yield Entry(prefix + entry.name, reason or (SPECIAL if _is_special(entry) else ""))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle, or into a folder that is closed
        return False


def _is_special(entry: os.DirEntry[str]) -> bool:
    return not entry.is_file(follow_symlinks=False) and is_special(Path(entry.path))


def is_special(path: Path) -> bool:
    """Tell whether a path leads to a pipe, a socket or a device, which a program may wait for without end."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def read_regular(path: Path) -> bytes:
    """Return the content of a file.

    Raises:
        OSError: it cannot be read, or is no regular file.
    """
    if is_special(path):
        raise OSError(0, SPECIAL, str(path))
    return path.read_bytes()


def files_with(folder: Path, extensions: Collection[str]) -> Iterator[str]:
    """Yield paths, relative to `folder`, of the files in it that have one of these endings, but no hidden ones."""
    return (
        entry.path for entry in entries(folder, hidden=False) if not entry.fault and ending(entry.path) in extensions
    )


def image_paths(folder: Path) -> Iterator[str]:
    """Yield paths, relative to `folder`, of the files in it that may be images, by their names.

    No file is opened. Hidden files are left out, and files whose ending stands for something else, such as a text.
    """
    return (entry.path for entry in entries(folder, hidden=False) if not entry.fault and may_be_image(entry.path))


def may_be_image(path: str) -> bool:
    """Tell whether a file may be an image, by the ending of its path."""
    return ending(path) not in OTHERS


def ending(path: str) -> str:
    """Return the ending of a path in small letters, with its dot; many times as fast as `pathlib`."""
    name = path[path.rfind("/") + 1 :]
    dot = name.rfind(".")
    return name[dot:].lower() if dot > 0 else ""
