import csv
import json
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepclust.core.errors import DeepclustError
from deepclust.core.images import Images
from deepclust.core.progress import Progress
from deepclust.data.names import Names, printable
from deepclust.data.reading import read_checked
from deepclust.data.splits import EncodedFile, EncodedSplit, RawBlock, RawSplit, opaque_order
from deepclust.data.writing import write_split

PNG = bytes.fromhex(  # one gray pixel
    "89504e470d0a1a0a0000000d4948445200000001000000010800000000 3a7e9b55 0000000a49444154789c6360000000020001"
    "48afa471 0000000049454e44ae426082"
)


def raw(*blocks, classes=("a", "b"), shape=(1, 2, 2)):
    return RawSplit(
        classes,
        shape,
        (
            RawBlock(np.full((len(n), *shape), 7, np.uint8), np.array(n), [f"{i}/{j}" for j in range(len(n))])
            for i, n in enumerate(blocks)
        ),
    )


def encoded(*contents, skip=False, classes=("a", "b")):
    files = [EncodedFile(f"{i}.png", i % 2, lambda data=data: data) for i, data in enumerate(contents)]
    return EncodedSplit(classes, 1, files, skip)


def write(split, folder, **options):
    return write_split(split, folder / "images", folder / "labels", progress=Progress(), **options)


def files_in(folder):
    return sorted(name for _, _, names in os.walk(folder) for name in names)


ALL = ["classes.json", "ids.csv", "images.bin", "images.json", "labels.npy"]


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_a_raw_split(tmp_path):
    assert write(raw([0, 1], [-1]), tmp_path, count=3) == 3
    assert files_in(tmp_path) == ALL
    labels = np.load(tmp_path / "labels" / "labels.npy")
    assert labels.dtype == np.int32 and labels.tolist() == [0, 1, -1]
    assert json.loads((tmp_path / "labels" / "classes.json").read_text()) == ["a", "b"]
    assert rows(tmp_path / "labels" / "ids.csv") == [["id", "path"], ["0", "0/0"], ["1", "0/1"], ["2", "1/0"]]
    assert Images(tmp_path / "images").read(0, 3).tolist() == np.full((3, 1, 2, 2), 7).tolist()


def test_an_encoded_split_keeps_its_order_over_many_threads(tmp_path):
    contents = [PNG + bytes([index % 256]) for index in range(300)]
    assert write(encoded(*contents), tmp_path, threads=2) == 300
    images = Images(tmp_path / "images")
    assert [images.encoded(index) for index in range(300)] == contents
    assert np.load(tmp_path / "labels" / "labels.npy").tolist() == [0, 1] * 150


@pytest.mark.parametrize("threads", [1, 3])
def test_few_large_files_are_in_memory(threads):
    given = 0

    def files():
        nonlocal given
        for given in range(1, 41):
            yield EncodedFile.loaded(f"{given}.png", 0, PNG + bytes(2**20))

    split = EncodedSplit(None, 1, files())
    for taken, (file, content) in enumerate(read_checked(split, threads), 1):
        assert (file.name, len(content)) == (f"{taken}.png", len(PNG) + 2**20)
        assert given - taken < 2 * threads
    assert taken == 40


@pytest.mark.parametrize("pattern", ["small, then large", "every other"])
def test_large_files_among_small_ones_are_not_all_in_memory(pattern):
    given = 0

    def files():
        nonlocal given
        for number in range(600):
            large = number >= 400 if pattern == "small, then large" else number % 2
            given += bool(large)
            yield EncodedFile.loaded(f"{number}.png", 0, PNG + bytes(2**18 if large else 0))

    most = taken = 0
    for _, content in read_checked(EncodedSplit(None, 1, files()), 2):
        most = max(most, given - taken)
        taken += len(content) > 2**18
    assert most <= 2 * 2 * 16 + 4


def test_nothing_of_the_images_tells_a_label_or_a_name(tmp_path):
    write(raw([0, 0, 1], classes=("secret", "hidden")), tmp_path / "x")
    write(raw([1, 0, 0], classes=("other", "names")), tmp_path / "y")
    for name in ("images.bin", "images.json"):
        assert (tmp_path / "x" / "images" / name).read_bytes() == (tmp_path / "y" / "images" / name).read_bytes()


@pytest.mark.parametrize("labels", [[0, 2], [-2, 0], [256, 0]])
def test_a_label_out_of_range_leaves_nothing(tmp_path, labels):
    with pytest.raises(DeepclustError, match=r"1/. has the label"):
        write(raw([0], labels), tmp_path)
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("count", [2, 4])
def test_a_wrong_number_of_images_leaves_nothing(tmp_path, count):
    with pytest.raises(DeepclustError, match=f"3 images, expected {count}"):
        write(raw([0, 1], [1]), tmp_path, count=count)
    assert files_in(tmp_path) == []


def test_a_failure_leaves_nothing_of_an_older_result(tmp_path):
    write(encoded(PNG, b"broken", skip=True), tmp_path)
    assert files_in(tmp_path) == sorted([*ALL, "skipped.csv"])
    with pytest.raises(DeepclustError):
        write(raw([5]), tmp_path)
    assert files_in(tmp_path) == []


def test_images_that_do_not_decode_are_named(tmp_path):
    with pytest.raises(DeepclustError, match=r"5 of 7 images .* 1\.png .* 2\.png .* 3\.png .* and 2 more"):
        write(encoded(PNG, b"", b"x", PNG[:45], PNG, b"", b""), tmp_path)
    assert files_in(tmp_path) == []


