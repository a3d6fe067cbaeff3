"""Figures inside a page: data URIs, re-encoded if that makes them much smaller."""

import base64
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from deepclust.core.errors import DeepclustError
from deepclust.reporting.runs import ScoredRun

_LARGE = 150_000  # bytes of a PNG that are worth a lossy encoding
_QUALITY = 88
_DENSITY = 2  # figures have twice the pixels of a page


@dataclass(frozen=True)
class Figure:
    """An embedded figure: its data URI and its size on the page in CSS pixels."""

    source: str
    width: int
    height: int


def embed(path: Path) -> Figure:
    """Return a PNG file for a page; large ones become WebP.

    Raises:
        DeepclustError: it is not an image.
    """
    from PIL import Image, UnidentifiedImageError

    data, kind = path.read_bytes(), "png"
    try:
        with Image.open(io.BytesIO(data)) as image:
            width, height = image.size
            if len(data) > _LARGE:
                smaller = io.BytesIO()
                image.convert("RGB").save(smaller, "WEBP", quality=_QUALITY, method=4)
                if smaller.tell() < len(data):
                    data, kind = smaller.getvalue(), "webp"
    except UnidentifiedImageError as error:
        raise DeepclustError(f"{path} is not an image: delete it and run the workflow again") from error
    return Figure(data_uri(data, f"image/{kind}"), width // _DENSITY, height // _DENSITY)


def data_uri(data: bytes, kind: str) -> str:
    """Return `data` as an address that needs no network."""
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def figures_of(run: ScoredRun, files: Iterable[Path]) -> dict[str, Path]:
    """Return the figures of a run by the name of their file; they are in a folder that ends in the run's path."""
    ending = Path(run.path).parts
    return {path.stem: path for path in files if path.parent.parts[-len(ending) :] == ending}
