"""Tiny-ImageNet: 110,000 colour photographs of 64 × 64 pixels in 200 classes (Stanford CS231n, 2015).

The official zip: `train/<wnid>/images/*.JPEG`, and `val/images/*.JPEG` with `val/val_annotations.txt`, which is the
test split here (the official test images have no labels and are left out). Images are decoded and stored as pixels, in
an opaque order. The official page publishes no checksum; the MD5 is the one that Avalanche (continual learning
library) and many others require.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath

from deepclust.core.errors import DeepclustError
from deepclust.data.facts import Archive, ArchiveOptions, DatasetFacts
from deepclust.data.formats.zips import ZipArchive
from deepclust.data.splits import EncodedFile, EncodedSplit, opaque_order

TOP = "tiny-imagenet-200"
SHAPE = (3, 64, 64)

FACTS = DatasetFacts(
    splits={"train": 100_000, "test": 10_000},
    classes=200,
    shape=SHAPE,
    archives=(
        Archive(
            file="tiny-imagenet-200.zip",
            sources=("http://cs231n.stanford.edu/tiny-imagenet-200.zip",),
            md5="90528d7ca1a48142e341f4ef8d21d0de",
        ),
    ),
    published_as="Tiny-ImageNet",
)


class Options(ArchiveOptions):
    """Options of Tiny-ImageNet."""


def read_split(options: Options, split: str, archives: Sequence[Path]) -> EncodedSplit:
    """Read the images of `split` (train or test), to be stored as uint8 [n, 3, 64, 64].

    Raises:
        DeepclustError: the archive is not Tiny-ImageNet's.
    """
    archive = ZipArchive(archives[0])
    wnids = _text(archive, "wnids.txt").split()
    words = dict(line.split("\t", 1) for line in _text(archive, "words.txt").splitlines() if "\t" in line)
    labels = _train(archive) if split == "train" else _validation(archive)
    numbers = {wnid: number for number, wnid in enumerate(wnids)}
    if unknown := sorted(set(labels.values()) - set(numbers)):
        raise DeepclustError(f"{archive.path} has images of {unknown[0]}, which its wnids.txt does not name")
    files = [EncodedFile(name, numbers[labels[name]], partial(archive.read, name)) for name in opaque_order(labels)]
    return EncodedSplit([words.get(wnid, wnid) for wnid in wnids], SHAPE[0], files, shape=SHAPE)


def _text(archive: ZipArchive, name: str) -> str:
    return archive.read(f"{TOP}/{name}").decode("utf-8", "replace")


def _train(archive: ZipArchive) -> dict[str, str]:
    """Map images to wnids, from the folders."""
    return dict(_images(archive, f"{TOP}/train/*/images/*"))


def _validation(archive: ZipArchive) -> dict[str, str]:
    """Map images to wnids, from the annotations: tab-separated lines of file, wnid and a box."""
    lines = [line.split("\t") for line in _text(archive, "val/val_annotations.txt").splitlines()]
    wnids = {line[0]: line[1] for line in lines if len(line) > 1}
    labels = {}
    for name, _ in _images(archive, f"{TOP}/val/images/*"):
        file = PurePosixPath(name).name
        if file not in wnids:
            raise DeepclustError(f"{archive.path}: val_annotations.txt has no line for {file}")
        labels[name] = wnids[file]
    return labels


def _images(archive: ZipArchive, pattern: str) -> Iterator[tuple[str, str]]:
    """Yield the paths of the images that match, each with the folder above `images`."""
    for name in archive.names:
        path = PurePosixPath(name)
        if path.match(f"{pattern}.JPEG") and len(path.parts) == pattern.count("/") + 1:
            yield name, path.parts[-3]
