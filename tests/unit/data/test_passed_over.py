"""Which files of a folder count as images, and that all others are named: images + files skipped = files there."""

import csv
import io
import os
import socket
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from formats import FORMATS, Link, picture
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from deepclust.core.decoding import why_no_image
from deepclust.core.errors import DeepclustError
from deepclust.core.images import Images
from deepclust.core.progress import Progress
from deepclust.data import folders
from deepclust.data.loaders import folder, list, parquet, shards
from deepclust.data.writing import write_split
from deepclust.planning.file_states import listing_digest
from deepclust.planning.plan import splits_of
from deepclust.planning.schema import Schema

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (12, 16, 3), np.uint8)


def encoded(kind, **options):
    import pillow_heif

    pillow_heif.register_heif_opener()
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, kind, **options)
    return file.getvalue()


def with_brand(data, brand):
    """A HEIF file whose major brand is another one, as some phones write it."""
    return data[:8] + brand + data[12:]


def thumbnail_of_raw():
    """As DNG, NEF and ARW begin: the first picture is a small one of others (tag 254), which are elsewhere (330)."""
    return encoded("TIFF", tiffinfo={254: 1, 330: 8})


PHOTOS = {
    "a.heic": encoded("HEIF"),
    "b.HIF": with_brand(encoded("HEIF"), b"mif1"),
    "c.avif": encoded("AVIF"),
    "d.jfif": encoded("JPEG"),
    "e.jpe": encoded("JPEG"),
    "f.jp2": encoded("JPEG2000"),
    "g.tif": encoded("TIFF", compression="tiff_lzw"),
    "h.TIFF": encoded("TIFF", compression="jpeg"),
    "i": encoded("PNG"),
    "j.dat": encoded("WEBP"),
    "k.CR2": encoded("JPEG"),
    "l.tga": encoded("TGA"),
    "m.ppm": encoded("PPM"),
    "n.bmp.old": encoded("BMP"),
    "o.jpg": encoded("PNG"),
}
OTHER = {
    "notes.txt": b"hello",
    "IMG_1.CR2": b"II*\0\x10\0\0\0CR\2\0" + bytes(100),
    "IMG_2.NEF": thumbnail_of_raw(),
    "Thumbs.db": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600),
    "figure.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n",
    "clip.mpg": b"\0\0\1\xb3\x10\0\x10\0" + bytes(100),
    "empty": b"",
    ".DS_Store": b"\0\0\0\1Bud1",
    "._a.heic": b"\0\5\x16\7",
    ".thumbs/a.png": picture(),
}


def write(place, files):
    for name, content in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)


def prepare(place, out, loader=folder, **options):
    """Names of the images and of the files that were skipped, with reasons."""
    split = loader.read_split(loader.Options(path=place, **options), "train", [])
    write_split(split, out / "i", out / "l", progress=Progress(), threads=2)
    images = [row["path"] for row in rows(out / "l" / "ids.csv")]
    skipped = {row["path"]: row["reason"] for row in rows(out / "l" / "skipped.csv")}
    assert Images(out / "i").skipped == len(skipped)
    return images, skipped


def rows(path):
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [*csv.DictReader(file)]


def everything(place):
    """Whatever is below a folder but folders."""
    return sorted(str(path.relative_to(place)) for path in place.rglob("*") if not path.is_dir())


def test_what_decodes_is_an_image_and_all_else_is_named(tmp_path):
    place = tmp_path / "photos"
    write(place, {f"cat/{name}": content for name, content in (PHOTOS | OTHER).items()})
    write(place, {"raw/IMG_3.CR2": OTHER["IMG_1.CR2"]})
    images, skipped = prepare(place, tmp_path)
    assert sorted(images) == [f"cat/{name}" for name in PHOTOS]
    assert sorted([*images, *skipped]) == everything(place)
    assert (tmp_path / "l" / "classes.json").read_text().split('"')[1::2] == ["cat"]
    assert "thumbnail" in skipped["cat/IMG_2.NEF"] and skipped["cat/.DS_Store"] == "hidden"
    decoded = Images(tmp_path / "i")
    for number in range(len(images)):
        assert decoded.decode(number).shape == (3, 12, 16)


