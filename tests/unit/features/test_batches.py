import io
import threading

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from PIL import Image

from deepclust.core.errors import DeepclustError
from deepclust.core.images import Images, write_encoded, write_raw
from deepclust.features.batches import PREFETCHED, read_batches
from deepclust.models.preprocessing import resize_and_crop

RNG = np.random.default_rng(0)


def encode(image, kind="PNG"):
    """An image file of pixels [C, H, W]."""
    buffer = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0) if len(image) == 3 else image[0]).save(buffer, kind)
    return buffer.getvalue()


def encoded(folder, images, kind="PNG"):
    write_encoded(folder, [encode(image, kind) for image in images], len(images[0]))
    return Images(folder)


def noise(count, *shape):
    return RNG.integers(0, 256, (count, *shape), np.uint8)


def cropped(batches, size, interpolation="bicubic", crop_fraction=1.0):
    """What a network would see, [N, C, size, size]."""
    parts = []
    for images, done in batches:
        pixels = torch.from_numpy(images)
        parts.append(pixels if done else resize_and_crop(pixels, size, interpolation, crop_fraction))
    return torch.cat(parts)


sides = st.integers(1, 40)


@settings(deadline=None)
@given(sides, sides, sides, st.sampled_from([1, 3]), st.sampled_from([1.0, 0.8]))
def test_the_same_pixels_give_the_same_bits_however_they_are_stored(
    tmp_path_factory, height, width, size, channels, crop_fraction
):
    folder, images = tmp_path_factory.mktemp("same"), noise(5, channels, height, width)
    write_raw(folder / "raw", [images], images.shape[1:])
    stored = [Images(folder / "raw"), encoded(folder / "png", images)]
    raw, png = (
        cropped(read_batches(images, 0, 2, size, "bicubic", crop_fraction), size, "bicubic", crop_fraction)
        for images in stored
    )
    assert torch.equal(raw, png)
    assert torch.equal(raw, resize_and_crop(torch.from_numpy(images), size, "bicubic", crop_fraction))


def test_small_images_of_one_size_are_left_for_the_device(tmp_path):
    images = noise(5, 3, 8, 9)
    batches = list(read_batches(encoded(tmp_path, images), 0, 3, 16, "bicubic", 1.0))
    assert [done for _, done in batches] == [False, False]
    np.testing.assert_array_equal(np.concatenate([pixels for pixels, _ in batches]), images)


def test_images_of_the_networks_size_are_not_taken_for_cropped_ones(tmp_path):
    images = [*noise(1, 3, 16, 16), *noise(1, 3, 40, 30)]
    whole = [resize_and_crop(torch.from_numpy(image)[None], 16, "bicubic", 0.5) for image in images]
    batches = read_batches(encoded(tmp_path, images), 0, 2, 16, "bicubic", 0.5)
    assert torch.equal(cropped(batches, 16, "bicubic", 0.5), torch.cat(whole))


def test_images_of_all_sizes_keep_their_order(tmp_path):
    images = [np.full((3, *RNG.integers(4, 40, 2)), 10 * number, np.uint8) for number in range(20)]
    batches = read_batches(encoded(tmp_path, images), 4, 3, 12, "bilinear", 1.0)
    pixels = cropped(batches, 12, "bilinear")
    assert torch.equal(pixels, (10 * torch.arange(4, 20)).byte().view(-1, 1, 1, 1).expand(-1, 3, 12, 12))


def test_each_image_is_decoded_once_and_not_far_ahead(tmp_path, monkeypatch):
    images, read, lock = encoded(tmp_path, noise(60, 3, 9, 7)), [], threading.Lock()
    decode = Images.decode_reduced

    def logged(self, index, at_least):
        with lock:
            read.append(index)
        return decode(self, index, at_least)

    monkeypatch.setattr(Images, "decode_reduced", logged)
    ahead = 3 * (torch.get_num_threads() + PREFETCHED + 1)
    for number, _ in enumerate(read_batches(images, 6, 3, 5, "bilinear", 1.0), 1):
        assert len(read) <= 3 * number + ahead
    assert sorted(read) == list(range(6, 60))


@pytest.mark.parametrize(("height", "width"), [(40, 30), (8, 9)])  # cropped here, and left for the device
def test_corners_are_cropped_as_well(tmp_path, height, width):
    images = noise(5, 3, height, width)
    write_raw(tmp_path / "raw", [images], images.shape[1:])
    expected = resize_and_crop(torch.from_numpy(images), 12, "bicubic", 0.8, corners=True)
    for stored in (Images(tmp_path / "raw"), encoded(tmp_path / "png", images)):
        batches = list(read_batches(stored, 0, 2, 12, "bicubic", 0.8, corners=True))
        seen = [
            torch.from_numpy(pixels)
            if done
            else resize_and_crop(torch.from_numpy(pixels), 12, "bicubic", 0.8, corners=True)
            for pixels, done in batches
        ]
        assert torch.equal(torch.cat(seen), expected)


@pytest.mark.parametrize(("size", "crop_fraction"), [(12, 1.0), (None, 0.8)])
def test_crops_that_would_all_be_the_same(tmp_path, size, crop_fraction):
    write_raw(tmp_path, [noise(2, 3, 9, 9)], (3, 9, 9))
    with pytest.raises(DeepclustError, match="would all be the same"):
        next(read_batches(Images(tmp_path), 0, 2, size, "bicubic", crop_fraction, corners=True))


def photograph(height, width):
    """A large image [C, H, W] with detail of all sizes."""
    layers = [
        Image.fromarray(RNG.integers(0, 256, (height // step + 1, width // step + 1, 3), np.uint8))
        for step in (100, 30, 10, 3)
    ]
    sized = [np.asarray(layer.resize((width, height), Image.Resampling.BICUBIC), np.float32) for layer in layers]
    return np.mean(sized, 0).astype(np.uint8).transpose(2, 0, 1)


@pytest.mark.parametrize(("height", "width", "part"), [(375, 500, 4), (333, 251, 2), (727, 963, 8)])
def test_a_large_jpeg_is_decoded_at_the_size_that_is_needed(tmp_path, monkeypatch, height, width, part):
    shapes, decode = [], Images.decode_reduced

    def logged(self, *arguments):
        image = decode(self, *arguments)
        shapes.append(image.pixels.shape)
        return image

    images = encoded(tmp_path, [photograph(height, width)], "JPEG")
    whole = resize_and_crop(torch.from_numpy(images.decode(0))[None], 64, "bicubic", 0.8)
    monkeypatch.setattr(Images, "decode_reduced", logged)
    [batch] = read_batches(images, 0, 2, 64, "bicubic", 0.8)
    assert shapes == [(3, -(-height // part), -(-width // part))]
    assert batch.cropped
    assert np.abs(batch.images - whole.numpy().astype(int)).mean() < 2.5


def test_images_that_stay_as_they_are_have_one_size(tmp_path):
    images = noise(7, 3, 5, 6)
    batches = read_batches(encoded(tmp_path / "one", images), 0, 4, None, "bilinear", 1.0)
    np.testing.assert_array_equal(np.concatenate([pixels for pixels, _ in batches]), images)
    two_sizes = encoded(tmp_path / "two", [*images, *noise(1, 3, 6, 5)])
    with pytest.raises(DeepclustError, match=r"image_size") as caught:
        list(read_batches(two_sizes, 0, 4, None, "bilinear", 1.0))
    assert "image 7" in str(caught.value)
