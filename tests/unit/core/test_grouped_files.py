from pathlib import Path

import pytest

from deepclust.core.errors import DeepclustError
from deepclust.core.files import by_split

FILES = [Path(name) for name in ("train-a", "train-b", "test-a", "test-b")]


@pytest.mark.parametrize("backbones", [None, 2])
def test_files_are_ordered_by_split_and_by_backbone_within_a_split(backbones):
    assert by_split(FILES, ["train", "test"], backbones) == {"train": FILES[:2], "test": FILES[2:]}


@pytest.mark.parametrize(
    ("files", "splits", "backbones"), [(4, 3, None), (0, 1, None), (4, 2, 1), (4, 4, 2), (3, 2, None)]
)
def test_numbers_that_do_not_fit(files, splits, backbones):
    with pytest.raises(DeepclustError, match=f"{files} files for {splits} splits"):
        by_split(FILES[:files], [str(split) for split in range(splits)], backbones)
