"""ImageNet-1k (ILSVRC 2012): 1,281,167 + 50,000 photographs in 1,000 classes, from a copy of your own; and its subsets.

The copy is a folder with `train/<wnid>/*.JPEG` and `val/<wnid>/*.JPEG`, or Kaggle's, whose `val` has no folders of
classes. The validation images are the test split. Only new and removed files are noticed, not changed ones. Ids follow
a hash of the path, classes the order of their WordNet ids.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from pydantic import DirectoryPath, FilePath

from deepclust.core.errors import DeepclustError
from deepclust.core.tables import explain_text_errors, open_table
from deepclust.data.facts import DatasetFacts, ImageFileOptions, Variant
from deepclust.data.folders import FolderContent
from deepclust.data.names import printable
from deepclust.data.splits import EncodedFile, EncodedSplit, opaque_order
from deepclust.data.wnids import SUBSETS

# Images per training class are 732 to 1,300; a subset's number is checked if it is published.
_TRAIN = {"imagenet-10": 13_000, "imagenet-dogs": 19_500}
_NAMES = {"imagenet-10": "ImageNet-10", "imagenet-dogs": "ImageNet-Dogs"}
_NAMES |= {f"imagenet-{count}": f"ImageNet-{count}" for count in (50, 100, 200)}

FACTS = DatasetFacts(
    splits={"train": None, "test": None},
    watch="folders",
    variants={
        "subset": {
            "all": Variant(splits={"train": 1_281_167, "test": 50_000}, classes=1000, published_as="ImageNet-1k"),
            **{
                name: Variant(
                    splits={"train": _TRAIN.get(name), "test": 50 * len(wnids)},
                    classes=len(wnids),
                    published_as=_NAMES.get(name),
                )
                for name, wnids in SUBSETS.items()
            },
        }
    },
)


class Options(ImageFileOptions):
    """Options of ImageNet."""

    path: DirectoryPath
    """Folder that holds `train` and `val`."""
    subset: (
        Literal[
            "all",
            "imagenet-10",
            "imagenet-dogs",
            "imagenet-50",
            "imagenet-100",
            "imagenet-200",
            "imagenette",
            "imagewoof",
        ]
        | FilePath
    ) = "all"
    """Classes to take: all, those of a known subset, or a text file of your own whose lines start with a WordNet id.
    (`imagenette` and `imagewoof` are the classes only; the loader imagenette has the sets as published.)"""
    val_labels: FilePath | None = None
    """Kaggle's `LOC_val_solution.csv`, needed if `val` has no folders of classes."""


def read_split(options: Options, split: str, archives: Sequence[Path]) -> EncodedSplit:
    """Find the images of `split` (train or test).

    Raises:
        DeepclustError: the folder lacks a class or is not laid out like ImageNet.
    """
    wnids = _wnids(options)
    passed_over: list[tuple[str, str]] = []
    if split == "train" or options.val_labels is None:
        folder = options.path / ("train" if split == "train" else "val")
        labels = {name: wnid for wnid in wnids for name in _images(folder, wnid, passed_over)}
    else:
        folder, wanted = options.path / "val", set(wnids)
        labels = {name: wnid for name, wnid in _kaggle(options.val_labels) if wnid in wanted}
    numbers = {wnid: number for number, wnid in enumerate(wnids)}
    files = (EncodedFile.stored(printable(name), numbers[labels[name]], folder / name) for name in opaque_order(labels))
    return EncodedSplit(
        wnids,
        options.channels,
        files,
        skip_unreadable=options.on_error == "skip",
        skip_limit=options.skip_limit,
        passed_over=passed_over,
    )


def _wnids(options: Options) -> list[str]:
    if isinstance(options.subset, Path):
        with explain_text_errors(options.subset):
            lines = options.subset.read_text(encoding="utf-8").splitlines()
        wnids = [line.split()[0] for line in lines if line.split()]
        if not wnids or len(set(wnids)) < len(wnids):
            raise DeepclustError(f"{options.subset} names {'a class twice' if wnids else 'no classes'}")
        return sorted(wnids)
    if options.subset != "all":
        return sorted(SUBSETS[options.subset])
    train = options.path / "train"
    wnids = sorted(path.name for path in train.iterdir() if path.is_dir()) if train.is_dir() else []
    if len(wnids) != 1000:
        raise DeepclustError(f"{train} holds {len(wnids)} folders of classes, expected ImageNet's 1000")
    return wnids


def _images(folder: Path, wnid: str, passed_over: list[tuple[str, str]]) -> Iterator[str]:
    """Yield the images of a class; add all other files to `passed_over`."""
    try:
        content = FolderContent(folder / wnid)
    except DeepclustError as error:
        hint = ": if it has no folders of classes, name Kaggle's LOC_val_solution.csv as val_labels"
        raise DeepclustError(f"{error}{hint if folder.name == 'val' else ''}") from error
    passed_over += [(f"{wnid}/{name}", reason) for name, reason in content.passed_over]
    return (f"{wnid}/{name}" for name in content.images)


def _kaggle(path: Path) -> Iterator[tuple[str, str]]:
    """Yield validation images and their classes; a line is like `ILSVRC2012_val_00048981,n03995372 85 1 499 272`."""
    columns = ["ImageId", "PredictionString"]
    wrong = f"{path} is not Kaggle's LOC_val_solution.csv: it needs {', '.join(columns)}"
    with open_table(path) as table:
        if not set(columns) <= set(table.columns):
            raise DeepclustError(wrong)
        for _, (image, prediction) in table.rows(columns):
            wnid = prediction.split(" ")[0]
            if not image or not wnid:
                raise DeepclustError(wrong)
            yield f"{image}.JPEG", wnid
