"""Image files to pixels (`core/decoding.py`), against Pillow."""

import io

import numpy as np
import pytest
from encoding import encode
from PIL import Image, ImageOps

from deepclust.core.decoding import decode_image, decode_reduced
from deepclust.core.errors import DeepclustError

RNG = np.random.default_rng(0)


def smooth(height, width):
    """Colours that change slowly, as in a photograph."""
    small = Image.fromarray(RNG.integers(0, 256, (5, 6, 3), np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


GRAY = RNG.integers(0, 256, (6, 5), np.uint8)
COLOR = RNG.integers(0, 256, (6, 5, 3), np.uint8)
FIRST, SECOND = Image.new("RGB", (5, 6), (255, 0, 0)), Image.new("RGB", (5, 6), (0, 0, 255))


def _turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


TURNED = encode(COLOR, exif=_turned(6))  # the camera was held upright: turn clockwise


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (encode(COLOR), COLOR),
        (encode(GRAY), np.repeat(GRAY[..., None], 3, 2)),
        (encode(Image.fromarray(COLOR).convert("RGBA")), COLOR),
        (encode(Image.fromarray(GRAY).convert("LA")), np.repeat(GRAY[..., None], 3, 2)),
        (encode(FIRST.convert("P"), "GIF"), np.asarray(FIRST)),
        (encode(FIRST, "GIF", save_all=True, append_images=[SECOND]), np.asarray(FIRST)),
        (encode(GRAY.astype(np.uint16) * 256 + 255), np.repeat(GRAY[..., None], 3, 2)),
        (encode(GRAY.astype(np.uint16) * 256, "TIFF"), np.repeat(GRAY[..., None], 3, 2)),
        (encode(Image.fromarray(GRAY > 99)), np.repeat((GRAY > 99)[..., None] * np.uint8(255), 3, 2)),
        (TURNED, np.rot90(COLOR, -1)),
    ],
    ids=["RGB", "gray", "RGBA", "LA", "palette", "animation", "16 bits", "16 bits TIFF", "1 bit", "turned"],
)
def test_every_kind_of_image_becomes_eight_bits(data, expected):
    np.testing.assert_array_equal(decode_image(data, 3, "x"), expected.transpose(2, 0, 1))
    gray = np.asarray(Image.fromarray(np.ascontiguousarray(expected)).convert("L"))
    np.testing.assert_array_equal(decode_image(data, 1, "x"), gray[None])


def as_pillow_decodes(data, mode="RGB"):
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert(mode))


JPEGS = {
    "4:2:0": encode(smooth(37, 50), "JPEG"),
    "4:4:4": encode(smooth(37, 50), "JPEG", subsampling=0),
    "progressive": encode(smooth(37, 50), "JPEG", progressive=True),
    "gray": encode(smooth(37, 50).convert("L"), "JPEG"),
    "CMYK": encode(smooth(37, 50).convert("CMYK"), "JPEG"),
    "upright": encode(smooth(37, 50), "JPEG", exif=Image.Exif()),
    **{f"orientation {tag}": encode(smooth(37, 50), "JPEG", exif=_turned(tag)) for tag in range(1, 9)},
}


@pytest.mark.parametrize("kind", JPEGS)
def test_a_jpeg_is_decoded_to_the_bits_of_pillow(kind):
    np.testing.assert_array_equal(decode_image(JPEGS[kind], 3, "x").transpose(1, 2, 0), as_pillow_decodes(JPEGS[kind]))
    gray = decode_image(JPEGS[kind], 1, "x")
    assert gray.shape == (1, *as_pillow_decodes(JPEGS[kind]).shape[:2])
    assert np.abs(gray[0].astype(int) - as_pillow_decodes(JPEGS[kind], "L")).mean() < 1  # the luma in the file


@pytest.mark.parametrize(
    ("at_least", "part"), [(None, 1), (400, 1), (201, 1), (200, 2), (101, 2), (100, 4), (50, 8), (3, 8)]
)
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_jpeg_is_decoded_at_the_size_that_is_needed(at_least, part, orientation):
    photo = smooth(400, 600)
    data = encode(photo, "JPEG", quality=95, exif=_turned(orientation))
    pixels, extent = decode_reduced(data, 3, "x", at_least)
    expected = as_pillow_decodes(encode(photo.reduce(part), exif=_turned(orientation))).transpose(2, 0, 1)
    assert pixels.shape == expected.shape
    assert extent == pixels.shape[1:]
    assert np.abs(pixels.astype(int) - expected).mean() < 2


@pytest.mark.parametrize(("orientation", "extent"), [(1, (93.75, 125.25)), (6, (125.25, 93.75))])
def test_what_is_no_whole_pixel_any_more_is_told(orientation, extent):
    image = decode_reduced(encode(smooth(375, 501), "JPEG", exif=_turned(orientation)), 3, "x", 93)
    assert image.extent == extent
    assert image.pixels.shape[1:] == tuple(np.ceil(extent))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_extent_of_a_whole_image_is_that_of_its_pixels(format, orientation):
    """Pillow tells the size of a TIFF upright, that of other formats as it is stored."""
    data = encode(smooth(37, 50), format, exif=_turned(orientation))
    pixels, extent = decode_reduced(data, 3, "x", 30)
    assert extent == pixels.shape[1:] == as_pillow_decodes(data).shape[:2]


def test_an_orientation_that_is_no_number_is_ignored():
    photo, exif = smooth(37, 50), _turned(6).tobytes()
    kind = exif.index(b"\x01\x12\x00\x03") + 3  # the tag's number and type; 2: text
    text = exif[:kind] + b"\x02\x00\x00\x00\x026\x00" + exif[kind + 7 :]
    data, plain = encode(photo, "JPEG", exif=text), encode(photo, "JPEG")
    assert Image.open(io.BytesIO(data)).getexif()[0x0112] == "6"
    np.testing.assert_array_equal(decode_image(data, 3, "x"), decode_image(plain, 3, "x"))


def test_other_formats_are_decoded_whole():
    image = decode_reduced(encode(COLOR), 3, "x", 1)
    assert image.pixels.shape == (3, 6, 5)
    assert image.extent == (6, 5)


@pytest.mark.parametrize("at_least", [None, 1])
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_a_truncated_image_does_not_decode(format, at_least):
    noise = RNG.integers(0, 256, (90, 90, 3), np.uint8)
    data = encode(noise, format)
    assert decode_reduced(data, 3, "whole", at_least).pixels.shape[0] == 3
    with pytest.raises(DeepclustError, match="half does not decode"):
        decode_reduced(data[: len(data) // 2], 3, "half", at_least)


def test_pixels_without_a_fixed_range_are_refused():
    with pytest.raises(DeepclustError, match="32-bit"):
        decode_image(encode(Image.fromarray(RNG.random((4, 4), np.float32)), "TIFF"), 1, "x")
