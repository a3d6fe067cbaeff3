"""Prepared images (`core/images.py`) and whole files (`core/files.py`)."""

import hashlib
import json
import os

import numpy as np
import pytest
from encoding import encode
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load_file

from deepclust.core.errors import DeepclustError
from deepclust.core.files import atomic_path, read_json, sha256_file, write_array, write_json, write_tensors
from deepclust.core.images import Images, write_encoded, write_raw

RNG = np.random.default_rng(0)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


# --- whole files ------------------------------------------------------------------------------------------------------


def test_a_file_appears_only_when_its_block_succeeds(tmp_path):
    path = tmp_path / "new folder" / "file"
    with atomic_path(path) as temporary:
        temporary.write_text("first")
        assert not path.exists()
    with pytest.raises(KeyError), atomic_path(path) as temporary:
        temporary.write_text("second")
        raise KeyError
    assert path.read_text() == "first"
    assert names_in(path.parent) == ["file"]


def test_a_file_has_the_permissions_of_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_json(tmp_path / "file", 1)
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    "write",
    [
        lambda path: write_json(path, "x" * 100_000),
        lambda path: write_array(path, np.zeros(100_000)),
        lambda path: write_tensors(path, {"a": np.zeros(100_000)}),
        lambda path: write_raw(path.parent, [RNG.integers(0, 256, (100, 1, 40, 40), np.uint8)], (1, 40, 40)),
        lambda path: write_encoded(path.parent, [bytes(1000)] * 100, 3),
    ],
    ids=["json", "array", "tensors", "raw images", "encoded images"],
)
def test_a_full_disk_is_a_clear_error_and_leaves_nothing(small_disk, write):
    with pytest.raises(DeepclustError, match="no space left"):
        write(small_disk / "file")
    assert names_in(small_disk) == []


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "result", tmp_path / "file" / "folder" / "result"):
        with pytest.raises(DeepclustError, match="cannot write"):
            write_json(path, 1)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_a_clear_error(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(DeepclustError, match="cannot write"):
        write_json(tmp_path / "deeper" / "folder" / "result", 1)


def test_other_errors_of_a_block_stay_what_they_are(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "file"):
        (tmp_path / "missing").read_bytes()


@given(hnp.arrays(hnp.scalar_dtypes(), hnp.array_shapes(min_dims=0, min_side=0)), st.booleans())
def test_arrays_come_back(tmp_path_factory, array, fortran):
    path = tmp_path_factory.mktemp("arrays") / "array.npy"
    if array.dtype.kind in "mM":
        array = array.view(np.int64)
    write_array(path, np.asfortranarray(array) if fortran and array.ndim else array)
    loaded = np.load(path, allow_pickle=False)
    assert (loaded.dtype, loaded.shape) == (array.dtype, array.shape)
    assert loaded.tobytes() == array.tobytes()


def test_objects_are_not_stored(tmp_path):
    with pytest.raises(ValueError, match="objects"):
        write_array(tmp_path / "array.npy", np.array([{}], object))
    assert names_in(tmp_path) == []


def test_tensors_come_back(tmp_path):
    tensors = {"matrix": RNG.normal(size=(3, 4)).T, "scalar": np.float32(2.5), "empty": np.empty((0, 3), np.int64)}
    write_tensors(tmp_path / "file", tensors, {"key": "value"})
    loaded = load_file(tmp_path / "file")
    assert {name: value.shape for name, value in loaded.items()} == {"matrix": (4, 3), "scalar": (), "empty": (0, 3)}
    np.testing.assert_array_equal(loaded["matrix"], tensors["matrix"])
    assert loaded["scalar"] == 2.5


def test_json_that_is_none(tmp_path):
    (tmp_path / "file").write_bytes(b"\xff{")
    with pytest.raises(DeepclustError, match="not valid JSON"):
        read_json(tmp_path / "file")
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "other", float("nan"))
    assert names_in(tmp_path) == ["file"]