def test_planning_counts_and_watches_the_same_images(tmp_path):
    facts = Schema().facts("loader", "folder")
    place = tmp_path / "photos"
    place.mkdir()
    digests = {listing_digest(place)}
    for number, (name, content) in enumerate(PHOTOS.items(), 1):
        write(place, {name: content})
        digests.add(listing_digest(place))
        assert splits_of({"loader": "folder", "path": str(place)}, facts) == {"train": number}
    assert len(digests) == len(PHOTOS) + 1
    write(place, {"notes.txt": b"hello", ".hidden.png": picture()})
    assert listing_digest(place) in digests
    assert splits_of({"loader": "folder", "path": str(place)}, facts) == {"train": len(prepare(place, tmp_path)[0])}


def test_other_files_are_not_read_to_their_end(tmp_path):
    write(tmp_path / "photos", {"1.png": picture(), "disk.img": b""})
    os.truncate(tmp_path / "photos" / "disk.img", 1 << 42)
    assert prepare(tmp_path / "photos", tmp_path) == (["1.png"], {"disk.img": "not an image"})


def test_a_folder_of_other_files_says_what_they_are(tmp_path):
    write(tmp_path, {"IMG_1.CR2": OTHER["IMG_1.CR2"]})
    with pytest.raises(DeepclustError, match=r"no images, only IMG_1\.CR2 \("):
        folder.read_split(folder.Options(path=tmp_path), "train", [])


FILES = st.dictionaries(
    st.tuples(
        st.sampled_from(["", "cat/", "cat/old/", ".git/", "dog/.cache/"]),
        st.sampled_from(["a", "b", ".c", "é"]),
        st.sampled_from([".png", ".JPG", ".heic", ".txt", ".CR2", ""]),
    ),
    st.sampled_from(["image", "text", "broken", "nowhere", "circle", "pipe"]),
    max_size=12,
)


def make(path, kind):
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind in ("nowhere", "circle"):
        path.symlink_to("/nowhere/at/all" if kind == "nowhere" else path)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.write_bytes({"image": PHOTOS["c.avif"], "text": b"hello", "broken": PHOTOS["i"][:99]}[kind])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=FILES)
def test_images_and_files_skipped_are_all_files_there(files, tmp_path_factory):
    out = tmp_path_factory.mktemp("tree")
    write(out / "photos", {"there.png": picture()})
    for (where, stem, suffix), kind in files.items():
        make(out / "photos" / f"{where}{stem}{suffix}", kind)
    images, skipped = prepare(out / "photos", out, on_error="skip", skip_limit=1, class_folders=False)
    assert not set(images) & set(skipped)
    assert sorted([*images, *skipped]) == everything(out / "photos")
    visible = {f"{w}{n}{e}" for (w, n, e), kind in files.items() if kind == "image" and "/." not in f"/{w}{n}"}
    assert set(images) == {"there.png", *visible}


def specials(place):
    """A pipe, a socket, a link to a pipe and a link in a circle, which are called images."""
    place.mkdir(parents=True, exist_ok=True)
    os.mkfifo(place / "pipe.jpg")
    here = Path.cwd()
    os.chdir(place)  # names of sockets are short
    try:
        socket.socket(socket.AF_UNIX).bind("socket.png")
    finally:
        os.chdir(here)
    (place / "link.png").symlink_to("pipe.jpg")
    (place / "circle.png").symlink_to("circle.png")


@pytest.mark.timeout(60)
def test_what_is_no_regular_file_is_passed_over(tmp_path):
    write(tmp_path / "photos", {f"cat/{number}.png": picture() for number in range(3)})
    specials(tmp_path / "photos" / "cat")
    (tmp_path / "photos" / "cat" / "loop").symlink_to("loop")
    (tmp_path / "photos" / "cat" / "up").symlink_to("..")
    images, skipped = prepare(tmp_path / "photos", tmp_path, on_error="skip")
    assert (len(images), len(skipped)) == (3, 6)
    assert "Too many levels" in skipped["cat/circle.png"] and "regular" in skipped["cat/pipe.jpg"]
    assert splits_of({"path": str(tmp_path / "photos")}, Schema().facts("loader", "folder"))["train"] >= 3
    with pytest.raises(DeepclustError, match=r"1 of 4 images do not decode: cat/circle\.png"):
        prepare(tmp_path / "photos", tmp_path / "again")


