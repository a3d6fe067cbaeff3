"""Handwritten digits: 1,797 gray images of 8 × 8 pixels in 10 classes, bundled with scikit-learn: no download.

They are the test part of "Optical Recognition of Handwritten Digits" (Alpaydin & Kaynak, 1998) and have no splits of
their own. Here they are put into a fixed opaque order; the first 1,347 are train, the other 450 test. Values 0 to 16
are scaled to 0 to 255.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deepclust.core.options import Options as BaseOptions
from deepclust.data.facts import DatasetFacts
from deepclust.data.splits import RawBlock, RawSplit, opaque_order

FACTS = DatasetFacts(splits={"train": 1347, "test": 450}, classes=10, shape=(1, 8, 8))


class Options(BaseOptions):
    """Options of the digits: there are none."""


def read_split(options: Options, split: str, archives: Sequence[Path]) -> RawSplit:
    """Return the images of `split` (train or test), uint8 [n, 1, 8, 8].

    A name is the image's number in scikit-learn's set.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = opaque_order(f"{number:04d}" for number in range(len(digits.images)))
    train = FACTS.splits["train"]
    names = order[:train] if split == "train" else order[train:]
    rows = np.array([int(name) for name in names])
    images = np.rint(digits.images[rows] * (255 / 16)).astype(np.uint8)[:, None]
    block = RawBlock(images, digits.target[rows], names)
    return RawSplit([str(name) for name in digits.target_names], (1, 8, 8), [block])
