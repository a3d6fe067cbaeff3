"""Images with transparent parts lie on white (`core/decoding.py`), whatever format holds them."""

import struct
import warnings
import zlib

import numpy as np
import pytest
from encoding import encode
from PIL import Image

from deepclust.core.decoding import decode_image

RNG = np.random.default_rng(0)
COLORS = RNG.integers(0, 256, (8, 9, 3), np.uint8)
GRAY = RNG.integers(0, 256, (8, 9), np.uint8)
CLEAR = np.zeros((8, 9), bool)
CLEAR[2:5, 1:7] = True
ALPHA = np.where(CLEAR, 0, 255).astype(np.uint8)
WHITE = 255


def with_alpha(colors, alpha=ALPHA):
    image = Image.fromarray(colors)
    image.putalpha(Image.fromarray(alpha))
    return image


def png(depth, kind, rows, *chunks):
    """A PNG of packed rows, as Pillow does not write them: depth in bits, kind of color, other chunks."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width = len(rows), 9
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    packed = zlib.compress(b"".join(b"\0" + bytes(row) for row in rows))
    parts = [(b"IHDR", header), *chunks, (b"IDAT", packed), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def packed_gray(depth, values, key):
    """A gray PNG with values in `depth` bits, of which `key` is transparent."""
    if depth == 16:
        rows = [row.astype(">u2").tobytes() for row in values]
    else:
        bits = (values[:, :, None] >> np.arange(depth - 1, -1, -1)) & 1
        rows = [np.packbits(row.reshape(-1)).tobytes() for row in bits]
    return png(depth, 0, rows, (b"tRNS", struct.pack(">H", key)))


def few_colors(transparency):
    """A palette of four colors, of which the first two are transparent as told."""
    indices = RNG.integers(0, 4, (8, 9)).astype(np.uint8)
    palette = RNG.integers(0, 200, (4, 3), np.uint8)
    image = Image.fromarray(indices, "L")
    image.putpalette(palette.tobytes())
    return encode(image, transparency=transparency), palette[indices].astype(float), indices


def shown(colors, clear):
    expected = colors.copy()
    expected[clear] = WHITE
    return expected if expected.ndim == 3 else np.repeat(expected[..., None], 3, 2)


def check(data, expected, tolerance=0):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pixels = decode_image(data, 3, "x").transpose(1, 2, 0)
    assert np.abs(pixels.astype(float) - expected).max() <= tolerance
    gray = np.asarray(Image.fromarray(pixels).convert("L"))
    assert np.array_equal(decode_image(data, 1, "x")[0], gray)


LOSSLESS = {"PNG": {}, "WEBP": {"lossless": True}, "TIFF": {}, "TGA": {}, "ICO": {}, "JPEG2000": {}, "DDS": {}}


@pytest.mark.parametrize("format", LOSSLESS)
def test_clear_pixels_of_colors_are_white(format):
    colors, clear = np.zeros((16, 16, 3), np.uint8), np.zeros((16, 16), bool)
    colors[:8, :8], clear[3:9, 2:14] = COLORS[:8, :8], True
    image = with_alpha(colors, np.where(clear, 0, 255).astype(np.uint8))
    check(encode(image, format, **LOSSLESS[format]), shown(colors, clear))


@pytest.mark.parametrize("format", ["PNG", "TIFF", "JPEG2000"])
def test_clear_pixels_of_grays_are_white(format):
    image = Image.merge("LA", [Image.fromarray(GRAY), Image.fromarray(ALPHA)])
    check(encode(image, format), shown(GRAY, CLEAR))


def test_half_clear_pixels_are_mixed_with_white():
    alpha = RNG.integers(0, 256, (8, 9), np.uint8)
    share = alpha[..., None] / 255
    check(encode(with_alpha(COLORS, alpha)), COLORS * share + WHITE * (1 - share), tolerance=1)


def test_a_wholly_clear_image_is_white():
    check(encode(with_alpha(COLORS, np.zeros((8, 9), np.uint8))), np.full((8, 9, 3), WHITE))


@pytest.mark.parametrize("transparency", [0, b"\0\0", b"\0\x80"])
def test_palettes_with_transparent_colors(transparency):
    data, colors, indices = few_colors(transparency)
    alphas = np.full(4, 255)
    alphas[: len(b"\0" if transparency == 0 else transparency)] = list(b"\0" if transparency == 0 else transparency)
    share = alphas[indices][..., None] / 255
    check(data, colors * share + WHITE * (1 - share), tolerance=1)


def test_animations_with_a_transparent_color():
    image = with_alpha(np.where(CLEAR[..., None], 0, np.uint8(90)) * np.ones(3, np.uint8))
    data = encode(image, "GIF", save_all=True, append_images=[image.rotate(180)])
    check(data, shown(np.full((8, 9, 3), 90), CLEAR))


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_a_gray_that_stands_for_transparent(depth):
    largest = 2**depth - 1
    values = RNG.integers(0, largest, (8, 9)).astype(np.int64)
    values[CLEAR] = largest // 2
    values[0, :2] = (values[CLEAR][0] & ~1, 0) if depth < 16 else (values[CLEAR][0] + 1, values[CLEAR][0] - 256)
    key = int(values[4, 4])
    bits8 = values >> 8 if depth == 16 else values * 255 // largest
    check(packed_gray(depth, values, key), shown(bits8, values == key))


@pytest.mark.parametrize("depth", [8, 16])
def test_a_color_that_stands_for_transparent(depth):
    values = COLORS.astype(np.int64) << (depth - 8)
    values[CLEAR] = values[0, 0]
    clear = (values == values[0, 0]).all(2)
    rows = [row.astype(f">u{depth // 8}").tobytes() for row in values.reshape(8, -1)]
    data = png(depth, 2, rows, (b"tRNS", struct.pack(">3H", *values[0, 0].tolist())))
    check(data, shown(values >> (depth - 8), clear))


def test_sixteen_bits_with_alpha():
    """Pillow reads color of 16 bits by its high bytes, gray the same."""
    color = np.dstack([COLORS, ALPHA]).astype(">u2") * 257
    data = png(16, 6, [row.tobytes() for row in color.reshape(8, -1)])
    check(data, shown(COLORS, CLEAR))
    gray = np.dstack([GRAY, ALPHA]).astype(">u2") * 257
    check(png(16, 4, [row.tobytes() for row in gray.reshape(8, -1)]), shown(GRAY, CLEAR))


def test_transparency_is_turned_with_the_image():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(with_alpha(COLORS), exif=exif)
    check(data, np.rot90(shown(COLORS, CLEAR), -1))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_opaque_images_with_alpha_keep_their_bits(mode):
    image = Image.fromarray(COLORS).convert(mode)
    image.putalpha(255)
    data = encode(image, "TIFF" if mode == "PA" else "PNG")
    for channels, wanted in ((1, "L"), (3, "RGB")):
        expected = np.asarray(image.convert(wanted)).reshape(8, 9, channels)
        np.testing.assert_array_equal(decode_image(data, channels, "x").transpose(1, 2, 0), expected)


def test_a_palette_whose_transparent_color_is_not_used_keeps_its_bits():
    image = Image.fromarray(COLORS).quantize(8)
    for channels, wanted in ((1, "L"), (3, "RGB")):
        expected = np.asarray(image.convert(wanted)).reshape(8, 9, channels)
        data = encode(image, transparency=200)
        np.testing.assert_array_equal(decode_image(data, channels, "x").transpose(1, 2, 0), expected)
