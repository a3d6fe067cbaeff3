import json
import os

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from deepclust.core.errors import DeepclustError
from deepclust.core.images import Images
from deepclust.core.progress import Progress
from deepclust.data.loaders import folder as loader
from deepclust.data.writing import write_split


def paint(path, value=0, size=(4, 3)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, value)).save(path)


def read(split="train", **options):
    return loader.read_split(loader.Options(**options), split, [])


def labels_of(split):
    return {file.name: split.classes[file.label] if file.label >= 0 else None for file in split.files}


@pytest.fixture
def pets(tmp_path):
    folder = tmp_path / "pets"
    for number, name in enumerate(["cat/1.JPG", "cat/2.png", "dog/3.jpeg", "dog/old/4.webp", "eel/.more/x.png"]):
        paint(folder / name, number)
    for name in ("bmp", "gif", "tif", "TIFF"):
        paint(folder / "eel" / f"5.{name}")
    (folder / "readme.txt").write_text("hello")
    (folder / "cat" / "._1.jpg").write_bytes(b"\0")
    (folder / "empty").mkdir()
    return folder


def test_subfolders_are_classes(pets):
    split = read(path=pets)
    assert split.classes == ["cat", "dog", "eel"]
    assert labels_of(split) == {
        **{"cat/1.JPG": "cat", "cat/2.png": "cat", "dog/3.jpeg": "dog", "dog/old/4.webp": "dog"},
        **{f"eel/5.{name}": "eel" for name in ("bmp", "gif", "tif", "TIFF")},
    }


def test_images_without_subfolders_have_no_labels(pets):
    split = read(path=pets / "eel")
    assert split.classes == []
    assert set(labels_of(split).values()) == {None}


def test_classes_can_be_ignored(pets):
    paint(pets / "loose.png")
    split = read(path=pets, class_folders=False)
    assert split.classes == []
    assert len(split.files) == 9 and set(labels_of(split).values()) == {None}


def test_images_beside_subfolders_are_an_error(pets):
    paint(pets / "loose.png")
    with pytest.raises(DeepclustError, match="1 images directly and 8 in subfolders"):
        read(path=pets)


def test_splits_share_their_classes(pets, tmp_path):
    paint(tmp_path / "test" / "bee" / "1.png")
    paint(tmp_path / "test" / "eel" / "1.png")
    train, test = (read(split, path=pets, test_path=tmp_path / "test") for split in ("train", "test"))
    assert train.classes == test.classes == ["bee", "cat", "dog", "eel"]
    assert labels_of(test) == {"bee/1.png": "bee", "eel/1.png": "eel"}
    assert labels_of(train)["dog/3.jpeg"] == "dog"


def test_only_one_split_has_labels(pets):
    train, test = (read(split, path=pets / "eel", test_path=pets) for split in ("train", "test"))
    assert (train.classes, test.classes) == ([], ["cat", "dog", "eel"])
    assert {file.label for file in train.files} == {-1}


def test_a_test_split_needs_a_test_path(pets):
    with pytest.raises(DeepclustError, match="test_path"):
        read("test", path=pets)


def test_a_folder_without_images(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DeepclustError, match="no images"):
        read(path=tmp_path)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(ValidationError, match="directory"):
        read(path=tmp_path / "none")


def test_order_is_opaque_and_stays_when_images_are_added(tmp_path):
    for number in range(60):
        paint(tmp_path / f"class{number // 20}" / f"{number:02d}.png")
    before = [file.name for file in read(path=tmp_path).files]
    labels = [file.label for file in read(path=tmp_path).files]
    assert abs(np.corrcoef(labels, range(60))[0, 1]) < 0.3
    paint(tmp_path / "a new class" / "1.png")
    paint(tmp_path / "class1" / "more" / "1.png")
    after = [file.name for file in read(path=tmp_path).files]
    assert [name for name in after if name in before] == before


def test_links_are_followed_but_not_in_circles(pets, tmp_path):
    paint(tmp_path / "elsewhere" / "6.png")
    (pets / "fox").symlink_to(tmp_path / "elsewhere")
    (pets / "cat" / "up").symlink_to(pets)
    (tmp_path / "elsewhere" / "self").symlink_to(tmp_path / "elsewhere")
    (pets / "dog" / "7.png").symlink_to(pets / "cat" / "2.png")
    labels = labels_of(read(path=pets))
    assert labels["fox/6.png"] == "fox" and labels["dog/7.png"] == "dog"
    assert len(labels) == 10


def test_names_that_are_not_unicode(tmp_path):
    paint(tmp_path / os.fsdecode(b"caf\xe9") / "1.png")
    write_split(read(path=tmp_path), tmp_path / "i", tmp_path / "l", progress=Progress())
    assert json.loads((tmp_path / "l" / "classes.json").read_text()) == [r"caf\xe9"]
    assert r"caf\xe9/1.png" in (tmp_path / "l" / "ids.csv").read_text()


def test_images_are_stored_as_they_are(pets, tmp_path):
    split = read(path=pets, channels=1)
    write_split(split, tmp_path / "i", tmp_path / "l", progress=Progress())
    images = Images(tmp_path / "i")
    assert (images.channels, images.decode(0).shape) == (1, (1, 3, 4))
    for index, file in enumerate(split.files):
        assert images.encoded(index) == (pets / file.name).read_bytes()
