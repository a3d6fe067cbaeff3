"""Reading tar archives that may be damaged or hostile. Nothing is ever unpacked to disk."""

import gzip
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from deepclust.common.errors import DeepclustError

_DRAIN = 1 << 20


def read_tar(archive: Path, sizes: Mapping[str, int]) -> dict[str, bytes]:
    """The content of some members of a .tar.gz, in one pass to the end, which verifies gzip's own checksum.

    Other members are ignored, as long as they are harmless.

    Args:
        sizes: the wanted members and how many bytes each must have.

    Raises:
        DeepclustError: the archive is damaged; a wanted member is missing, there twice, no ordinary file or of another
            size; or some member's path leaves the archive.
    """
    found: dict[str, bytes] = {}
    try:
        with gzip.open(archive) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
            for member in tar:
                name = _safe_name(archive, member)
                if name not in sizes:
                    continue
                if name in found:
                    raise DeepclustError(f"{archive} holds {name} twice: it is not the official archive")
                found[name] = _content(archive, tar, member, sizes[name])
            while stream.read(_DRAIN):
                pass
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DeepclustError(f"{archive} is damaged ({error}): delete it and get it again") from error
    except FileNotFoundError as error:
        raise DeepclustError(f"{archive} is missing: download it first") from error
    except OSError as error:
        raise DeepclustError(f"{archive} cannot be read: {error.strerror}") from error
    if missing := sorted(set(sizes) - set(found)):
        raise DeepclustError(f"{archive} lacks {', '.join(missing)}: it is not the official archive")
    return found


def _safe_name(archive: Path, member: tarfile.TarInfo) -> str:
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        raise DeepclustError(f"{archive} holds the path {member.name!r}, which leaves the archive: do not trust it")
    return str(path)


def _content(archive: Path, tar: tarfile.TarFile, member: tarfile.TarInfo, size: int) -> bytes:
    file = tar.extractfile(member) if member.isreg() else None
    if file is None:
        raise DeepclustError(f"{archive}: {member.name} is a link or a special file, expected an ordinary one")
    if member.size != size:
        raise DeepclustError(f"{archive}: {member.name} has {member.size} bytes, expected {size}")
    return file.read()
