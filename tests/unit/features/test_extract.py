import io
import os
import tarfile
import threading
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image

from deepclust.core.errors import DeepclustError
from deepclust.core.images import Images, write_encoded, write_raw
from deepclust.core.progress import Progress
from deepclust.features import extract as module
from deepclust.features import partial
from deepclust.features.extract import extract
from deepclust.features.options import ExtractionOptions
from deepclust.models.description import POOLINGS, SPEC_KEYS
from deepclust.models.model import Model, save_model
from deepclust.models.networks import build_network
from deepclust.models.preprocessing import resize_and_crop

RESNET = {"name": "resnet10_w32", "stem": "cifar", "in_channels": 3}
CPU = torch.device("cpu")
SPEC = dict.fromkeys(SPEC_KEYS) | {"interpolation": "bilinear", "crop_fraction": 1.0, "pooling": "avg"}


def save(folder, architecture, **spec):
    torch.manual_seed(0)
    network = build_network(architecture)
    save_model(folder / "model.json", network, {**SPEC, "architecture": architecture, **spec})
    return folder / "model.json"


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    facts = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.2], "feature_dim": 256}
    return save(tmp_path_factory.mktemp("resnet"), RESNET, **facts)


@pytest.fixture(scope="module")
def pixels(tmp_path_factory):
    return save(tmp_path_factory.mktemp("pixels"), {"name": "pixels"})


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw")
    values = np.random.default_rng(0).integers(0, 256, (50, 3, 8, 8), np.uint8)
    write_raw(folder, [values], (3, 8, 8))
    return Images(folder), values


def encode(values, kind="PNG"):
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def encoded(tmp_path_factory):
    """20 images of different sizes whose colours tell their number."""
    folder = tmp_path_factory.mktemp("encoded")
    sizes = np.random.default_rng(0).integers(8, 40, (20, 2))
    arrays = [np.full((*size, 3), 10 * number, np.uint8) for number, size in enumerate(sizes)]
    write_encoded(folder, [encode(array) for array in arrays], 3)
    return Images(folder)


def run(images, model, folder, devices=(CPU,), **options):
    output = folder / "features.npy"
    extract(images, model, output, ExtractionOptions(**options), devices=devices, code="c0de", progress=Progress())
    return np.load(output)


def test_pixels_are_exact(raw, pixels, tmp_path):
    images, values = raw
    features = run(images, pixels, tmp_path, dtype="float32")
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, values.reshape(50, -1) / 255, rtol=1e-6)
    assert os.listdir(tmp_path) == ["features.npy"]


@pytest.mark.parametrize("pooling", ["avg", "max", "avgmax"])
def test_network_features_equal_those_of_one_pass(raw, resnet, tmp_path, monkeypatch, pooling):
    images, values = raw
    monkeypatch.setattr(module, "_batch_size", lambda *_: 16)
    features = run(images, resnet, tmp_path, precision="fp32", dtype="float32", pooling=pooling, image_size=12)
    model = Model.load(resnet, CPU, image_size=12)
    with torch.inference_mode():
        maps = model.network.forward_features(model.preprocess(torch.from_numpy(values)))
        average, maximum = maps.mean((2, 3)), maps.amax((2, 3))
    expected = {"avg": average, "max": maximum, "avgmax": (average + maximum) / 2}[pooling]
    assert features.shape == (50, 256)
    np.testing.assert_allclose(features, expected.numpy(), rtol=1e-3, atol=1e-5)


