"""Images in tar shards (WebDataset): for sets of any size.

In a shard, files that share their path up to the first dot of the file name are one sample and stand together: an
image, a label as a number in `<sample>.cls` if there is one, and whatever else, which is ignored. Ids follow a hash of
shard and sample, by way of a temporary copy.
"""

import posixpath
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from pydantic import DirectoryPath

from deepclust.core.errors import DeepclustError
from deepclust.core.image_files import EXTENSIONS, ending
from deepclust.data.facts import DatasetFacts, OwnImageOptions
from deepclust.data.folders import look_through
from deepclust.data.formats.archives import TarMember, tar_members
from deepclust.data.names import printable
from deepclust.data.splits import UNKNOWN, EncodedFile, EncodedSplit

FACTS = DatasetFacts(splits={"train": None, "test": None}, optional_splits={"test": "test_path"}, watch=".tar")


class Options(OwnImageOptions):
    """Options of images in tar shards."""

    path: DirectoryPath
    """Folder of shards (`*.tar`, at any depth)."""
    test_path: DirectoryPath | None = None
    """Folder of test shards; without it there is no test split."""
    shuffle: bool = True
    """Put the images into an opaque order, for which the disk holds them twice for a while. Otherwise they keep their
    order: only for shards that were shuffled when they were written."""


def read_split(options: Options, split: str, archives: Sequence[Path]) -> EncodedSplit:
    """Read the images in the shards below `path` (train) or `test_path` (test).

    Classes are named by their numbers.

    Raises:
        DeepclustError: there are no shards or no images in them, one is damaged, or a sample has several images or
            labels, or no readable one.
    """
    folder = options.test_path if split == "test" else options.path
    if folder is None:
        raise DeepclustError("tar shards have a test split only where test_path is given")
    found = [entry for entry in look_through(folder, hidden=False) if ending(entry.path) == ".tar"]
    shards = sorted(path for path, fault in found if not fault)
    if not shards:
        raise DeepclustError(f"{folder} holds no shards (*.tar)")
    passed_over = [(printable(path), fault) for path, fault in found if fault]
    return EncodedSplit(
        None,
        options.channels,
        _files(folder, shards, passed_over),
        skip_unreadable=options.on_error == "skip",
        skip_limit=options.skip_limit,
        shuffle=options.shuffle,
        passed_over=passed_over,
    )


def _files(folder: Path, shards: Sequence[str], passed_over: list[tuple[str, str]]) -> Iterator[EncodedFile]:
    empty = True
    for shard in shards:
        for file in _samples(folder, shard, passed_over):
            empty = False
            yield file
    if empty:
        raise DeepclustError(f"the shards in {folder} hold no images ({', '.join(sorted(EXTENSIONS))})")


def _samples(folder: Path, shard: str, passed_over: list[tuple[str, str]]) -> Iterator[EncodedFile]:
    """Yield the images of a shard; add samples without one to `passed_over`."""
    # Left out before they are grouped: macOS puts `._000.png` between the label and the image of 000.
    members = (member for member in tar_members(folder / shard) if not _is_ignored(member))
    seen: set[str] = set()
    for key, sample in groupby(members, key=_key):
        image: tuple[str, bytes] | None = None
        label = UNKNOWN
        found: dict[str, str] = {}  # the member that is its image, or its label
        for member in sample:
            what = "label" if ending(member.name) == ".cls" else "image"
            if what == "image" and ending(member.name) not in EXTENSIONS:
                continue
            if what in found or (what == "image" and key in seen):
                raise DeepclustError(f"{member.archive}: {_twice(key, what, found.get(what), member.name)}")
            found[what] = member.name
            if what == "label":
                label = _label(member)
            else:
                image = f"{printable(shard)}/{member.name}", member.read()
        if image is None and label != UNKNOWN:
            raise DeepclustError(f"{folder / shard}: no image stands beside the label of {key}")
        if image is None:
            passed_over.append((f"{printable(shard)}/{key}", "no image"))
        else:
            seen.add(key)
            yield EncodedFile.loaded(image[0], label, image[1])


def _twice(key: str, what: str, first: str | None, second: str) -> str:
    """Return why a sample cannot have a second image or label; `first` is None if the first is in another place."""
    if first == second:
        return f"{second} is there twice: remove one, or call it otherwise"
    others = f"{first} and {second} are both its {what}" if first else f"{second} stands apart from the others"
    return f"the sample {key} is there twice, {others}: a sample's name ends at the first dot, write other dots as '_'"


def _is_ignored(member: TarMember) -> bool:
    return member.info.isdir() or posixpath.basename(member.name).startswith(".")


def _key(member: TarMember) -> str:
    folder, name = posixpath.split(member.name)
    return posixpath.join(folder, name.split(".")[0])


def _label(member: TarMember) -> int:
    text = member.read()
    try:
        return int(text)
    except ValueError as error:
        raise DeepclustError(f"{member.archive}: {member.name} holds {text[:20]!r}, expected a number") from error
