"""Images as the bytes of files."""

import io

from PIL import Image


def encode(pixels, format="PNG", **options):
    """An image file of pixels [H, W, 3], [H, W] or a Pillow image."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()
