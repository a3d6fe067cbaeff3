"""Features of images, by the functions that prepare and extract those of the workflow."""

import contextlib
import csv
import io
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from deepclust.core.command import describe_validation
from deepclust.core.errors import DeepclustError, did_you_mean
from deepclust.core.image_files import EXTENSIONS, ending
from deepclust.core.progress import Progress
from deepclust.features.options import ExtractionOptions
from deepclust.models.description import DESCRIPTION

Features = npt.NDArray[np.floating]
Images = str | Path | Sequence[str | Path] | npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Extracted:
    """Features of images that were read from files.

    Attributes:
        features: [N, D].
        names: path of each image, relative to its folder or list, [N].
        skipped: path and reason of every other file.
    """

    features: Features
    names: list[str]
    skipped: list[tuple[str, str]]


def images(place: str | Path) -> list[Path]:
    """Return the paths of all images of a folder at any depth, of a list, or of one image, in the order of `extract`.

    Args:
        place: a folder, sorted by path; a text file with one path per line or a table with a column `path`; an image.

    Raises:
        DeepclustError: there are no images.

    Example:
        >>> import tempfile
        >>> import deepclust
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("L", (8, 8)).save(f"{folder}/b.png")
        ...     Image.new("L", (8, 8)).save(f"{folder}/a.png")
        ...     [path.name for path in deepclust.images(folder)]
        ['a.png', 'b.png']
    """
    root, names, _ = named_images(Path(place))
    return [root / name for name in names]


def extract(images: Images, backbone: str | Path, *, channels: Literal[1, 3] = 3, **reading: Any) -> Features:
    """Turn images into features [N, D], float16 unless `dtype` says otherwise, one row per image.

    Args:
        images: a folder, a list or one image, in the order of `deepclust.images`; paths; or pixels, uint8 [N, H, W] or
            [N, H, W, 3].
        backbone: a preset (docs/backbones.md), whose weights are downloaded once to `~/.cache/deepclust`; or the folder
            of a backbone that a workflow made or fetched (`results/backbones/<name>`), or its `model.json`.
        channels: 3 for color, 1 for gray; files are decoded to that.
        reading: options of the extraction (`image_size`, `pooling` …), see `features` in docs/options.md.

    Raises:
        DeepclustError: images cannot be read, or there is no such backbone or option.

    Example:
        >>> import deepclust
        >>> import numpy as np
        >>> pixels = np.zeros((4, 8, 8), np.uint8)
        >>> deepclust.extract(pixels, backbone="pixels").shape
        (4, 64)
    """
    options = reading_options(reading)
    if channels not in (1, 3):
        raise DeepclustError(f"channels must be 1 or 3, not {channels!r}")
    with tempfile.TemporaryDirectory(prefix="deepclust-") as temporary:
        folder = Path(temporary)
        model = model_of(backbone, folder)
        if isinstance(images, np.ndarray):
            _write_pixels(images, folder)
            return _features(folder, model, options)
        if isinstance(images, str | Path):
            root, names, _ = named_images(Path(images))
        else:
            root, names = Path(), [str(path) for path in images]
        found = extract_files(root, names, model, options, channels, on_error="fail", folder=folder)
    return found.features


def named_images(place: Path) -> tuple[Path, list[str], list[tuple[str, str]]]:
    """Return a folder, the paths of the images in it, and path and reason of every other file.

    Args:
        place: a folder, a list, or one image.

    Raises:
        DeepclustError: there are no images.
    """
    from deepclust.core.image_lists import LABEL_COLUMN, read_list
    from deepclust.data.folders import FolderContent

    if place.is_dir():
        content = FolderContent(place)
        if not content.images:
            raise DeepclustError(f"{place} holds no images")
        return place, sorted(content.images), sorted(content.passed_over)
    if not place.exists():
        raise DeepclustError(f"there is no folder, list or image {place}")
    if ending(place.name) in EXTENSIONS:
        return place.parent, [place.name], []
    return place.parent, list(read_list(place, "path", LABEL_COLUMN)), []


