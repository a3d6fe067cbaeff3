"""Checksums that nobody has published: recorded at the first download, required of every later one.

A pin is a text file in the form of `sha256sum`, so that `sha256sum --check` reads it and people can share it.
"""

import re
from pathlib import Path

from deepclust.core.errors import DeepclustError
from deepclust.core.files import sha256_file, write_text
from deepclust.data.partial import Checksum


def read_pin(pin: Path) -> Checksum | None:
    """The checksum that was recorded; None before the first download.

    Raises:
        DeepclustError: the file holds none.
    """
    try:
        found = re.match(r"([0-9a-f]{64})\b", pin.read_text(encoding="utf-8", errors="replace"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DeepclustError(f"{pin} cannot be read: {error.strerror}") from error
    if found is None:
        raise DeepclustError(f"{pin} holds no SHA-256: delete it to accept the next download whatever it is")
    return Checksum("sha256", found[1])


def write_pin(pin: Path, file: Path) -> str:
    """Record the SHA-256 of `file` and return it."""
    value = sha256_file(file)
    write_text(pin, f"{value}  {file.name}\n")
    return value
