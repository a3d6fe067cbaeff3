"""Every format in its official layout, whole and with every kind of damage."""

import io
import os
import pkgutil
from dataclasses import replace

import numpy as np
import pytest
from formats import FORMATS, Link, listed, picture, unpacked
from PIL import Image

from deepclust.core import registry
from deepclust.core.decoding import decode_image
from deepclust.core.errors import DeepclustError
from deepclust.core.progress import Progress
from deepclust.data import loaders
from deepclust.data.checksums import Checksum
from deepclust.data.downloading import download
from deepclust.data.splits import opaque_order

ARCHIVES = {
    f"{name}-{archive.file}": archive
    for name in sorted(module.name for module in pkgutil.iter_modules(loaders.__path__))
    for facts in [registry.load("data.loaders", name).FACTS]
    for archive in [
        *facts.archives,
        *(a for v in facts.variants.values() for x in v.values() for a in x.archives or ()),
    ]
}


@pytest.fixture(params=FORMATS)
def format(request, monkeypatch):
    found = FORMATS[request.param]
    module = registry.load("data.loaders", found.loader)
    for name, value in found.constants.items():
        monkeypatch.setattr(module, name, value)
    return found


def fails(format, folder, match, **options):
    with pytest.raises(DeepclustError, match=match) as error:
        format.prepare(folder, **options)
    assert "\n" not in str(error.value)
    assert not [name for part in ("i", "l") for _, _, names in os.walk(folder / part) for name in names]


def test_whole(format, tmp_path):
    images, labels = format.prepare(tmp_path)
    assert labels == format.labels
    assert len(images) == len(labels) == (format.count or len(labels))
    for index, name in enumerate(labels):
        if images.shape is None:  # the bytes are those of the file
            data = images.encoded(index)
            assert data in format.members.values()
            if name in format.members:
                assert data == format.members[name]
        elif format.image:  # stored as pixels
            np.testing.assert_array_equal(images.decode(index), decode_image(format.members[name], 3, name))
    if format.image:
        assert list(labels) == opaque_order(labels)


@pytest.mark.parametrize("loader", ["folder", "list", "parquet", "shards", "imagenet"])
def test_transparent_images_are_laid_on_white(loader, tmp_path):
    clear = picture(mode="RGBA", value=(9, 99, 199, 0))
    format = FORMATS[loader]
    images, labels = format.with_members(**{format.image: clear}).prepare(tmp_path)
    stored = [images.encoded(index) for index in range(len(labels))]
    assert (images.decode(stored.index(clear)) == 255).all()


def test_truncated(format, tmp_path):
    def cut(path):
        if path.suffix == ".tar":  # most of a small one is empty
            os.truncate(path, 700)
        elif path.suffix != ".csv":
            os.truncate(path, int(path.stat().st_size * 0.6))

    fails(format, tmp_path, "damaged|decode", damage=cut)


def test_cut_at_the_end_of_a_member(tmp_path):
    """Nothing in the last member tells that the archive goes on."""

    def cut(path):
        if path.name == "b.tar":
            os.truncate(path, 512 + 512)

    fails(FORMATS["shards"], tmp_path, "end is missing", damage=cut)


def test_empty_files(format, tmp_path):
    if not format.image or format.container:
        fails(format, tmp_path, "damaged|no IDX", damage=lambda path: os.truncate(path, 0))


def test_a_missing_member(format, tmp_path):
    if format.wanted:
        fails(format.with_members(**{format.wanted: None}), tmp_path, "lacks|images, expected|cannot be read|decode")


def test_extra_members_are_ignored(format, tmp_path):
    if format.container:
        extra = {"a/notes.txt": b"hello", "a/latest": Link("/etc/passwd")}
        assert format.with_members(**extra).prepare(tmp_path)[1] == format.labels


def test_more_images_than_there_should_be(format, tmp_path):
    if format.image and format.count:
        extra = format.image.replace(".JPEG", "7.JPEG")
        lines = {
            name: content + b"val_07.JPEG\tn01443537\n" for name, content in format.members.items() if "annot" in name
        }
        fails(format.with_members(**{extra: picture("JPEG", (64, 64))}, **lines), tmp_path, "images, expected")


@pytest.mark.parametrize("name", ["../outside", "x/../../outside", "/etc/outside", "..\\outside"])
def test_paths_that_leave_the_archive(format, tmp_path, name):
    if format.container:
        if format.loader == "shards":
            name = f"a/{name}"
        fails(format.with_members(**{name: b"x"}), tmp_path, "leaves the archive")
        assert not (tmp_path / "outside").exists()