def test_bf16_is_near_fp32_and_stored_as_float16(raw, resnet, tmp_path):
    exact = run(raw[0], resnet, tmp_path, precision="fp32", dtype="float32")
    coarse = run(raw[0], resnet, tmp_path, precision="bf16")
    assert coarse.dtype == np.float16
    assert not np.array_equal(coarse, exact.astype(np.float16))
    cosine = (coarse * exact).sum(1) / np.linalg.norm(coarse.astype(np.float32), axis=1) / np.linalg.norm(exact, axis=1)
    assert cosine.min() > 0.999


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    architecture = {"name": "timm", "model": "vit_tiny_patch16_224", "arguments": {"img_size": 32}}
    facts = {"image_size": 32, "interpolation": "bicubic", "pooling": "class", "mean": [0.5] * 3, "std": [0.25] * 3}
    return save(tmp_path_factory.mktemp("vit"), architecture, **facts)


def test_bf16_features_of_a_vision_transformer_point_the_same_way(raw, vit, tmp_path):
    exact = run(raw[0], vit, tmp_path, precision="fp32", dtype="float32")
    coarse = run(raw[0], vit, tmp_path, precision="bf16", dtype="float32")
    assert not np.array_equal(coarse, exact)
    cosine = (coarse * exact).sum(1) / np.linalg.norm(coarse, axis=1) / np.linalg.norm(exact, axis=1)
    assert cosine.min() > 0.9999


@pytest.fixture(scope="module")
def nfnet(tmp_path_factory):
    """Its convolutions standardise their weights, which has to start from float32."""
    architecture = {"name": "timm", "model": "test_nfnet", "arguments": {}}
    facts = {"image_size": 32, "interpolation": "bicubic", "mean": [0.5] * 3, "std": [0.25] * 3}
    return save(tmp_path_factory.mktemp("nfnet"), architecture, **facts)


@pytest.mark.parametrize("backbone", ["resnet", "vit", "nfnet"])
def test_weights_kept_in_bf16_give_the_bits_of_autocast(raw, backbone, request, tmp_path):
    path = request.getfixturevalue(backbone)
    model = Model.load(path, CPU)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        expected = model.features(model.preprocess(torch.from_numpy(raw[1]))).numpy()
    np.testing.assert_array_equal(run(raw[0], path, tmp_path, precision="bf16", dtype="float32"), expected)


def test_options_offer_every_pooling():
    choices, _ = get_args(ExtractionOptions.model_fields["pooling"].annotation)
    assert get_args(choices) == POOLINGS