def extract_files(
    root: Path,
    names: Iterable[str],
    model: Path,
    options: ExtractionOptions,
    channels: Literal[1, 3],
    on_error: Literal["fail", "skip"],
    folder: Path,
) -> Extracted:
    """Extract features of image files, in the given order; images are read in that of the workflow, so bits are equal.

    Args:
        root: folder that names are relative to.
        model: `model.json` of a backbone.
        on_error: reaction to files that do not decode.
        folder: an empty place for temporary files.

    Raises:
        DeepclustError: images do not decode, or none does.
    """
    from deepclust.data.names import printable
    from deepclust.data.splits import UNKNOWN, EncodedFile, EncodedSplit, opaque_order
    from deepclust.data.writing import write_split

    names = list(names)
    files = [EncodedFile.stored(printable(name), UNKNOWN, root / name) for name in opaque_order(dict.fromkeys(names))]
    split = EncodedSplit([], channels, files, skip_unreadable=on_error == "skip")
    with contextlib.redirect_stderr(io.StringIO()):  # a warning that names a temporary file
        write_split(split, folder, folder, progress=Progress(hidden=True))
    features = _features(folder, model, options)
    rows = {name: row for row, name in enumerate(_column(folder / "ids.csv", "path"))}
    kept = [name for name in map(printable, names) if name in rows]
    skipped = folder / "skipped.csv"
    faults = list(zip(*(_column(skipped, key) for key in ("path", "reason")))) if skipped.exists() else []
    return Extracted(features[[rows[name] for name in kept]], kept, faults)


def reading_options(given: dict[str, Any]) -> ExtractionOptions:
    """Return options of the extraction.

    Raises:
        DeepclustError: there is no such option or value.
    """
    known = ExtractionOptions.model_fields
    for key in given.keys() - known.keys():
        raise DeepclustError(f"there is no option {key!r} of features{did_you_mean(key, known)}")
    try:
        return ExtractionOptions(**given)
    except ValidationError as error:
        raise DeepclustError(f"options of features: {describe_validation(error)}") from error


def model_of(backbone: str | Path, folder: Path) -> Path:
    """Return the `model.json` of a backbone; that of raw pixels is written to a folder, those of presets to a cache.

    Raises:
        DeepclustError: there is no such backbone, or its weights cannot be had.
    """
    from deepclust.planning.pretrained import presets

    path = Path(backbone)
    if (path / DESCRIPTION).is_file():
        return path / DESCRIPTION
    if path.is_file() and path.suffix == ".json":
        return path
    if backbone == "pixels":
        from deepclust.backbones.pixels import Options, write

        write(Options(), folder / DESCRIPTION)
        return folder / DESCRIPTION
    if backbone not in presets():
        hint = did_you_mean(backbone, ["pixels", *presets()])
        raise DeepclustError(f"{backbone} is neither a preset nor the folder of a backbone with {DESCRIPTION}{hint}")
    return _fetched(str(backbone))


def _fetched(preset: str) -> Path:
    """Return the `model.json` of a preset, whose weights are fetched at first use."""
    from deepclust.backbones.pretrained import Options, fetch
    from deepclust.data.checksums import Checksum
    from deepclust.data.downloading import download
    from deepclust.planning.pretrained import download_of, file_name, resolved

    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "deepclust"
    model = cache / "backbones" / preset / DESCRIPTION
    if model.is_file():
        return model
    filled = resolved(Options(preset=preset).model_dump())
    options = Options(**{**filled, "arguments": json.loads(filled["arguments"])})
    address, file = options.weights or "", None
    if download_of(address, options.sha256):
        file = cache / "downloads" / file_name(address)
        if not file.is_file():
            checksum = Checksum("sha256", options.sha256) if options.sha256 else None
            download([address], file, checksum, Progress())
    with contextlib.redirect_stdout(sys.stderr):
        fetch(options, file, cache / "weights", model, Progress())
    return model


def _write_pixels(pixels: npt.NDArray[Any], folder: Path) -> None:
    from deepclust.core.images import write_raw

    if pixels.dtype != np.uint8 or pixels.ndim not in (3, 4) or 0 in pixels.shape or pixels.shape[3:] not in ((), (3,)):
        given = f"{pixels.dtype} of shape {list(pixels.shape)}"
        raise DeepclustError(f"pixels must be uint8 [N, H, W] or [N, H, W, 3], not {given}")
    planes = pixels[:, None] if pixels.ndim == 3 else pixels.transpose(0, 3, 1, 2)
    write_raw(folder, [planes], planes.shape[1:])


def _features(folder: Path, model: Path, options: ExtractionOptions) -> Features:
    """Return the features of the images that lie prepared in a folder."""
    from deepclust.core.device import choose_devices
    from deepclust.core.images import Images as Prepared
    from deepclust.features.extract import extract as write_features

    target = folder / "features.npy"
    prepared, progress = Prepared(folder), Progress(hidden=True)
    write_features(prepared, model, target, options, devices=choose_devices(), code="", progress=progress)
    features: Features = np.load(target)
    return features


def _column(path: Path, name: str) -> list[str]:
    with path.open(encoding="utf-8", newline="") as file:
        return [row[name] for row in csv.DictReader(file)]
