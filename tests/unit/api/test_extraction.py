"""Features of images in memory are those that the commands write; bad input is one line."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import deepclust
from deepclust.core.errors import DeepclustError
from deepclust.core.fingerprint import SCRIPTS

WEIGHTS = SCRIPTS.parents[1] / "weights" / "cifar10-simclr-resnet10_w32"


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    (folder / "b").mkdir()
    for name in ("c.png", "a.jpg", "b/d.png", "b/e.png", "f.png"):
        pixels = random.integers(0, 256, (*random.integers(20, 50, 2), 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    (folder / "note.txt").write_text("none")
    return folder


def command(name, folder, *words):
    subprocess.run([sys.executable, str(SCRIPTS / f"{name}.py"), *words], cwd=folder, check=True, capture_output=True)


def test_same_features_as_the_commands(photos, tmp_path):
    outputs = [f"--output.{name}=split/{file}" for name, file in (
        ("images", "images.bin"), ("manifest", "images.json"), ("labels", "labels.npy"), ("classes", "classes.json"),
        ("ids", "ids.csv"))]  # fmt: skip
    options = ["--loader", "folder", "--split", "train", "--path", str(photos), "--class_folders", "false"]
    command("prepare", tmp_path, *options, *outputs)
    files = ["--input.images=split/images.bin", "--input.manifest=split/images.json"]
    files += [f"--input.model={WEIGHTS / 'model.json'}", f"--input.weights={WEIGHTS / 'model.safetensors'}"]
    command("extract_features", tmp_path, *files, "--output.features=features.npy", "--image_size=32")
    names = [line.split(",")[1] for line in (tmp_path / "split" / "ids.csv").read_text().splitlines()[1:]]
    written = dict(zip(names, np.load(tmp_path / "features.npy")))
    found = deepclust.extract(photos, WEIGHTS, image_size=32)
    paths = deepclust.images(photos)
    assert [str(path.relative_to(photos)) for path in paths] == ["a.jpg", "b/d.png", "b/e.png", "c.png", "f.png"]
    assert np.array_equal(found, [written[str(path.relative_to(photos))] for path in paths])
    assert np.allclose(
        deepclust.extract(paths[::-1], WEIGHTS / "model.json", image_size=32), found[::-1], rtol=1e-2, atol=1e-3
    )
    one = deepclust.extract(paths[3], WEIGHTS, image_size=32)
    assert one.shape == (1, found.shape[1]) and np.allclose(one[0], found[3], rtol=1e-2, atol=1e-3)


def test_lists(photos, tmp_path):
    (photos.parent / "list.csv").write_text(f"path,label\n{photos.name}/f.png,x\n{photos.name}/a.jpg,y\n")
    assert [path.name for path in deepclust.images(photos.parent / "list.csv")] == ["f.png", "a.jpg"]
    rows = deepclust.extract(photos.parent / "list.csv", WEIGHTS, image_size=32)
    expected = deepclust.extract(photos, WEIGHTS, image_size=32)
    assert np.allclose(rows, expected[[4, 0]], rtol=1e-2, atol=1e-3)


def test_an_image_that_is_named_twice_has_two_rows(photos):
    rows = deepclust.extract([photos / "a.jpg", photos / "c.png", photos / "a.jpg"], WEIGHTS, image_size=32)
    assert len(rows) == 3 and np.array_equal(rows[0], rows[2])


def test_pixels():
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8), dtype=np.uint8)
    features = deepclust.extract(images, "pixels", dtype="float32")
    assert features.dtype == np.float32
    assert np.allclose(np.corrcoef(features.ravel(), images.ravel())[0, 1], 1)
    assert deepclust.extract(np.stack([images] * 3, axis=3), "pixels").shape == (5, 192)


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        ("nowhere", {}, "there is no folder, list or image nowhere"),
        (np.zeros((2, 8, 8)), {}, r"pixels must be uint8 .*, not float64 of shape \[2, 8, 8\]"),
        (np.zeros((2, 8, 8, 4), np.uint8), {}, r"of shape \[2, 8, 8, 4\]"),
        (["nowhere.png"], {}, "1 of 1 images do not decode: nowhere.png"),
        ([], {}, "no images"),
        (np.zeros((2, 8, 8), np.uint8), {"backbone": "dinov2-vits15"}, "did you mean 'dinov2-vits14'"),
        (np.zeros((2, 8, 8), np.uint8), {"backbone": "nowhere/simclr"}, "neither a preset nor the folder"),
        (np.zeros((2, 8, 8), np.uint8), {"pool": "avg"}, "no option 'pool'"),
        (np.zeros((2, 8, 8), np.uint8), {"image_size": 0}, "options of features: image_size"),
        (np.zeros((2, 8, 8), np.uint8), {"channels": 2}, "channels must be 1 or 3"),
    ],
)
def test_bad_input_is_one_line(images, options, message):
    with pytest.raises(DeepclustError, match=message) as caught:
        deepclust.extract(images, **{"backbone": "pixels", **options})
    assert "\n" not in str(caught.value)


def test_an_empty_folder_and_a_damaged_image(tmp_path):
    with pytest.raises(DeepclustError, match="holds no images"):
        deepclust.images(tmp_path)
    (tmp_path / "broken.png").write_bytes(b"none")
    with pytest.raises(DeepclustError, match="do not decode: broken.png"):
        deepclust.extract(tmp_path, "pixels")
