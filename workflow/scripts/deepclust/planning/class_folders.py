"""Folders of images whose subfolders are splits, where classes are expected."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from deepclust.core.image_files import image_paths

TRAIN = ("train", "training")
TEST = ("test", "testing", "val", "valid", "validation", "eval", "dev")  # the first of them that is there is meant
WRAPPERS = ("images", "imgs", "image")  # around the images of a dataset or of a split


def meant_splits(folders: Mapping[str, Path]) -> tuple[str, dict[str, str]] | None:
    """Return the options that were meant if the subfolders of a folder are splits, not classes.

    Args:
        folders: folders by option: `path`, and maybe `test_path`.

    Returns:
        The option with the mistake of its folder, and the options as they were meant; None: all is well.

    Raises:
        OSError: a folder cannot be looked through.
    """
    for option, folder in folders.items():
        if names := _no_classes(folder):
            meant, found = {key: str(path) for key, path in folders.items()}, _splits(folder)
            meant |= found if option == "path" else {option: found.get(option, found["path"])}
            return f"{option}: {folder} holds {' and '.join(names)}, which would be the classes", meant
    return None


def _splits(folder: Path) -> dict[str, str]:
    """Return the options of a folder with splits: the folder of its images, and that of its test images, if any."""
    folder = _unwrapped(folder)
    names = {name.lower(): name for name in _no_classes(folder)}
    train, test = (next((names[name] for name in known if name in names), None) for known in (TRAIN, TEST))
    if train is None and test is None:
        return {"path": str(folder)}
    paths = {"path": train or test, "test_path": test if train else None}
    return {option: str(_unwrapped(folder / name)) for option, name in paths.items() if name is not None}


def _unwrapped(folder: Path) -> Path:
    while len(names := _no_classes(folder)) == 1 and names[0].lower() in WRAPPERS:
        folder = folder / names[0]
    return folder


def _no_classes(folder: Path) -> list[str]:
    """Return the subfolders with images, in alphabetical order, if none of them has a name that a class may have."""
    known = {*TRAIN, *TEST, *WRAPPERS}
    spelled = {name for word in known for name in (word, word.title(), word.upper())}
    if not any((folder / name).is_dir() for name in spelled):  # a folder of many files is not listed for nothing
        return []
    names = sorted(_subfolders(folder), key=lambda name: (name.lower() in known, name))  # classes are seen first
    found = []
    for name in names:
        if any(True for _ in image_paths(folder / name)):
            if name.lower() not in known:
                return []
            found.append(name)
    return found


def _subfolders(folder: Path) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if (
                not entry.name.startswith(".")
                and not entry.is_file(follow_symlinks=False)
                and Path(entry.path).is_dir()
            ):
                yield entry.name
