import gzip
import io
import tarfile

import pytest


@pytest.fixture
def make_tar(tmp_path):
    """A function that writes a .tar.gz of members: (name, content) pairs, or `TarInfo`s of links and the like."""

    def make(members, name="archive.tar.gz"):
        path = tmp_path / name
        with gzip.open(path, "wb", compresslevel=1) as file, tarfile.open(fileobj=file, mode="w|") as tar:
            for member in members:
                if isinstance(member, tarfile.TarInfo):
                    tar.addfile(member)
                    continue
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                tar.addfile(info, io.BytesIO(member[1]))
        return path

    return make
