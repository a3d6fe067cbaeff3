"""Imagenette and Imagewoof: ten easy classes and ten breeds of dogs of ImageNet, split anew (Howard, 2019).

The second versions, of https://github.com/fastai/imagenette, in three sizes. Images are stored as they are, in an
opaque order. MD5s are torchvision's, SHA-256s those of TensorFlow Datasets for the same addresses; for Imagewoof none
can be looked up, so the first download's is recorded.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

from deepclust.core.errors import DeepclustError
from deepclust.data.facts import Archive, ArchiveOptions, DatasetFacts, Variant
from deepclust.data.formats.archives import tar_members
from deepclust.data.splits import EncodedFile, EncodedSplit
from deepclust.data.wnids import IMAGENETTE, IMAGEWOOF

ADDRESS = "https://s3.amazonaws.com/fast-ai-imageclas/"
SPLITS = {
    "imagenette2": {"train": 9_469, "test": 3_925},
    "imagewoof2": {"train": 9_025, "test": 3_929},
}
CHECKSUMS = {  # SHA-256, MD5
    "imagenette2": (
        "de32de18a7d8df0114d5e2c3c14cafb9558e8f00441a73aa7953681ad02be49c",
        "fe2fc210e6bb7c5664d602c3cd71e612",
    ),
    "imagenette2-320": (
        "5020a9130cea0348272823cb12d2db7e981c6f2afa3dce71ccd5b8013005c55e",
        "3df6f0d01a2c9592104656642f5e78a3",
    ),
    "imagenette2-160": (
        "88daccb09b6fce93f45e6c09ddeb269cce705549e6bff322092a2a5a11489863",
        "e793b78cc4c9e9a4ccc0c1155377a412",
    ),
}


def _variant(version: str) -> Variant:
    sha256, md5 = CHECKSUMS.get(version, (None, None))
    archive = Archive(file=f"{version}.tgz", sources=(f"{ADDRESS}{version}.tgz",), sha256=sha256, md5=md5)
    return Variant(splits=SPLITS[version.split("-")[0]], archives=(archive,))


VARIANTS = {name + size: _variant(name + size) for name in SPLITS for size in ("", "-320", "-160")}

FACTS = DatasetFacts(
    splits=SPLITS["imagenette2"],
    classes=10,
    archives=VARIANTS["imagenette2"].archives or (),
    variants={"version": VARIANTS},
)


class Options(ArchiveOptions):
    """Options of Imagenette."""

    version: Literal[
        "imagenette2",
        "imagenette2-320",
        "imagenette2-160",
        "imagewoof2",
        "imagewoof2-320",
        "imagewoof2-160",
    ] = "imagenette2-160"
    """The set, and the length of the shorter side: that of ImageNet, 320 or 160 pixels."""


def read_split(options: Options, split: str, archives: Sequence[Path]) -> EncodedSplit:
    """Read the images of `split` (train or test, the official val).

    Raises:
        DeepclustError: the archive is not that of `version`.
    """
    classes = IMAGENETTE if options.version.startswith("imagenette") else IMAGEWOOF
    top = f"{options.version}/{'train' if split == 'train' else 'val'}"
    return EncodedSplit(list(classes.values()), 3, _files(archives[0], top, list(classes)), shuffle=True)


def _files(archive: Path, top: str, wnids: list[str]) -> Iterator[EncodedFile]:
    for member in tar_members(archive):
        path = PurePosixPath(member.name)
        if str(path.parent.parent) != top or path.suffix != ".JPEG":
            continue
        if path.parent.name not in wnids:
            raise DeepclustError(f"{archive} holds {member.name}, whose class is none of {', '.join(wnids)}")
        yield EncodedFile.loaded(member.name, wnids.index(path.parent.name), member.read())
