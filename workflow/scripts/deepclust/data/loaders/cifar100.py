"""CIFAR-100: 60,000 colour photographs of 32 × 32 pixels in 100 classes of 20 superclasses (Krizhevsky, 2009).

The binary version; images keep the order of the archive, which is random. The MD5 is the one published at
https://www.cs.toronto.edu/~kriz/cifar.html, the SHA-256 that of TensorFlow Datasets for the same address.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from deepclust.core.errors import DeepclustError
from deepclust.data.facts import Archive, ArchiveOptions, DatasetFacts, Variant
from deepclust.data.formats.archives import read_tar
from deepclust.data.formats.cifar import SHAPE, read_records
from deepclust.data.splits import RawBlock, RawSplit

FOLDER = "cifar-100-binary"
RECORDS = {"train": 50_000, "test": 10_000}
LABELS = {"coarse": 20, "fine": 100}  # in the order of their bytes in a record

FACTS = DatasetFacts(
    splits=RECORDS,
    classes=LABELS["fine"],
    shape=SHAPE,
    archives=(
        Archive(
            file="cifar-100-binary.tar.gz",
            sources=("https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",),
            sha256="58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
            md5="03b5dce01913d631647c71ecec9e9cb8",
        ),
    ),
    published_as="CIFAR-100",
    variants={"labels": {"coarse": Variant(classes=LABELS["coarse"], published_as="CIFAR-100-20")}},
)


class Options(ArchiveOptions):
    """Options of CIFAR-100."""

    labels: Literal["fine", "coarse"] = "fine"
    """`fine`: 100 classes. `coarse`: their 20 superclasses, which many papers on clustering mean by CIFAR-100."""


def read_split(options: Options, split: str, archives: Sequence[Path]) -> RawSplit:
    """Read the images of `split` (train or test), uint8 [n, 3, 32, 32].

    Raises:
        DeepclustError: the archive is not CIFAR-100's.
    """
    (archive,) = archives
    file = f"{FOLDER}/{options.labels}_label_names.txt"
    classes = read_tar(archive, {file: None})[file].decode("utf-8", "replace").split()
    if len(classes) != LABELS[options.labels]:
        raise DeepclustError(f"{archive}: {file} names {len(classes)} classes, expected {LABELS[options.labels]}")
    column = list(LABELS).index(options.labels)
    return RawSplit(classes, SHAPE, _records(archive, split, column))


def _records(archive: Path, split: str, column: int) -> Iterator[RawBlock]:
    return read_records(archive, [f"{FOLDER}/{split}.bin"], RECORDS[split], list(LABELS.values()), column)
