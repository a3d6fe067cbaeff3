"""Reading tar archives that may be damaged or hostile, without unpacking anything to disk."""

import contextlib
import gzip
import posixpath
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from deepclust.core.errors import DeepclustError
from deepclust.data.names import printable

_DRAIN = 1 << 20
_TEXT = 1 << 20  # bytes; the longest text file that is believed


@dataclass(frozen=True)
class TarMember:
    """One member of a tar archive, while the archive is read.

    Attributes:
        archive: path of the archive.
        name: its path inside, normalised.
    """

    archive: Path
    name: str
    info: tarfile.TarInfo
    tar: tarfile.TarFile

    def read(self, size: int | None = None) -> bytes:
        """Return its content.

        Args:
            size: number of bytes that it must have, if known.

        Raises:
            DeepclustError: it is no ordinary file, of another size, or damaged.
        """
        return b"".join(self.blocks(self.info.size, size))

    def blocks(self, length: int, size: int | None = None) -> Iterator[bytes]:
        """Yield its content in blocks of `length` bytes, with the same errors as `read`."""
        with explain_damage(self.archive):
            file = self.tar.extractfile(self.info) if self.info.isreg() else None
            if file is None:
                raise DeepclustError(
                    f"{self.archive}: {self.name} is a link or a special file, expected an ordinary one"
                )
            if size is not None and self.info.size != size:
                raise DeepclustError(f"{self.archive}: {self.name} has {self.info.size} bytes, expected {size}")
            while block := file.read(length):
                yield block


def tar_members(archive: Path) -> Iterator[TarMember]:
    """Yield every member of a .tar or .tar.gz, in the order of the archive; each is read before the next is asked for.

    At the end the archive is known to be whole: gzip's own checksum, or the mark at the end of a plain .tar.

    Raises:
        DeepclustError: the archive is missing or damaged, or some member's path leaves it.
    """
    with explain_damage(archive), archive.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        with (
            gzip.open(file) if packed else contextlib.nullcontext(file) as stream,
            tarfile.open(fileobj=stream, mode="r|" if packed else "r:") as tar,
        ):
            while (info := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # kept for random access, which nobody wants here
                yield TarMember(archive, safe_name(archive, info.name), info, tar)
            if packed:
                while stream.read(_DRAIN):
                    pass
            else:
                stream.seek(tar.offset)
                if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                    raise DeepclustError(f"{archive} is damaged (its end is missing): delete it and get it again")


def read_tar(archive: Path, sizes: Mapping[str, int | None]) -> dict[str, bytes]:
    """Return the content of some members, in one pass to the end.

    Others are ignored, as long as they are harmless.

    Args:
        sizes: the wanted members and how many bytes each must have; None: a short text.

    Raises:
        DeepclustError: for the reasons of `tar_members`; or a wanted member is missing, there twice, no ordinary file
            or of another size.
    """
    found: dict[str, bytes] = {}
    for member in wanted_members(archive, sizes):
        size = sizes[member.name]
        if size is None and member.info.size > _TEXT:
            raise DeepclustError(f"{archive}: {member.name} has {member.info.size} bytes, expected a short text")
        found[member.name] = member.read(size)
    return found


def wanted_members(archive: Path, names: Mapping[str, object]) -> Iterator[TarMember]:
    """Yield the members with these names, each of which must be there once.

    Raises:
        DeepclustError: for the reasons of `tar_members`; or a wanted member is missing or there twice.
    """
    found: set[str] = set()
    for member in tar_members(archive):
        if member.name in found:
            raise DeepclustError(f"{archive} holds {member.name} twice: it is not the official archive")
        if member.name in names:
            found.add(member.name)
            yield member
    if missing := sorted(set(names) - found):
        raise DeepclustError(f"{archive} lacks {', '.join(missing)}: it is not the official archive")


@contextlib.contextmanager
def explain_damage(archive: Path) -> Iterator[None]:
    """Turn any error while an archive is read into one line.

    Raises:
        DeepclustError: the archive is missing or damaged, or cannot be read.
    """
    try:
        yield
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DeepclustError(f"{archive} is damaged ({error}): delete it and get it again") from error
    except FileNotFoundError as error:
        raise DeepclustError(f"{archive} is missing: download it first") from error
    except OSError as error:
        raise DeepclustError(f"{archive} cannot be read: {error.strerror}") from error


def safe_name(archive: Path, name: str) -> str:
    """Return the normalised path of a member.

    Raises:
        DeepclustError: it leaves the archive.
    """
    path = name.replace("\\", "/")
    if path.startswith("/") or ".." in path.split("/"):
        raise DeepclustError(f"{archive} holds the path {name!r}, which leaves the archive: do not trust it")
    return printable(posixpath.normpath(path))