# --- raw images -------------------------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(
    hnp.arrays(np.uint8, st.tuples(st.integers(0, 9), st.sampled_from([1, 3]), st.integers(1, 5), st.integers(1, 5))),
    st.integers(1, 4),
)
def test_raw_images_come_back_whatever_the_blocks(tmp_path_factory, pixels, size):
    folder, other = tmp_path_factory.mktemp("raw"), tmp_path_factory.mktemp("raw")
    shape = pixels.shape[1:]
    assert write_raw(folder, [pixels[i : i + size] for i in range(0, len(pixels), size)], shape) == len(pixels)
    write_raw(other, [pixels], shape)
    assert (folder / "images.bin").read_bytes() == (other / "images.bin").read_bytes()

    images = Images(folder)
    assert (len(images), images.shape, images.channels) == (len(pixels), shape, shape[0])
    np.testing.assert_array_equal(images.read(0, len(pixels)), pixels)
    np.testing.assert_array_equal(images.pixels(slice(1, None)), pixels[1:])
    if len(pixels):
        indices = np.arange(len(pixels))[::-2]
        np.testing.assert_array_equal(images.pixels(indices), pixels[indices])
        np.testing.assert_array_equal(images.pixels([0, 0]), pixels[[0, 0]])
        np.testing.assert_array_equal(images.decode(0), pixels[0])
        np.testing.assert_allclose(images.mean, (pixels / 255).mean((0, 2, 3)), atol=1e-12)
        np.testing.assert_allclose(images.std, (pixels / 255).std((0, 2, 3)), atol=1e-7)
    assert images.sha256 == hashlib.sha256(pixels.tobytes()).hexdigest() == sha256_file(folder / "images.bin")


def test_pixels_are_a_copy(tmp_path):
    write_raw(tmp_path, [np.zeros((2, 1, 2, 2), np.uint8)], (1, 2, 2))
    images = Images(tmp_path)
    for pixels in (images.pixels([0]), images.pixels(slice(None)), images.decode(0)):
        pixels += 1
    assert not images.pixels([0, 1]).any()


def test_blocks_that_are_no_contiguous_memory(tmp_path):
    pixels = RNG.integers(0, 256, (4, 5, 6, 3), np.uint8).transpose(0, 3, 1, 2)
    write_raw(tmp_path, [pixels], (3, 5, 6))
    np.testing.assert_array_equal(Images(tmp_path).pixels(slice(None)), pixels)


def test_a_failure_leaves_the_former_images(tmp_path):
    def blocks():
        yield np.ones((1, 1, 2, 2), np.uint8)
        raise DeepclustError("damaged")

    write_raw(tmp_path, [np.zeros((1, 1, 2, 2), np.uint8)], (1, 2, 2))
    with pytest.raises(DeepclustError, match="damaged"):
        write_raw(tmp_path, blocks(), (1, 2, 2))
    assert not Images(tmp_path).decode(0).any()
    assert names_in(tmp_path) == ["images.bin", "images.json"]


def test_images_that_do_not_belong_together_are_refused(tmp_path):
    with pytest.raises(DeepclustError, match="missing"):
        Images(tmp_path)
    write_raw(tmp_path, [np.zeros((2, 1, 2, 2), np.uint8)], (1, 2, 2))
    path, manifest = tmp_path / "images.bin", tmp_path / "images.json"
    path.write_bytes(bytes(7))
    with pytest.raises(DeepclustError, match="7 bytes"):
        Images(tmp_path)
    path.write_bytes(bytes(8))
    manifest.write_text(json.dumps({**read_json(manifest), "format": 99}))
    with pytest.raises(DeepclustError, match="format 99"):
        Images(tmp_path)
    path.unlink()
    with pytest.raises(DeepclustError, match=r"images\.bin is missing"):
        Images(tmp_path)


# --- encoded images ---------------------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(st.lists(st.binary(max_size=40), max_size=6))
def test_encoded_images_come_back_byte_for_byte(tmp_path_factory, files):
    folder = tmp_path_factory.mktemp("encoded")
    assert write_encoded(folder, iter(files), 3) == len(files)
    images = Images(folder)
    assert (len(images), images.shape) == (len(files), None)
    assert [images.encoded(index) for index in range(len(files))] == files
    assert images.sha256 == sha256_file(folder / "images.bin")


def test_encoded_images_are_decoded(tmp_path):
    pixels = [RNG.integers(0, 256, (4 + i, 5, 3), np.uint8) for i in range(3)]
    write_encoded(tmp_path, [*(encode(p) for p in pixels), b"no image"], 3)
    images = Images(tmp_path)
    for index, expected in enumerate(pixels):
        np.testing.assert_array_equal(images.decode(index), expected.transpose(2, 0, 1))
    with pytest.raises(DeepclustError, match="image 3 of"):
        images.decode(3)
