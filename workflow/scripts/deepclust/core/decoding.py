"""Image files to pixels, at the size that is needed.

simplejpeg decodes JPEGs, which most images are (libjpeg-turbo without Pillow's copies: a quarter less time for the same
bits). Pillow decodes everything else, and JPEGs that are turned or out of the ordinary.
"""

import functools
import io
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from deepclust.core.errors import DeepclustError

if TYPE_CHECKING:
    from PIL import Image

ORIENTATION = 0x0112  # the EXIF tag
_GRAY_STEPS = {"L;2": 255 // 3, "L;4": 255 // 15}  # by Pillow's name of how pixels are packed
_REDUCED, _FURTHER = 254, 330  # tags of TIFF: what a picture is (1: a thumbnail), where more pictures are
_NO_IMAGE = "not an image"
LARGEST = 2**26  # pixels of a JPEG; whether a larger one is meant to exhaust the memory is left to Pillow


class UnreadableImageError(DeepclustError):
    """An image file that does not decode.

    Attributes:
        reason: a few words, without the name of the image.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name} does not decode ({reason}): replace or remove it")
        self.reason = reason


class Decoded(NamedTuple):
    """A decoded image, maybe at a fraction of its size.

    Attributes:
        pixels: uint8 [C, H, W]; the channels of a pixel lie next to each other in memory.
        extent: height and width of the image in the file, in these pixels. Half of an image 375 pixels high has an
            extent of 187.5 and 188 rows.
    """

    pixels: npt.NDArray[np.uint8]
    extent: tuple[float, float]


def decode_image(data: bytes, channels: int, name: str) -> npt.NDArray[np.uint8]:
    """Decode one image file to uint8 [C, H, W] with 1 or 3 channels, which lie next to each other in memory.

    Orientation tags are honoured, palettes become RGB, 16 bits become 8, and transparent pixels show white behind them.

    Args:
        name: what to call the image in an error.

    Raises:
        UnreadableImageError: `name` does not decode.
    """
    return decode_reduced(data, channels, name, None).pixels


def decode_reduced(
    data: bytes, channels: int, name: str, at_least: int | None, memory: npt.NDArray[np.uint8] | None = None
) -> Decoded:
    """Decode one image file like `decode_image`, but no larger than needed.

    A JPEG is decoded to a half, a quarter or an eighth of its size, from the low frequencies of its cosine transform,
    if its shorter side keeps `at_least` pixels. The whole file is read all the same, so damage is found.

    Args:
        memory: uint8 [H, W, C], contiguous; it holds the result if it has just this shape and the decoder can use it.

    Raises:
        UnreadableImageError: `name` does not decode.
    """
    return _decode_jpeg(data, channels, at_least, memory) or _decode_with_pillow(data, channels, name, at_least)


def _decode_jpeg(
    data: bytes, channels: int, at_least: int | None, memory: npt.NDArray[np.uint8] | None
) -> Decoded | None:
    """Decode an ordinary, upright, sound JPEG; return None for anything else."""
    if not data.startswith(b"\xff\xd8\xff"):
        return None
    import simplejpeg

    try:
        height, width, colors, _ = simplejpeg.decode_jpeg_header(data)
        if colors in {"CMYK", "YCCK"} or height * width > LARGEST or _is_turned(data):
            return None
        part = _reduction(min(height, width), at_least)
        rows, columns = -(-height // part), -(-width // part)
        # `strict`: what libjpeg only warns of, such as an end that is missing, is an error.
        pixels: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(
            data,
            "RGB" if channels == 3 else "GRAY",
            min_height=rows,
            min_width=columns,
            strict=True,
            buffer=memory if memory is not None and memory.shape == (rows, columns, channels) else None,
        )
    except Exception:  # Pillow says what is wrong, if anything is
        return None
    return Decoded(pixels.transpose(2, 0, 1), (height / part, width / part))


def _reduction(shorter: int, at_least: int | None) -> int:
    """Return how many times smaller an image is decoded.

    Other fractions than these would be slower than the full size.
    """
    if at_least is None:
        return 1
    return max(part for part in (1, 2, 4, 8) if part == 1 or shorter // part >= at_least)


def _is_turned(data: bytes) -> bool:
    """Tell whether the metadata of a JPEG ask for it to be turned or mirrored."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:  # up to the start of the scan
        if data[at + 1] == 0xE1:  # EXIF or XMP
            from PIL import Image

            with Image.open(io.BytesIO(data)) as image:
                return bool(image.getexif().get(ORIENTATION, 1) != 1)
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return False


def why_no_image(path: Path) -> str | None:
    """Return why a file is no image, by its content; None: it decodes.

    Only the start of a file is read if it is no image.
    """
    from PIL import UnidentifiedImageError

    try:
        with path.open("rb") as file, _open(file):
            pass
        decode_reduced(path.read_bytes(), 3, str(path), 1)
    except UnidentifiedImageError:  # its message holds a memory address
        return _NO_IMAGE
    except UnreadableImageError as error:
        return error.reason
    except Exception as error:  # Pillow's decoders raise almost anything on damaged bytes
        return getattr(error, "strerror", None) or str(error) or type(error).__name__
    return None


def _open(file: IO[bytes]) -> "Image.Image":
    """Open a file as the image that Pillow, or pillow-heif, takes it for.

    Raises:
        PIL.UnidentifiedImageError: no image.
    """
    from PIL import Image

    return Image.open(file, formats=_formats())


@functools.cache
def _formats() -> tuple[str, ...]:
    """Return the formats that Pillow decodes itself: it only recognises others, or leaves them to other programs."""
    import pillow_heif
    from PIL import Image

    Image.preinit()  # the common ones first
    Image.init()
    pillow_heif.register_heif_opener()
    return tuple(name for name in Image.ID if name not in {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"})


def _decode_with_pillow(data: bytes, channels: int, name: str, at_least: int | None) -> Decoded:
    from PIL import ImageOps, UnidentifiedImageError

    try:
        with _open(io.BytesIO(data)) as image:
            width, height = image.size
            _check_not_raw(image)
            _scale_transparent_color(image)
            if at_least is not None:
                image.draft(None, (at_least, at_least))
            part = round(width / image.width)
            turned = image.getexif().get(ORIENTATION) in (5, 6, 7, 8)  # by a quarter
            upright = _on_white(_eight_bits(ImageOps.exif_transpose(image)), "RGB" if channels == 3 else "L")
    except UnidentifiedImageError as error:  # its message holds a memory address
        raise UnreadableImageError(name, _NO_IMAGE) from error
    except Exception as error:  # Pillow's decoders raise almost anything on damaged bytes
        raise UnreadableImageError(name, str(error) or type(error).__name__) from error
    pixels = np.array(upright)
    planes = pixels.transpose(2, 0, 1) if channels == 3 else pixels[None]
    if part == 1:  # what `image.size` was, is stored or upright, depending on the format
        return Decoded(planes, (float(upright.height), float(upright.width)))
    return Decoded(planes, (width / part, height / part) if turned else (height / part, width / part))


def _check_not_raw(image: "Image.Image") -> None:
    """Refuse a raw photo.

    It is a TIFF whose first picture is a thumbnail of those behind it, which Pillow does not reach.
    """
    tags = getattr(image, "tag_v2", {})
    if tags.get(_REDUCED, 0) & 1 and _FURTHER in tags:
        raise ValueError("a raw photo, of which only a thumbnail can be read: convert it first")


def _scale_transparent_color(image: "Image.Image") -> None:
    """Bring the one color of a PNG that stands for transparent to 8 bits, before Pillow does so with the pixels."""
    color, tiles = image.info.get("transparency"), getattr(image, "tile", [])
    bits = tiles[0].args if tiles else None
    if color is None or not isinstance(bits, str):
        return
    if bits in _GRAY_STEPS:
        image.info["transparency"] = color * _GRAY_STEPS[bits]
    elif bits == "RGB;16B":
        image.info["transparency"] = tuple(value >> 8 for value in color)


def _eight_bits(image: "Image.Image") -> "Image.Image":
    """Return a gray image of 16 bits by its high bytes, as Pillow does for colors.

    Its `convert` would cut off at 255.
    """
    from PIL import Image

    if image.mode.startswith("I;16"):
        values, clear = np.asarray(image), image.info.get("transparency")
        gray = Image.fromarray((values >> 8).astype(np.uint8))
        if clear is not None:
            gray.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
        return gray
    if image.mode in {"I", "F"}:
        raise ValueError("32-bit pixels have no fixed range, convert the image to 8 or 16 bits")
    return image


def _on_white(image: "Image.Image", mode: str) -> "Image.Image":
    """Return an image without its transparency: mixed with white by its alpha."""
    from PIL import Image

    if image.has_transparency_data:
        layer = image.convert("RGBA")
        if layer.getchannel("A").getextrema() != (255, 255):
            image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
        image.info.pop("transparency", None)  # of which Pillow would warn, although no pixel has it
    return image.convert(mode)