def test_links_instead_of_files(format, tmp_path):
    if format.container:
        wanted = format.record_file or format.image
        fails(format.with_members(**{wanted: Link("/etc/passwd")}), tmp_path, "link or a special file")


@pytest.mark.parametrize(
    "change", [lambda data: data[:-1], lambda data: data + b"x", lambda data: data[: len(data) // 2]]
)
def test_a_wrong_number_of_records(format, tmp_path, change):
    if format.record_file:
        content = change(format.members[format.record_file])
        fails(format.with_members(**{format.record_file: content}), tmp_path, "bytes")


def test_a_label_out_of_range(format, tmp_path):
    if format.bad_label:
        member, content = format.bad_label
        fails(format.with_members(**{member: content}), tmp_path, "label|names|class")


def test_an_image_that_does_not_decode(format, tmp_path):
    if format.image:
        broken = format.with_members(**{format.image: b"\xff\xd8 no picture"})
        fails(broken, tmp_path, "1 of .* decode")
        if "on_error" in registry.load("data.loaders", format.loader).Options.model_fields:
            images, labels = replace(broken, count=None).prepare(tmp_path / "again", on_error="skip")
            assert len(images) == len(labels) == len(format.labels) - 1
            others = sum("readme" in name for name in format.members)
            assert (tmp_path / "again" / "l" / "skipped.csv").read_text().count("\n") == 2 + others


def test_a_link_to_nowhere(format, tmp_path):
    if format.pack in (unpacked, listed):
        broken = format.with_members(**{format.image: Link("/nowhere/at/all")})
        fails(broken, tmp_path, "1 of .* decode.*No such file")
        _, labels = replace(broken, count=None).prepare(tmp_path / "again", on_error="skip")
        assert len(labels) == len(format.labels) - 1
        assert format.image.split("/")[-1] in (tmp_path / "again" / "l" / "skipped.csv").read_text()


@pytest.mark.parametrize("archive", ARCHIVES.values(), ids=ARCHIVES)
def test_a_wrong_checksum(archive, tmp_path):
    (tmp_path / "other").write_bytes(b"something else")
    for algorithm in ("sha256", "md5"):
        if value := getattr(archive, algorithm):
            with pytest.raises(DeepclustError, match=f"wrong checksum: {algorithm}"):
                download([str(tmp_path / "other")], tmp_path / archive.file, Checksum(algorithm, value), Progress())
    assert os.listdir(tmp_path) == ["other"]


def test_tiny_imagenet_is_stored_as_pixels(tmp_path):
    images, labels = replace(FORMATS["tiny_imagenet"], split="train", count=3).prepare(tmp_path)
    assert (images.shape, sorted(labels.values())) == ((3, 64, 64), [0, 0, 1])
    assert (tmp_path / "l" / "classes.json").read_text().split('"')[1::2] == ["goldfish", "salamander"]


def test_a_tiny_imagenet_image_of_another_size(tmp_path):
    format = FORMATS["tiny_imagenet"]
    fails(format.with_members(**{format.image: picture("JPEG", (64, 63))}), tmp_path, "3×63×64, expected 3×64×64")


def test_coarse_labels_of_cifar100(tmp_path, monkeypatch):
    format = FORMATS["cifar100"]
    monkeypatch.setattr(registry.load("data.loaders", "cifar100"), "RECORDS", {"train": 3})
    _, labels = format.prepare(tmp_path, labels="coarse")
    assert list(labels.values()) == [0, 0, 0]
    assert "coarse19" in (tmp_path / "l" / "classes.json").read_text()
    wrong = bytearray(format.members["cifar-100-binary/train.bin"])
    wrong[3074] = 20
    fails(
        format.with_members(**{"cifar-100-binary/train.bin": bytes(wrong)}), tmp_path / "x", "label 20", labels="coarse"
    )


def test_pixels_of_stl10_go_column_by_column(tmp_path, monkeypatch):
    stl10 = registry.load("data.loaders", "stl10")
    monkeypatch.setattr(stl10, "COUNTS", {"unlabeled": 5})
    monkeypatch.setattr(stl10, "_BLOCK", 2)
    pictures = np.random.default_rng(1).integers(0, 256, (5, 96, 96, 3), np.uint8)  # rows, columns, colors
    content = b"".join(pictures[n, :, :, c].T.tobytes() for n in range(5) for c in range(3))
    format = replace(FORMATS["stl10"], split="unlabeled", members={"stl10_binary/unlabeled_X.bin": content}, count=5)
    images, labels = format.prepare(tmp_path)
    np.testing.assert_array_equal(images.pixels(slice(None)).transpose(0, 2, 3, 1), pictures)
    assert set(labels.values()) == {-1}


def test_mnist_files_that_do_not_belong_together(tmp_path):
    format = FORMATS["mnist"]
    fails(format.with_members(**{"labels-idx1": FORMATS["mnist"].bad_label[1][:-1]}), tmp_path / "a", "header says")
    other = replace(format, members=dict(reversed(format.members.items())))
    fails(other, tmp_path / "b", "no IDX file of bytes with 3")


def test_kaggle_s_validation_labels(tmp_path):
    wnid = "n02056570"
    data = {f"ILSVRC2012_val_{n}": picture("JPEG") for n in range(3)}
    solution = "ImageId,PredictionString\n" + "".join(
        f"{image},{wnid if n < 2 else 'n01440764'} 1 2 3 4 \n" for n, image in enumerate(data)
    )
    members = {f"val/{name}.JPEG": content for name, content in data.items()}
    format = replace(FORMATS["imagenet"], members=members, split="test", count=2)
    fails(format, tmp_path / "a", "val_labels")
    (tmp_path / "solution.csv").write_text(solution)
    _, labels = format.prepare(tmp_path / "b", val_labels=tmp_path / "solution.csv")
    assert labels == {"ILSVRC2012_val_0.JPEG": 0, "ILSVRC2012_val_1.JPEG": 0}


@pytest.mark.parametrize(
    ("solution", "match"),
    [
        ("ImageId,PredictionString\nx,n02056570 1 2 3 4,n01440764 5 6 7 8\n", "line 2: 3 fields"),
        ("ImageId,PredictionString\nx,n02056570 1\ny\n", "line 3: 1 field"),
        ("ImageId,ImageId,PredictionString\nx,y,n02056570 1\n", "'ImageId' twice"),
        ("ImageId,Label\nx,n02056570\n", "not Kaggle's"),
        ("ImageId,PredictionString\nx,\n", "not Kaggle's"),
    ],
)
def test_tables_that_are_not_kaggle_s(tmp_path, solution, match):
    (tmp_path / "solution.csv").write_text(solution)
    format = replace(FORMATS["imagenet"], split="test")
    fails(format, tmp_path, match, val_labels=tmp_path / "solution.csv")


def test_classes_of_imagenet_from_a_file(tmp_path):
    (tmp_path / "mine.txt").write_text("n02128757 snow leopard\nn02056570\n")
    format = replace(FORMATS["imagenet"], count=2)
    _, labels = format.prepare(tmp_path / "a", subset=tmp_path / "mine.txt")
    assert sorted(labels.values()) == [0, 1]
    assert (tmp_path / "a" / "l" / "classes.json").read_text().split('"')[1::2] == ["n02056570", "n02128757"]
    fails(format, tmp_path / "b", "11 folders of classes", subset="all")


@pytest.mark.parametrize("option", ["subset", "val_labels"])
@pytest.mark.parametrize(
    "content", [b"n02056570 r\xe9sum\xe9\n", "ImageId,PredictionString\n".encode("utf-16")], ids=["latin-1", "utf-16"]
)
def test_files_of_imagenet_that_are_no_text(tmp_path, option, content):
    (tmp_path / "file").write_bytes(content)
    format = replace(FORMATS["imagenet"], split="test")
    fails(format, tmp_path, f"{tmp_path / 'file'} cannot be read", **{option: tmp_path / "file"})


def test_a_list_without_labels(tmp_path):
    format = FORMATS["list"].with_members(**{"list.txt": b"b/2.png\n\nc/4.png\n"})
    _, labels = format.prepare(tmp_path, path=_inside(tmp_path, "list.txt"))
    assert labels == {"b/2.png": -1, "c/4.png": -1}


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "no column"),
        (b"file,label\nx,y\n", "no column 'path'"),
        (b"path,label\n", "no images"),
        (b"path,label\na/1.png,x\na/1.png,y\n", "twice"),
        (b"path,label\n,x\n", "line 2"),
        (b"path,label\n\xff,x\n", "cannot be read"),
    ],
)
def test_lists_that_are_none(tmp_path, content, match):
    fails(FORMATS["list"].with_members(**{"list.csv": content}), tmp_path, match)