def test_encoded_images_keep_their_order_and_get_one_size(encoded, pixels, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_batch_size", lambda *_: 3)
    features = run(encoded, pixels, tmp_path, image_size=6, dtype="float32")
    assert features.shape == (20, 3 * 6 * 6)
    np.testing.assert_allclose(features, np.repeat(10 * np.arange(20)[:, None] / 255, 108, axis=1), atol=1e-6)


def test_images_without_a_common_size_need_one(encoded, pixels, tmp_path):
    with pytest.raises(DeepclustError, match="image_size"):
        run(encoded, pixels, tmp_path)


def test_an_image_that_does_not_decode_is_named(resnet, tmp_path):
    good = encode(np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8))
    write_encoded(tmp_path, [good, good, good[: len(good) // 2]], 3)
    with pytest.raises(DeepclustError, match="image 2") as caught:
        run(Images(tmp_path), resnet, tmp_path, image_size=8)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "features.npy").exists()


def test_no_images(pixels, tmp_path):
    write_raw(tmp_path, [], (1, 4, 4))
    with pytest.raises(DeepclustError, match="no images"):
        run(Images(tmp_path), pixels, tmp_path)


def test_damaged_weights_are_noticed(raw, tmp_path):
    model = save(tmp_path / "model", RESNET, feature_dim=256)
    loaded = Model.load(model, CPU)
    with torch.no_grad():
        loaded.network.conv1.weight[0, 0, 0, 0] = float("nan")
    save_model(model, loaded.network, loaded.spec)
    with pytest.raises(DeepclustError, match="50 of the features of images 0 to 49 have NaN"):
        run(raw[0], model, tmp_path, precision="fp32")


def test_features_that_float16_cannot_hold(raw, tmp_path):
    model = save(tmp_path / "model", {"name": "pixels"}, mean=[0.0] * 3, std=[1e-5] * 3)
    with pytest.raises(DeepclustError, match="float16.*dtype: float32"):
        run(raw[0], model, tmp_path)
    assert run(raw[0], model, tmp_path, dtype="float32").max() == pytest.approx(1e5)


def test_goes_on_with_smaller_micro_batches_when_memory_runs_out(raw, pixels, tmp_path, monkeypatch):
    """A device that holds at most 7 images; the CPU has no such limit of its own."""
    sizes = []
    features_of = Model.features

    def limited(self, images):
        sizes.append(len(images))
        if len(images) > 7:
            raise torch.OutOfMemoryError("too many")
        return features_of(self, images)

    monkeypatch.setattr(Model, "features", limited)
    monkeypatch.setattr(module, "_batch_size", lambda *_: 20)
    features = run(raw[0], pixels, tmp_path, dtype="float32")
    np.testing.assert_allclose(features, raw[1].reshape(50, -1) / 255, rtol=1e-6)
    assert sizes == [20, 10, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5]


def test_memory_too_small_for_one_image(raw, pixels, tmp_path, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(Model, "features", full)
    with pytest.raises(DeepclustError, match="one image"):
        run(raw[0], pixels, tmp_path)


def test_flipped_images_are_averaged_in(raw, resnet, tmp_path):
    images, values = raw
    write_raw(tmp_path / "mirrored", [values[..., ::-1]], values.shape[1:])
    exact = {"precision": "fp32", "dtype": "float32"}
    both = run(images, resnet, tmp_path, test_time_augmentation="flip", **exact)
    one, other = (run(split, resnet, tmp_path, **exact) for split in (images, Images(tmp_path / "mirrored")))
    np.testing.assert_allclose(both, (one + other) / 2, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("views", "mirrored"), [("five-crop", False), ("ten-crop", True)])
def test_crops_average_the_centre_and_the_corners(encoded, resnet, tmp_path, monkeypatch, views, mirrored):
    """Also in micro-batches that end within a batch, and for images of different sizes."""
    monkeypatch.setattr(module, "_batch_size", lambda *_: 6)
    features_of, seen = Model.features, []

    def limited(self, images):
        if len(images) > 20:
            raise torch.OutOfMemoryError("too many")
        seen.append(len(images))
        return features_of(self, images)

    monkeypatch.setattr(Model, "features", limited)
    reading = {"image_size": 12, "crop_fraction": 0.6}
    exact = {"precision": "fp32", "dtype": "float32"}
    features = run(encoded, resnet, tmp_path, test_time_augmentation=views, **reading, **exact)
    assert set(seen) == {10, 15}
    model = Model.load(resnet, CPU, **reading)
    for index in range(0, 20, 6):
        image = torch.from_numpy(encoded.decode(index))[None]
        crops = resize_and_crop(image, 12, "bilinear", 0.6, corners=True)[0]
        prepared = model.preprocess(torch.cat([crops, crops.flip(-1)] if mirrored else [crops]), cropped=True)
        with torch.inference_mode():
            expected = features_of(model, prepared).mean(0)
        np.testing.assert_allclose(features[index], expected.numpy(), rtol=1e-3, atol=1e-5)


@pytest.fixture
def devices(monkeypatch):
    """Three CPUs that tell how many images each has had at a time: {thread: [number …]}."""
    seen = {}
    features_of = Model.features

    def logged(self, images):
        seen.setdefault(threading.get_ident(), []).append(len(images))
        return features_of(self, images)

    monkeypatch.setattr(Model, "features", logged)
    monkeypatch.setattr(module, "_batch_size", lambda *_: 8)
    return [CPU] * 3, seen


def test_several_devices_take_turns_and_give_the_same_bits(raw, resnet, tmp_path, devices):
    three, seen = devices
    together = run(raw[0], resnet, tmp_path, three)
    assert sorted(map(sum, seen.values())) == [16, 16, 18]  # 50 images: 7 batches
    np.testing.assert_array_equal(together, run(raw[0], resnet, tmp_path))


def test_several_devices_continue_where_they_were(raw, resnet, tmp_path, devices, monkeypatch):
    monkeypatch.setattr(partial, "SAVE_SECONDS", -1.0)
    three, seen = devices
    whole = run(raw[0], resnet, tmp_path, three)
    append = partial.PartialArray.append

    def breaks(self, block):
        if self.done == 24:
            raise KeyboardInterrupt
        append(self, block)

    with monkeypatch.context() as patch:
        patch.setattr(partial.PartialArray, "append", breaks)
        with pytest.raises(KeyboardInterrupt):
            run(raw[0], resnet, tmp_path / "new", three)
    seen.clear()
    np.testing.assert_array_equal(run(raw[0], resnet, tmp_path / "new", three[:2]), whole)
    assert sum(map(sum, seen.values())) == 26


@pytest.mark.parametrize("change", ["nothing", "model", "options", "images"])
def test_continues_only_what_is_the_same(raw, tmp_path, monkeypatch, change):
    monkeypatch.setattr(module, "_batch_size", lambda *_: 8)
    monkeypatch.setattr(partial, "SAVE_SECONDS", -1.0)
    images, values = raw
    model = save(tmp_path / "model", {"name": "pixels"})
    output = tmp_path / "out"
    read = Images.read

    def breaks(self, start, stop):
        if start >= 24:
            raise KeyboardInterrupt
        return read(self, start, stop)

    monkeypatch.setattr(Images, "read", breaks)
    with pytest.raises(KeyboardInterrupt):
        run(images, model, output)
    assert not (output / "features.npy").exists()

    starts = []
    monkeypatch.setattr(Images, "read", lambda self, start, stop: starts.append(start) or read(self, start, stop))
    if change == "model":
        model = save(tmp_path / "model", {"name": "pixels"}, mean=[0.5] * 3, std=[0.2] * 3)
    if change == "images":
        write_raw(tmp_path / "images", [values[::-1]], (3, 8, 8))
        images = Images(tmp_path / "images")
    options = {"dtype": "float32"} if change == "options" else {}
    resumed = run(images, model, output, **options)
    assert starts[0] == (16 if change == "nothing" else 0)
    assert os.listdir(output) == ["features.npy"]
    np.testing.assert_array_equal(resumed, run(images, model, tmp_path / "afresh", **options))


SHARED = Path(os.environ.get("DEEPCLUST_SHARED", Path(__file__).resolve().parents[4] / "shared"))
CIFAR10 = SHARED / "data" / "cifar-10-binary.tar.gz"


@pytest.fixture(scope="module")
def pictures():
    """The first test images of CIFAR-10, uint8 [300, 3, 32, 32]."""
    if not CIFAR10.exists():
        pytest.skip("needs ../shared")
    with tarfile.open(CIFAR10) as archive:
        records = archive.extractfile("cifar-10-batches-bin/test_batch.bin").read(300 * 3073)
    return np.frombuffer(records, np.uint8).reshape(300, 3073)[:, 1:].reshape(300, 3, 32, 32)


@pytest.mark.parametrize("image_size", [20, 32, 48])
def test_cifar10_as_png_files_gives_the_features_of_the_archive(pictures, tmp_path, image_size):
    resnet = save(tmp_path, RESNET | {"stem": "imagenet"}, interpolation="bicubic", feature_dim=256)
    write_raw(tmp_path / "raw", [pictures], (3, 32, 32))
    write_encoded(tmp_path / "png", [encode(picture.transpose(1, 2, 0)) for picture in pictures], 3)
    raw, png = (run(Images(tmp_path / kind), resnet, tmp_path, image_size=image_size) for kind in ("raw", "png"))
    np.testing.assert_array_equal(raw, png)
