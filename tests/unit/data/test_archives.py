import contextlib
import random
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepclust.core.errors import DeepclustError
from deepclust.data.formats.archives import read_tar

CONTENTS = {"set/a.bin": random.Random(0).randbytes(3000), "set/b.bin": random.Random(1).randbytes(2000)}
SIZES = {name: len(content) for name, content in CONTENTS.items()}


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = target
    return info


def test_wanted_members_are_read_wherever_they_are(make_tar):
    members = [
        special("set", tarfile.DIRTYPE),
        ("set/readme.html", b"hello"),
        ("./set/b.bin", CONTENTS["set/b.bin"]),
        special("latest", tarfile.SYMTYPE, "/etc/passwd"),
        ("set/a.bin", CONTENTS["set/a.bin"]),
        ("set/sub/a.bin", b"another"),
    ]
    assert read_tar(make_tar(members), SIZES) == CONTENTS


def test_an_archive_that_is_not_there(tmp_path):
    with pytest.raises(DeepclustError, match="is missing"):
        read_tar(tmp_path / "none.tar.gz", SIZES)
    with pytest.raises(DeepclustError, match="cannot be read"):
        read_tar(tmp_path, SIZES)


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>"])
def test_a_file_that_is_no_archive(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(DeepclustError, match="damaged"):
        read_tar(tmp_path / "x", SIZES)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.7, 0.99])
def test_a_truncated_archive(make_tar, share):
    path = make_tar(CONTENTS.items())
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(DeepclustError, match="damaged"):
        read_tar(path, SIZES)


@given(position=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_damage_anywhere_is_an_error_or_harmless(tmp_path_factory, position, flip):
    folder = tmp_path_factory.mktemp("damage")
    with tarfile.open(folder / "whole", "w:gz") as tar:
        for name, content in CONTENTS.items():
            (folder / "content").write_bytes(content)
            tar.add(folder / "content", name)
    data = bytearray((folder / "whole").read_bytes())
    data[int(position * len(data))] ^= flip
    (folder / "damaged").write_bytes(data)
    with contextlib.suppress(DeepclustError):
        assert read_tar(folder / "damaged", SIZES) == CONTENTS


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        (("../outside", b"x"), "leaves the archive"),
        (("set/../../outside", b"x"), "leaves the archive"),
        (("/etc/cron.d/x", b"x"), "leaves the archive"),
        (("set/a.bin", CONTENTS["set/a.bin"]), "twice"),
    ],
)
def test_an_archive_that_holds_what_it_should_not(make_tar, extra, reason):
    with pytest.raises(DeepclustError, match=reason):
        read_tar(make_tar([*CONTENTS.items(), extra]), SIZES)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_a_wanted_member_that_is_no_file(make_tar, kind):
    members = [("set/b.bin", CONTENTS["set/b.bin"]), special("set/a.bin", kind, "set/b.bin")]
    with pytest.raises(DeepclustError, match="link or a special file"):
        read_tar(make_tar(members), SIZES)


def test_a_member_is_missing(make_tar):
    with pytest.raises(DeepclustError, match=r"lacks set/b\.bin"):
        read_tar(make_tar([("set/a.bin", CONTENTS["set/a.bin"])]), SIZES)


@pytest.mark.parametrize("content", [b"", CONTENTS["set/a.bin"][:-1], CONTENTS["set/a.bin"] + b"x"])
def test_a_member_of_another_size(make_tar, content):
    with pytest.raises(DeepclustError, match=rf"{len(content)} bytes, expected 3000"):
        read_tar(make_tar([("set/a.bin", content), ("set/b.bin", CONTENTS["set/b.bin"])]), SIZES)
