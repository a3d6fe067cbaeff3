"""MNIST: 70,000 gray images of handwritten digits, 28 × 28 pixels, 10 classes (LeCun et al., 1998).

Images keep the order of the files, which is random. Addresses and MD5s are torchvision's, the SHA-256s those of
TensorFlow Datasets.
"""

from collections.abc import Sequence
from pathlib import Path

from deepclust.data.facts import DatasetFacts, FilesOptions
from deepclust.data.formats import idx
from deepclust.data.splits import RawSplit

CLASSES = tuple("0123456789")
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "http://yann.lecun.com/exdb/mnist/",
)
FILES = {
    "train-images-idx3-ubyte.gz": (
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    ),
    "train-labels-idx1-ubyte.gz": (
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "d53e105ee54ea40749a09fcbcd1e9432",
    ),
    "t10k-images-idx3-ubyte.gz": (
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "9fb629c4189551a2d022fa330f9573f3",
    ),
    "t10k-labels-idx1-ubyte.gz": (
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        "ec29112dd5afa0611ce80d1b7f02629c",
    ),
}

FACTS = DatasetFacts(
    splits={"train": 60_000, "test": 10_000},
    classes=len(CLASSES),
    shape=idx.SHAPE,
    archives=idx.archives(FILES, MIRRORS),
    published_as="MNIST",
)


class Options(FilesOptions):
    """Options of MNIST."""


def read_split(options: Options, split: str, archives: Sequence[Path]) -> RawSplit:
    """Read the images of `split` (train or test), uint8 [n, 1, 28, 28].

    Raises:
        DeepclustError: the files are not MNIST's.
    """
    return idx.read_split(archives, CLASSES)
