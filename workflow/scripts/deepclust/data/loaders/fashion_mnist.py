"""Fashion-MNIST: 70,000 gray images of clothes, 28 × 28 pixels, 10 classes (Xiao et al., 2017).

Images keep the order of the files, which is random. Addresses and MD5s are torchvision's, the SHA-256s those of
TensorFlow Datasets for the same addresses.
"""

from collections.abc import Sequence
from pathlib import Path

from deepclust.data.facts import DatasetFacts, FilesOptions
from deepclust.data.formats import idx
from deepclust.data.splits import RawSplit

CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
ADDRESS = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
FILES = {
    "train-images-idx3-ubyte.gz": (
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    ),
    "train-labels-idx1-ubyte.gz": (
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "25c81989df183df01b3e8a0aad5dffbe",
    ),
    "t10k-images-idx3-ubyte.gz": (
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "bef4ecab320f06d8554ea6380940ec79",
    ),
    "t10k-labels-idx1-ubyte.gz": (
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        "bb300cfdad3c16e7a12a480ee83cd310",
    ),
}

FACTS = DatasetFacts(
    splits={"train": 60_000, "test": 10_000},
    classes=len(CLASSES),
    shape=idx.SHAPE,
    archives=idx.archives(FILES, [ADDRESS]),
    published_as="Fashion-MNIST",
)


class Options(FilesOptions):
    """Options of Fashion-MNIST."""


def read_split(options: Options, split: str, archives: Sequence[Path]) -> RawSplit:
    """Read the images of `split` (train or test), uint8 [n, 1, 28, 28].

    Raises:
        DeepclustError: the files are not Fashion-MNIST's.
    """
    return idx.read_split(archives, CLASSES)
