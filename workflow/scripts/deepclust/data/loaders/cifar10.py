"""CIFAR-10: 60,000 colour photographs of 32 × 32 pixels in 10 classes (Krizhevsky, 2009), the binary version.

Images keep the order of the archive, which is random: train is data_batch_1 to 5, test is test_batch. The MD5 is the
one published at https://www.cs.toronto.edu/~kriz/cifar.html, the SHA-256 that of TensorFlow Datasets for the same
address.
"""

from collections.abc import Sequence
from pathlib import Path

from deepclust.data.facts import Archive, ArchiveOptions, DatasetFacts
from deepclust.data.formats.cifar import SHAPE, read_records
from deepclust.data.splits import RawSplit

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
RECORDS = 10_000
FILES = {
    "train": [f"cifar-10-batches-bin/data_batch_{number}.bin" for number in range(1, 6)],
    "test": ["cifar-10-batches-bin/test_batch.bin"],
}

FACTS = DatasetFacts(
    splits={split: RECORDS * len(files) for split, files in FILES.items()},
    classes=len(CLASSES),
    shape=SHAPE,
    archives=(
        Archive(
            file="cifar-10-binary.tar.gz",
            sources=("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
            sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            md5="c32a1d4ab5d03f1284b67883e8d87530",
        ),
    ),
    published_as="CIFAR-10",
)


class Options(ArchiveOptions):
    """Options of CIFAR-10."""


def read_split(options: Options, split: str, archives: Sequence[Path]) -> RawSplit:
    """Read the images of `split` (train or test), uint8 [n, 3, 32, 32].

    Raises:
        DeepclustError: the archive is not CIFAR-10's.
    """
    return RawSplit(CLASSES, SHAPE, read_records(archives[0], FILES[split], RECORDS, [len(CLASSES)]))
