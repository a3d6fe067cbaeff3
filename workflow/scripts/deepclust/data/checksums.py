"""Checksums of downloads.

One that nobody has published is recorded at the first download and required of later ones. The record is a text file in
the form of `sha256sum`, so that `sha256sum --check` reads it and people can share it.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from deepclust.core.errors import DeepclustError
from deepclust.core.files import sha256_file, write_text


@dataclass(frozen=True)
class Checksum:
    """An expected hash of the content, as `hashlib` names it."""

    algorithm: str
    value: str


def read_checksum(record: Path) -> Checksum | None:
    """Read the checksum that was recorded; None before the first download.

    Raises:
        DeepclustError: the file holds none.
    """
    try:
        found = re.match(r"([0-9a-f]{64})\b", record.read_text(encoding="utf-8", errors="replace"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DeepclustError(f"{record} cannot be read: {error.strerror}") from error
    if found is None:
        raise DeepclustError(f"{record} holds no SHA-256: delete it to accept the next download whatever it is")
    return Checksum("sha256", found[1])


def record_checksum(record: Path, file: Path) -> str:
    """Record the SHA-256 of `file` and return it."""
    value = sha256_file(file)
    write_text(record, f"{value}  {file.name}\n")
    return value