@pytest.mark.timeout(60)
def test_a_list_may_name_what_is_no_regular_file(tmp_path):
    specials(tmp_path)
    names = ["pipe.jpg", "socket.png", "link.png", "circle.png", *(f"{number}.png" for number in range(4))]
    write(tmp_path, {name: picture() for name in names[4:]} | {"list.txt": "\n".join(names).encode()})
    images, skipped = prepare(tmp_path / "list.txt", tmp_path, list, on_error="skip")
    assert (sorted(images), sorted(skipped)) == (names[4:], sorted(names[:4]))
    with pytest.raises(DeepclustError, match="4 of 8 images do not decode"):
        prepare(tmp_path / "list.txt", tmp_path, list)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("loader", "pipe"), [(shards, "z.tar"), (parquet, "data/train-9.parquet")])
def test_containers_that_are_no_regular_files(loader, pipe, tmp_path):
    name = loader.__name__.rpartition(".")[2]
    FORMATS[name].pack(tmp_path / "source", FORMATS[name].members)
    os.mkfifo(tmp_path / "source" / pipe)
    images, skipped = prepare(tmp_path / "source", tmp_path, loader)
    assert set(images) == set(FORMATS[name].labels)
    assert skipped == {pipe: "not a regular file"}


def test_samples_without_images_are_named(tmp_path):
    format = FORMATS["shards"].with_members(**{"b/4.cr3": b"raw", "b/4.json": b"{}", "b/5.heic": PHOTOS["a.heic"]})
    format.pack(tmp_path / "source", format.members)
    images, skipped = prepare(tmp_path / "source", tmp_path, shards)
    assert set(images) == {*format.labels, "b.tar/5.heic"}
    assert skipped == {"b.tar/4": "no image"}


def test_other_files_in_folders_of_imagenet_are_named(tmp_path):
    format = FORMATS["imagenet"]
    wnid = format.wanted.split("/")[1]
    names = {f"train/{wnid}/notes.txt": b"x", f"train/{wnid}/loop": Link("loop")}
    _, labels = format.with_members(**names).prepare(tmp_path)
    assert labels == format.labels
    assert [row["path"] for row in rows(tmp_path / "l" / "skipped.csv")] == [f"{wnid}/loop", f"{wnid}/notes.txt"]


@pytest.mark.parametrize(("missing", "options", "fine"), [
    (18, {}, True),
    (19, {}, False),
    (19, {"skip_limit": 0.6}, True),
    (35, {"skip_limit": 1}, True),
    (36, {"skip_limit": 1}, False),
    (1, {"skip_limit": 0}, False),
])  # fmt: skip
def test_a_list_may_miss_half_of_its_images(missing, options, fine, tmp_path, capsys):
    names = [f"{number}.png" for number in range(36)]
    write(tmp_path, {name: picture() for name in names[missing:]} | {"list.txt": "\n".join(names).encode()})
    if not fine:
        with pytest.raises(DeepclustError, match=f"{missing} of 36 images do not decode") as error:
            prepare(tmp_path / "list.txt", tmp_path, list, on_error="skip", **options)
        assert ("skip_limit" in str(error.value)) == (missing < 36)
        assert not (tmp_path / "l" / "skipped.csv").exists()
        return
    images, skipped = prepare(tmp_path / "list.txt", tmp_path, list, on_error="skip", **options)
    assert (len(images), len(skipped)) == (36 - missing, missing)
    assert f"{36 - missing} images, {missing} files skipped ({missing} No such file" in capsys.readouterr().err


def test_every_loader_of_images_keeps_to_the_limit(tmp_path):
    for loader in ("folder", "list", "parquet", "shards", "imagenet"):
        format = FORMATS[loader]
        broken = replace(format.with_members(**{format.image: b"broken"}), count=None)
        with pytest.raises(DeepclustError, match="skip_limit"):
            broken.prepare(tmp_path / loader, on_error="skip", skip_limit=0.01)


def test_a_file_is_decoded_once_to_tell_what_it_is(tmp_path, monkeypatch):
    """A job looks through its folders for the classes of both splits, for what is in both, and for its images."""
    looked = []
    monkeypatch.setattr(folders, "why_no_image", lambda path: looked.append(path) or why_no_image(path))
    for name, content in {"a/1": picture(), "a/2": picture(), "b/3.JPG": picture(), "b/notes": b"no image"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    for _ in range(3):
        assert sorted(folders.FolderContent(tmp_path).images) == ["a/1", "a/2", "b/3.JPG"]
    assert sorted(looked) == [tmp_path / name for name in ("a/1", "a/2", "b/notes")]
    (tmp_path / "b" / "notes").write_bytes(picture())
    assert "b/notes" in folders.FolderContent(tmp_path).images
