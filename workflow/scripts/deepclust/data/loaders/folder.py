"""Your own images: a folder of image files, with or without one subfolder per class.

Ids follow a hash of the path, so their order tells nothing about classes and does not change when images are added.
"""

from collections.abc import Sequence
from pathlib import Path

from pydantic import DirectoryPath

from deepclust.core.errors import DeepclustError, some_of
from deepclust.data.classes import in_alphabetical_order
from deepclust.data.facts import DatasetFacts, OwnImageOptions
from deepclust.data.folders import FolderContent
from deepclust.data.names import printable
from deepclust.data.splits import UNKNOWN, EncodedFile, EncodedSplit, opaque_order

_SHOWN = 3  # other files named in an error

FACTS = DatasetFacts(splits={"train": None, "test": None}, optional_splits={"test": "test_path"})


class Options(OwnImageOptions):
    """Options of a folder of images."""

    path: DirectoryPath
    """Folder of images, in any format that Pillow or pillow-heif reads, at any depth. Its subfolders are the classes;
    images without subfolders have no labels. Hidden and other files are left out and listed in `skipped.csv`, beside
    the labels."""
    test_path: DirectoryPath | None = None
    """Folder of test images, laid out like `path`; without it there is no test split."""
    class_folders: bool = True
    """Take subfolders as classes. Otherwise no image has a label, in a subfolder or not."""


def read_split(options: Options, split: str, archives: Sequence[Path]) -> EncodedSplit:
    """Find the image files below `path` (train) or `test_path` (test).

    Both splits have the same classes: those of either folder.

    Raises:
        DeepclustError: a folder has no images, or has them both directly in it and in subfolders.
    """
    folder = options.test_path if split == "test" else options.path
    if folder is None:
        raise DeepclustError("a folder of images has a test split only where test_path is given")
    content = {path: FolderContent(path) for path in (options.path, options.test_path) if path is not None}
    labelled = {path: _labelled(path, found, options.class_folders) for path, found in content.items()}
    train = labelled[options.path]
    test = labelled[options.test_path] if options.test_path else {}
    labels = test if split == "test" else train
    classes, numbers = in_alphabetical_order(label for label in [*train.values(), *test.values()] if label is not None)
    files = [
        EncodedFile.stored(printable(name), numbers.get(labels[name] or "", UNKNOWN), folder / name)
        for name in opaque_order(labels)
    ]
    known = [] if None in labels.values() else [printable(label) for label in classes]
    return EncodedSplit(
        known,
        options.channels,
        files,
        skip_unreadable=options.on_error == "skip",
        skip_limit=options.skip_limit,
        passed_over=content[folder].passed_over,
    )


def _labelled(folder: Path, content: FolderContent, class_folders: bool) -> dict[str, str | None]:
    """Map the images of a folder, by their paths relative to it, to the names of their classes; None: no classes."""
    labels: dict[str, str | None] = {}
    for name in content.images:
        top, separator, _ = name.partition("/")
        labels[name] = top if separator and class_folders else None
    if not labels:
        others = [f"{name} ({reason})" for name, reason in sorted(content.passed_over)]
        raise DeepclustError(f"{folder} holds no images{f', only {some_of(others, _SHOWN)}' if others else ''}")
    direct = sum(label is None for label in labels.values())
    if 0 < direct < len(labels):
        raise DeepclustError(
            f"{folder} holds {direct} images directly and {len(labels) - direct} in subfolders: give every class a "
            "subfolder, or set class_folders: false"
        )
    return labels