def test_images_that_cannot_be_read_count_too(tmp_path):
    split = EncodedSplit(["a"], 3, [EncodedFile("gone.png", 0, (tmp_path / "gone.png").read_bytes)])
    with pytest.raises(DeepclustError, match=r"1 of 1 .* gone\.png \(No such file"):
        write(split, tmp_path)


def test_skipped_images_are_listed(tmp_path):
    assert write(encoded(b"broken", PNG, PNG, b"", skip=True), tmp_path) == 2
    assert [row[0] for row in rows(tmp_path / "labels" / "skipped.csv")] == ["path", "0.png", "3.png"]
    assert rows(tmp_path / "labels" / "ids.csv")[1:] == [["0", "1.png"], ["1", "2.png"]]
    assert np.load(tmp_path / "labels" / "labels.npy").tolist() == [1, 0]
    write(encoded(PNG, skip=True), tmp_path)
    assert files_in(tmp_path) == ALL


def test_not_every_image_may_be_skipped(tmp_path):
    with pytest.raises(DeepclustError, match="2 of 2"):
        write(encoded(b"broken", b"", skip=True), tmp_path)
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("full", ["images", "labels"])
def test_a_full_disk_leaves_nothing(tmp_path, small_disk, full):
    folders = {"images": tmp_path / "images", "labels": tmp_path / "labels"}
    folders[full] = small_disk / full
    split = raw(*[[0] * 1000] * 20, shape=(1, 3, 3))
    with pytest.raises(DeepclustError, match="no space left"):
        write_split(split, folders["images"], folders["labels"], progress=Progress())
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("size", [400, 90])  # the copy does not fit, or the copy alone does
def test_a_full_disk_while_shuffling_leaves_nothing(tmp_path, small_disk, size):
    files = [EncodedFile.loaded(str(number), 0, PNG + bytes(size)) for number in range(400)]
    split = EncodedSplit(["a"], 1, files, shuffle=True)
    with pytest.raises(DeepclustError, match="no space left"):
        write_split(split, small_disk / "images", tmp_path / "labels", progress=Progress())
    assert files_in(tmp_path) == []


def test_a_shuffled_split_is_in_the_opaque_order_of_its_names(tmp_path):
    contents = {f"{number // 20}/{number}": PNG + bytes([number]) for number in range(60)}
    files = [EncodedFile.loaded(name, int(name.split("/")[0]), data) for name, data in contents.items()]
    split = EncodedSplit(["a", "b", "c"], 1, files, shuffle=True)
    assert write(split, tmp_path, threads=1) == 60
    names = [row[1] for row in rows(tmp_path / "labels" / "ids.csv")[1:]]
    assert names == opaque_order(contents) != list(contents)
    images = Images(tmp_path / "images")
    assert [images.encoded(index) for index in range(60)] == [contents[name] for name in names]
    assert np.load(tmp_path / "labels" / "labels.npy").tolist() == [int(name.split("/")[0]) for name in names]
    assert files_in(tmp_path) == ALL


def test_skipped_images_of_a_shuffled_split(tmp_path):
    files = [EncodedFile.loaded(str(n), n % 2, PNG if n % 3 else b"broken") for n in range(9)]
    assert write(EncodedSplit(["a", "b"], 1, files, skip_unreadable=True, shuffle=True), tmp_path) == 6
    names = [row[1] for row in rows(tmp_path / "labels" / "ids.csv")[1:]]
    assert names == opaque_order(str(n) for n in range(9) if n % 3)
    assert np.load(tmp_path / "labels" / "labels.npy").tolist() == [int(name) % 2 for name in names]


def test_classes_without_names_are_called_by_their_numbers(tmp_path):
    files = [EncodedFile.loaded(str(label), label, PNG) for label in (3, -1, 0)]
    write(EncodedSplit(None, 1, files), tmp_path / "a")
    assert json.loads((tmp_path / "a" / "labels" / "classes.json").read_text()) == ["0", "1", "2", "3"]
    write(EncodedSplit(None, 1, [EncodedFile.loaded("x", -1, PNG)]), tmp_path / "b")
    assert json.loads((tmp_path / "b" / "labels" / "classes.json").read_text()) == []
    with pytest.raises(DeepclustError, match="label 1000000"):
        write(EncodedSplit(None, 1, [EncodedFile.loaded("x", 1_000_000, PNG)]), tmp_path / "c")


def test_images_of_one_size_are_stored_as_pixels(tmp_path):
    files = [EncodedFile.loaded(str(number), 0, PNG) for number in range(600)]
    assert write(EncodedSplit(["a"], 1, files, shape=(1, 1, 1)), tmp_path) == 600
    images = Images(tmp_path / "images")
    assert images.shape == (1, 1, 1) and images.pixels(slice(None)).shape == (600, 1, 1, 1)
    with pytest.raises(DeepclustError, match="600 of 600 .*1×1×1, expected 1×2×1"):
        write(EncodedSplit(["a"], 1, files, shape=(1, 2, 1)), tmp_path)
    assert files_in(tmp_path) == []


@given(st.lists(st.text(max_size=5)))
def test_names_are_kept(names):
    kept = Names()
    for name in names:
        kept.append(printable(name))
    assert list(kept) == [kept[index] for index in range(len(kept))] == names
    with pytest.raises(IndexError):
        kept[len(names)]


@given(st.lists(st.text(max_size=5), unique=True, max_size=9), st.lists(st.text(max_size=5), max_size=3))
def test_opaque_order_depends_on_the_names_alone(names, more):
    ordered = opaque_order(names)
    assert sorted(ordered) == sorted(names)
    assert opaque_order(reversed(names)) == ordered
    assert [name for name in opaque_order({*names, *more}) if name in names] == ordered