def test_a_column_of_labels_that_is_not_there(tmp_path):
    table = FORMATS["list"].with_members(**{"list.csv": b"path,class\na/1.png,dog\n"})
    assert table.prepare(tmp_path / "a")[1] == {"a/1.png": -1}
    assert table.prepare(tmp_path / "b", label_column="class")[1] == {"a/1.png": 0}
    fails(table, tmp_path / "c", "no column 'clas', only .*'class'", label_column="clas")


def _inside(folder, name):
    """A path that the loader's options accept before the format is written."""
    (folder / "source").mkdir()
    (folder / "source" / name).touch()
    return folder / "source" / name


def test_parquet_names_of_classes_and_columns(tmp_path):
    format = FORMATS["parquet"]
    format.prepare(tmp_path / "a")
    assert (tmp_path / "a" / "l" / "classes.json").read_text().split('"')[1::2] == ["cat", "dog"]
    _, labels = format.prepare(tmp_path / "b", label_column="")
    assert set(labels.values()) == {-1}
    fails(format, tmp_path / "c", "no column 'picture'", image_column="picture")
    fails(format, tmp_path / "d", "no files data/val", train="data/val-*.parquet")
    fails(format.with_members(**{"train-1/e:1": None, "train-1/f:1": b""}), tmp_path / "e", "1 of 5")


