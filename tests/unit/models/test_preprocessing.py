"""Resizing and cropping (`models/preprocessing.py`), against Pillow."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from PIL import Image

from deepclust.models.preprocessing import match_channels, resize_and_crop

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def by_pillow(image, size, interpolation, crop_fraction):
    """Image [C, H, W] → [C, size, size]."""
    planes = Image.fromarray(image.transpose(1, 2, 0) if len(image) == 3 else image[0])
    wanted, shorter = math.floor(size / crop_fraction), min(planes.size)
    shape = tuple(wanted * side // shorter for side in planes.size)
    left, top = ((side - size) // 2 for side in shape)
    resized = planes.resize(shape, FILTERS[interpolation]).crop((left, top, left + size, top + size))
    return np.atleast_3d(np.asarray(resized)).transpose(2, 0, 1)


sides = st.integers(1, 40)


@given(sides, sides, sides, st.sampled_from([1, 3]), st.sampled_from(list(FILTERS)), st.sampled_from([1.0, 0.875, 0.5]))
def test_resized_and_cropped_as_by_pillow(height, width, size, channels, interpolation, crop_fraction):
    images = np.random.default_rng(0).integers(0, 256, (2, channels, height, width), np.uint8)
    resized = resize_and_crop(torch.from_numpy(images), size, interpolation, crop_fraction).numpy()
    expected = np.stack([by_pillow(image, size, interpolation, crop_fraction) for image in images])
    assert resized.dtype == np.uint8
    # Coefficients are rounded to integers; where bicubic values overshoot, single pixels of noise differ by up to 15.
    difference = np.abs(resized.astype(int) - expected)
    assert difference.max() <= 20 and difference.mean() <= 1
    assert (difference > 1).mean() < 0.15


@given(sides, sides, sides, st.sampled_from([1, 3]), st.sampled_from(list(FILTERS)))
def test_the_bits_depend_neither_on_the_batch_nor_on_the_layout(height, width, size, channels, interpolation):
    images = torch.randint(0, 256, (3, channels, height, width), dtype=torch.uint8)
    together = resize_and_crop(images, size, interpolation)
    pixels_first = images.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    assert torch.equal(together, torch.cat([resize_and_crop(image[None], size, interpolation) for image in images]))
    assert torch.equal(together, resize_and_crop(pixels_first, size, interpolation))


longer = st.integers(1, 120)


@given(longer, longer, sides, st.sampled_from(list(FILTERS)), st.sampled_from([1.0, 0.875, 0.5]))
def test_only_what_the_crop_keeps_is_resized(height, width, size, interpolation, crop_fraction):
    """The bits are those of the whole image, resized by PyTorch and then cropped."""
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 3, height, width), np.uint8))
    wanted, shorter = math.floor(size / crop_fraction), min(height, width)
    shape = (wanted * height // shorter, wanted * width // shorter)
    whole = getattr(torch.ops.aten, f"_upsample_{interpolation}2d_aa")(
        images.contiguous(memory_format=torch.channels_last), shape, False, shape[0] / height, shape[1] / width
    )
    top, left = ((side - size) // 2 for side in shape)
    expected = whole[..., top : top + size, left : left + size]
    assert torch.equal(resize_and_crop(images, size, interpolation, crop_fraction), expected)


@given(sides, sides, sides, st.sampled_from([1.0, 0.875, 0.5]))
def test_the_corners_are_those_of_the_resized_image(height, width, size, crop_fraction):
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, height, width), np.uint8))
    crops = resize_and_crop(images, size, "bilinear", crop_fraction, corners=True)
    assert torch.equal(crops[:, 0], resize_and_crop(images, size, "bilinear", crop_fraction))
    turned = resize_and_crop(images.flip(-1, -2), size, "bilinear", crop_fraction, corners=True).flip(-1, -2)
    for corner in range(1, 5):  # a corner of an image is the opposite corner of the image turned by 180 degrees
        assert (crops[:, corner].int() - turned[:, 5 - corner].int()).abs().max() <= 1


@pytest.mark.parametrize("interpolation", FILTERS)
def test_images_are_left_alone_where_the_size_fits(interpolation):
    images = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    assert torch.equal(resize_and_crop(images, 8, interpolation), images)


def test_channels_follow_the_network():
    gray = torch.rand(2, 1, 4, 4)
    assert torch.equal(match_channels(gray, 3), gray.repeat(1, 3, 1, 1))
    assert torch.allclose(match_channels(gray.repeat(1, 3, 1, 1), 1), gray)
    assert torch.equal(match_channels(gray, None), gray)
