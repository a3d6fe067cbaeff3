"""Whole files or none: atomic writes and checksums."""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deepclust.core.errors import DeepclustError

NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
NOT_WRITABLE = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG}
)


def by_split(files: Sequence[Path], splits: Sequence[str], backbones: int | None = None) -> dict[str, list[Path]]:
    """Group files that are ordered by split, and by backbone within a split.

    Args:
        backbones: how many there are; None: as many as the number of files tells.

    Raises:
        DeepclustError: the number of files does not fit.
    """
    each = backbones or len(files) // max(len(splits), 1)
    if not files or len(files) != len(splits) * each:
        given = f"{len(files)} files for {len(splits)} splits" + (f" and {backbones} backbones" if backbones else "")
        raise DeepclustError(f"{given}: give one for each split and backbone")
    return {split: list(files[i * each : (i + 1) * each]) for i, split in enumerate(splits)}


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; move it to `path` if the block succeeds, else remove it.

    The content is flushed to disk before the move, so a result that has its final name is whole even after a power
    cut. Works for files; the block creates the temporary one.

    Raises:
        DeepclustError: the disk is full or the folder cannot be written.
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        with explain_disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
            os.close(handle)
            temporary = Path(name)
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def explain_disk_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's errors while `path` is written into one line that a user can act on.

    Raises:
        DeepclustError: the disk is full or the folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in NO_SPACE:
            raise DeepclustError(
                f"no space left while writing {path} ({error.strerror}): free some space or use another folder "
                "(snakemake --directory)"
            ) from error
        if error.errno in NOT_WRITABLE and _is_about(error.filename, path):
            raise DeepclustError(f"cannot write {path}: {error.strerror} ({error.filename})") from error
        raise


def _is_about(filename: Any, path: Path) -> bool:
    """Tell whether an error's file is one of the folders on the way to `path`, or next to it."""
    if not isinstance(filename, str):
        return False
    file, folder = Path(filename).absolute(), path.absolute().parent
    return file.is_relative_to(folder) or folder.is_relative_to(file)


def _umask() -> int:
    value = os.umask(0)
    os.umask(value)
    return value


def write_text(path: Path, text: str) -> None:
    """Write `text` (UTF-8) to `path` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON to `path` atomically; refuse NaN and infinity (use None)."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        DeepclustError: the file is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DeepclustError(f"{path} is not valid JSON ({error}): delete it and run the workflow again") from error


def write_array(path: Path, array: np.ndarray) -> None:
    """Write `array` as .npy to `path` atomically.

    Raises:
        ValueError: the array holds Python objects, which only pickle could store.
    """
    array = np.asarray(array, order="C")
    if array.dtype.hasobject:
        raise ValueError(f"{path}: an array of objects cannot be stored")
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        # Not np.save: on a full disk it raises an error without a number.
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        file.write(array.data)


def write_tensors(path: Path, tensors: dict[str, np.ndarray], metadata: dict[str, str] | None = None) -> None:
    """Write named numpy arrays as .safetensors to `path` atomically."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    contiguous = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    with atomic_path(path) as temporary:
        try:
            save_file(contiguous, temporary, metadata=metadata)
        except SafetensorError as error:
            # The library hides the operating system's error in its message.
            if number := re.search(r"os error (\d+)", str(error)):
                raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
            raise


def remove_damaged_tensors(path: Path) -> None:
    """Remove a .safetensors file that is there but not whole, with a warning."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return
    try:
        with safe_open(path, "numpy"):
            pass
    except SafetensorError as error:
        print(f"warning: {path} is damaged ({error}): what it held is computed again", file=sys.stderr, flush=True)
        path.unlink()


def json_digest(value: Any) -> str:
    """Return the hexadecimal SHA-256 of a value as JSON with sorted keys: dicts may differ in their order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's content, read in blocks."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder, which takes the place of the folder `path` if the block succeeds.

    Raises:
        DeepclustError: the disk is full or the folder cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.partial")
    try:
        with explain_disk_errors(path):
            remove_tree(temporary)
            temporary.mkdir(parents=True)
            yield temporary
            remove_tree(path)
            temporary.replace(path)
    finally:
        remove_tree(temporary)


def remove_tree(path: Path) -> None:
    """Remove a folder and all in it; nothing happens if it does not exist."""
    shutil.rmtree(path, ignore_errors=True)