def test_shards_may_keep_their_order(tmp_path):
    format = FORMATS["shards"]
    members = {f"a/{number:04d}.png": picture() for number in range(40)}
    many = replace(format, members=members, labels={})
    _, shuffled = many.prepare(tmp_path / "a")
    images, kept = many.prepare(tmp_path / "b", shuffle=False)
    assert list(kept) == sorted(shuffled) != list(shuffled) == opaque_order(shuffled)
    assert [images.encoded(n) for n in range(40)] == list(members.values())


@pytest.mark.parametrize(
    ("members", "match"),
    [
        ({"a/1.jpg": picture(), "a/1.png": picture()}, "1.jpg and 1.png are both its image"),
        ({"a/photo 1.0.jpg": picture(), "a/photo 1.1.jpg": picture()}, "sample photo 1 .* ends at the first dot"),
        ({f"a/photo {name}.jpg": picture() for name in ("1.0", "2", "1.1")}, "photo 1.1.jpg .* ends at the first dot"),
        ({"a/1.cls": b"1", "a/1.b.cls": b"2", "a/1.png": picture()}, "1.cls and 1.b.cls are both its label"),
        ({f"a/{name}": picture() for name in ("1.png", "./1.png")}, "1.png is there twice"),
        ({f"a/{name}": picture() for name in ("1.png", "2.png", "./1.png")}, "sample 1 is there twice, 1.png stands"),
        ({"a/1.cls": b"cat", "a/1.png": picture()}, "expected a number"),
        ({"a/1.png": picture(), "a/2.png": picture(), "a/1.cls": b"1"}, "no image stands beside the label of 1"),
        ({"a/1.cls": b"99999999999", "a/1.png": picture()}, "label 99999999999"),
    ],
)
def test_samples_that_are_none(tmp_path, members, match):
    fails(replace(FORMATS["shards"], members=members), tmp_path, match)


def test_cifar10_as_a_folder_of_pngs(tmp_path, monkeypatch):
    """The same pixels and labels as from the archive."""
    monkeypatch.setattr(registry.load("data.loaders", "cifar10"), "RECORDS", 3)
    archive, labels = FORMATS["cifar10"].prepare(tmp_path / "archive")
    classes = registry.load("data.loaders", "cifar10").CLASSES
    members = {}
    for index, label in enumerate(labels.values()):
        file = io.BytesIO()
        Image.fromarray(archive.decode(index).transpose(1, 2, 0)).save(file, "PNG")
        members[f"{classes[label]}/{index}.png"] = file.getvalue()
    for label in set(classes) - {name.split("/")[0] for name in members}:
        members[f"{label}/other.png"] = picture("PNG", (32, 32))
    folder, found = replace(FORMATS["imagenet"], loader="folder", members=members, options={}, count=None).prepare(
        tmp_path / "folder"
    )
    for index, (name, label) in enumerate(found.items()):
        if not name.endswith("other.png"):
            original = int(name.split("/")[1].removesuffix(".png"))
            np.testing.assert_array_equal(folder.decode(index), archive.decode(original))
            assert label == list(labels.values())[original]


def test_subsets_of_imagenet_are_as_large_as_their_names_say():
    facts = registry.load("data.loaders", "imagenet").FACTS.variants["subset"]
    sizes = {name: (variant.classes, variant.splits["test"]) for name, variant in facts.items()}
    assert sizes["all"] == (1000, 50_000) and sizes["imagenet-dogs"] == (15, 750)
    for count in (10, 50, 100, 200):
        assert sizes[f"imagenet-{count}"] == (count, 50 * count)
