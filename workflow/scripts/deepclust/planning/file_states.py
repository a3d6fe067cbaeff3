"""States of the user's files and folders, which change with them: parameters of the rules that read them.

Snakemake itself notices newer files only, and passes over an older one that takes the place of another.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from deepclust.core.files import sha256_file
from deepclust.core.image_files import files_with, image_paths

SMALL = 10**6  # bytes of a file whose content every plan looks at; Snakemake's own limit for that is the same


def file_state(path: Path) -> str:
    """Return a text that tells a file of the user's from an earlier or later one at its path.

    It is a small file's content, so that a copy is the same; a larger one's size and modification time.
    """
    status = path.stat()
    if status.st_size <= SMALL:
        return sha256_file(path)[:16]
    return f"{status.st_size} bytes of {status.st_mtime_ns}"


def listing_digest(folder: Path, watch: str = "images") -> str:
    """Return a digest of the names, sizes and modification times of all files of a kind below a folder.

    Any file that may be an image counts as one: its content is known only when it is prepared.

    Args:
        watch: `images`, or the ending of the files.
    """
    return files_digest(folder, image_paths(folder) if watch == "images" else files_with(folder, {watch}))


def files_digest(folder: Path, names: Iterable[str]) -> str:
    """Return a digest of names, relative to a folder, and of the sizes and modification times of these files.

    A file that cannot be looked at, such as a link to nowhere, counts as well: `prepare` names it or leaves it out.
    """
    digest = hashlib.sha256()
    for name in sorted(names):
        try:
            status = (folder / name).stat()
        except OSError:
            digest.update(_line(name, -1, 0))
        else:
            digest.update(_line(name, status.st_size, status.st_mtime_ns))
    return digest.hexdigest()[:16]


def folders_digest(folder: Path) -> str:
    """Return a digest of the names and modification times of all folders up to two levels below a folder.

    It changes with every added or removed file in them, at a cost that does not grow with the number of files.
    """
    digest = hashlib.sha256()
    level = [folder]
    for _ in range(2):
        level = sorted(path for parent in level for path in parent.iterdir() if path.is_dir())
        for path in level:
            digest.update(_line(str(path.relative_to(folder)), 0, path.stat().st_mtime_ns))
    return digest.hexdigest()[:16]


def _line(name: str, size: int, changed: int) -> bytes:
    return f"{name}\0{size}\0{changed}\n".encode("utf-8", "surrogateescape")
