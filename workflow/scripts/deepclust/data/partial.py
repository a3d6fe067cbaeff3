"""A file that has arrived in part: kept beside its final place until it is whole, also between processes."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from deepclust.core.errors import DeepclustError
from deepclust.core.files import read_json, write_json


@dataclass(frozen=True)
class Origin:
    """The origin of the bytes of a partial file.

    Attributes:
        source: address.
        validator: the server's word on the version of the file: a strong ETag or a date; empty: it says nothing.
    """

    source: str
    validator: str


class Partial:
    """The bytes of `target` so far, in `<target>.part`, and their origin, in `<target>.part.json`."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(f"{target.name}.part")
        self._record = target.with_name(f"{target.name}.part.json")

    @property
    def size(self) -> int:
        """Return the number of bytes so far."""
        return self.path.stat().st_size if self.path.is_file() else 0

    @property
    def origin(self) -> Origin | None:
        """Return the origin of the bytes; None if it is not known."""
        try:
            return Origin(**read_json(self._record))
        except (FileNotFoundError, DeepclustError, TypeError):
            return None

    def begin(self, origin: Origin, keep: int) -> None:
        """Keep the first `keep` bytes; those after them will come from `origin`."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self._record, {"source": origin.source, "validator": origin.validator})
        with self.path.open("ab") as file:
            file.truncate(keep)

    def discard(self) -> None:
        """Forget all bytes."""
        self.path.unlink(missing_ok=True)
        self._record.unlink(missing_ok=True)

    def hash(self, algorithm: str) -> str:
        """Return the hexadecimal hash of the bytes so far."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()

    def is_web_page(self) -> bool:
        """Tell whether the bytes so far begin like HTML."""
        with self.path.open("rb") as file:
            head = file.read(1024).removeprefix(b"\xef\xbb\xbf").lstrip().lower()
        return head.startswith((b"<!doctype html", b"<html"))

    def move_into_place(self) -> None:
        """Give the file its final name, after its content has reached the disk."""
        with self.path.open("rb") as file:
            os.fsync(file.fileno())
        self.path.replace(self.target)
        self.discard()
