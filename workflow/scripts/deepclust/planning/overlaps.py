"""Test images that are training images, as far as that can be known without a look at the images.

`prepare` looks at them (`deepclust.data.held_out`).
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from deepclust.core.errors import DeepclustError, some_of
from deepclust.core.image_files import files_with
from deepclust.core.image_lists import read_list
from deepclust.planning.problems import Keys, Problem

_SHOWN = 3
_MOST_BYTES = 2**24  # of lists that are compared: some 300,000 rows, a second


def check_overlap(where: Keys, options: dict[str, Any], facts: dict[str, Any]) -> Iterator[Problem]:
    """Yield a problem if the sources of a dataset's test split are, or hold, sources of its train split.

    Args:
        where: the dataset's place in the experiment.
        options: the dataset's options.
        facts: the facts of its loader.
    """
    key = facts.get("optional_splits", {}).get("test")
    if options.get("on_overlap") != "fail" or not all(isinstance(options.get(name), str) for name in ("path", key)):
        return
    try:
        if shared := _shared(options, key, facts["watch"]):
            yield Problem(
                (*where, key), f"{shared}: held-out images must be others; if it must be so, set on_overlap: keep"
            )
    except (OSError, ValueError, DeepclustError) as error:
        yield Problem((*where, key), str(error))


def _shared(options: dict[str, Any], key: str, watch: str) -> str:
    """Return the common part of both splits in words; empty: there is none."""
    path, test = Path(options["path"]), Path(options[key])
    if key == "test":  # a pattern
        return _same_files(path.glob(options["train"]), path.glob(options["test"]))
    if path.is_file() and test.is_file():
        return _same_rows(path, test, options)
    if not (path.is_dir() and test.is_dir()):
        return ""
    if watch.startswith("."):
        return _same_files(*([folder / name for name in files_with(folder, {watch})] for folder in (path, test)))
    return _same_folders(path, test)


def _same_files(train: Iterable[Path], test: Iterable[Path]) -> str:
    """Name the files of both splits, through any links; they are few enough to look at each."""
    known = {_identity(path) for path in train}
    shared = sorted(str(path) for path in test if _identity(path) in known)
    return f"{len(shared)} files of the train split: {some_of(shared, _SHOWN)}" if shared else ""


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _same_rows(train: Path, test: Path, options: dict[str, Any]) -> str:
    """Name the rows of both lists that have the same path, links aside; long lists are left to `prepare`."""
    if train.stat().st_size + test.stat().st_size > _MOST_BYTES:
        return ""
    known, held_out = (_listed(path, options) for path in (train, test))
    shared = [name for place, name in held_out.items() if place in known]
    return f"{len(shared)} of its images are in {train}, too: {some_of(shared, _SHOWN)}" if shared else ""


def _listed(path: Path, options: dict[str, Any]) -> dict[str, str]:
    """Map the normal path of each image to its spelling in the list."""
    root = Path(options.get("root") or path.parent).resolve()
    names = read_list(path, options["path_column"], options["label_column"])
    # Joining texts is seven times as fast as joining paths.
    return {os.path.normpath(name if name.startswith("/") else f"{root}/{name}"): name for name in names}


def _same_folders(path: Path, test: Path) -> str:
    """Name the folders if one of them holds the other, unless it is hidden there."""
    train, held_out = path.resolve(), test.resolve()
    if train == held_out:
        return f"{test} is the same folder as {path}"
    for relation, inner, outer in (("inside", held_out, train), ("above", train, held_out)):
        if inner.is_relative_to(outer) and not any(part.startswith(".") for part in inner.relative_to(outer).parts):
            return f"{test} is {relation} {path}"
    return ""
