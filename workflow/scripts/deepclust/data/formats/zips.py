"""Reading zip archives that may be damaged or hostile, without unpacking anything to disk."""

import stat
import zipfile
import zlib
from pathlib import Path

from deepclust.core.errors import DeepclustError
from deepclust.data.formats.archives import explain_damage, safe_name


class ZipArchive:
    """The files of a zip archive; several threads may read them at once.

    Attributes:
        names: their paths inside.
    """

    def __init__(self, path: Path) -> None:
        """Open an archive and read its table of contents.

        Raises:
            DeepclustError: it is missing or damaged, a path leaves it, or a path is there twice.
        """
        self.path = path
        with explain_damage(path):
            try:
                self._zip = zipfile.ZipFile(path)
            except zipfile.BadZipFile as error:
                raise DeepclustError(f"{path} is damaged ({error}): delete it and get it again") from error
        self._members: dict[str, zipfile.ZipInfo] = {}
        for info in self._zip.infolist():
            name = safe_name(path, info.filename)
            if info.is_dir():
                continue
            if name in self._members:
                raise DeepclustError(f"{path} holds {name} twice: it is not the official archive")
            self._members[name] = info
        self.names = list(self._members)

    def read(self, name: str) -> bytes:
        """Return the content of a file.

        Raises:
            DeepclustError: it is not there, is a link or a special file, or is damaged.
        """
        info = self._members.get(name)
        if info is None:
            raise DeepclustError(f"{self.path} lacks {name}: it is not the official archive")
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in {0, stat.S_IFREG}:
            raise DeepclustError(f"{self.path}: {name} is a link or a special file, expected an ordinary one")
        try:
            with explain_damage(self.path):
                return self._zip.read(info)
        except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError) as error:
            raise DeepclustError(f"{self.path}: {name} is damaged ({error}): get the archive again") from error
