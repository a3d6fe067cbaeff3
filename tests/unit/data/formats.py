"""Small datasets in the official layouts, whole or damaged, one `Format` per loader."""

import gzip
import io
import json
import struct
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from deepclust.core import registry
from deepclust.core.images import Images
from deepclust.core.progress import Progress
from deepclust.data.wnids import IMAGENETTE, SUBSETS
from deepclust.data.writing import write_split

RNG = np.random.default_rng(0)


@dataclass(frozen=True)
class Link:
    """A member that is a symbolic link."""

    target: str


@dataclass(frozen=True)
class Format:
    """A dataset on disk, and what is in it.

    Attributes:
        members: path inside → content.
        pack: writes them below a folder; returns the loader's archives and its options.
        constants: values of the loader's module that tests make small.
        labels: names of images → labels that must come out.
        count: number of images that planning knows; None: none.
        record_file: a member with records of fixed size.
        bad_label: member and content with a label out of range.
        image: an image file.
        wanted: a member that must be there.
        container: `tar`, `zip`, or empty where nothing is packed.
    """

    loader: str
    members: dict[str, bytes | Link]
    pack: Callable[[Path, dict[str, bytes | Link]], tuple[list[Path], dict[str, object]]]
    labels: dict[str, int]
    split: str = "train"
    options: dict[str, object] = field(default_factory=dict)
    constants: dict[str, object] = field(default_factory=dict)
    count: int | None = None
    record_file: str = ""
    bad_label: tuple[str, bytes] | None = None
    image: str = ""
    wanted: str = ""
    container: str = ""

    def with_members(self, **changes):
        """The same with other members; None leaves one out."""
        members = {**self.members, **changes}
        return replace(self, members={name: content for name, content in members.items() if content is not None})

    def prepare(self, folder: Path, damage: Callable[[Path], None] = lambda path: None, **options):
        """Write the dataset below `folder`, damage its files, and prepare it; returns the images and labels by name."""
        module = registry.load("data.loaders", self.loader)
        archives, found = self.pack(folder / "source", self.members)
        for path in archives or [p for p in (folder / "source").rglob("*") if p.is_file()]:
            damage(path)
        loaded = module.read_split(module.Options(**{**found, **self.options, **options}), self.split, archives)
        write_split(loaded, folder / "i", folder / "l", progress=Progress(), count=self.count, threads=2)
        labels = np.load(folder / "l" / "labels.npy").tolist()
        names = [line.split(",", 1)[1] for line in (folder / "l" / "ids.csv").read_text().splitlines()[1:]]
        return Images(folder / "i"), dict(zip(names, labels, strict=True))


# --- containers ------------------------------------------------------------------------------------------------------


def tar_to(file, members, mode):
    with tarfile.open(fileobj=file, mode=mode) as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if isinstance(content, Link):
                info.type, info.linkname = tarfile.SYMTYPE, content.target
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


def tgz(folder, members):
    folder.mkdir(parents=True)
    path = folder / "set.tar.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        tar_to(file, members, "w|")
    return [path], {}


def zipped(folder, members):
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "set.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (0o120777 if isinstance(content, Link) else 0o100644) << 16
            archive.writestr(info, content.target if isinstance(content, Link) else content)
    return [folder / "set.zip"], {}


def gz_files(folder, members):
    folder.mkdir(parents=True)
    paths = [folder / f"{name}.gz" for name in members]
    for path, content in zip(paths, members.values(), strict=True):
        path.write_bytes(gzip.compress(content, 1))
    return paths, {}


def unpacked(folder, members):
    for name, content in members.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Link):
            (folder / name).symlink_to(content.target)
        else:
            (folder / name).write_bytes(content)
    return [], {"path": folder}


def listed(folder, members):
    unpacked(folder, members)
    return [], {"path": folder / "list.csv"}


def sharded(folder, members):
    """Members `shard/rest` go to the shard."""
    folder.mkdir(parents=True)
    for shard in dict.fromkeys(name.split("/")[0] for name in members):
        own = {n.split("/", 1)[1]: content for n, content in members.items() if n.split("/")[0] == shard}
        with (folder / f"{shard}.tar").open("wb") as file:
            tar_to(file, own, "w")
    return [], {"path": folder}


def parquet_files(folder, members):
    """Members `file/row` are rows: an image, or an image and its label after a colon in the name."""
    tables = {}
    for name, content in members.items():
        file, row = name.split("/")
        tables.setdefault(file, []).append((row, content))
    names = pa.schema(
        [("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("label", pa.int64())]
    ).with_metadata({"huggingface": json.dumps({"info": {"features": {"label": {"names": ["cat", "dog"]}}}})})
    for file, rows in tables.items():
        images = [{"bytes": content, "path": row} for row, content in rows]
        labels = [int(row.split(":")[1]) for row, _ in rows]
        (folder / "data").mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table([images, labels], schema=names), folder / "data" / f"{file}.parquet", row_group_size=2)
    return [], {"path": folder}


# --- datasets --------------------------------------------------------------------------------------------------------


def picture(kind="PNG", size=(4, 3), mode="RGB", value=None):
    pixels = Image.new(mode, size, tuple(RNG.integers(0, 256, 3).tolist()) if mode == "RGB" else value or 7)
    file = io.BytesIO()
    pixels.save(file, kind)
    return file.getvalue()


def records(labels, label_bytes):
    """CIFAR's records; the last byte of label is the one given."""
    return b"".join(
        bytes([0] * (label_bytes - 1) + [label]) + RNG.integers(0, 256, 3072, np.uint8).tobytes() for label in labels
    )


def idx(array):
    array = np.asarray(array, np.uint8)
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def mnist(loader):
    return Format(
        loader,
        {"images-idx3": idx(RNG.integers(0, 256, (3, 28, 28))), "labels-idx1": idx([3, 9, 0])},
        gz_files,
        {f"images-idx3.gz/{row}": label for row, label in enumerate([3, 9, 0])},
        count=3,
        record_file="images-idx3",
        bad_label=("labels-idx1", idx([3, 10, 0])),
    )


WNIDS = ["n01443537", "n01629819"]
TINY = "tiny-imagenet-200"
NETTE = list(IMAGENETTE)
TEN = SUBSETS["imagenet-10"]

FORMATS = {
    "cifar10": Format(
        "cifar10",
        {
            "cifar-10-batches-bin/test_batch.bin": records([3, 9, 0], 1),
            "cifar-10-batches-bin/batches.meta.txt": b"airplane\n",
        },
        tgz,
        {f"cifar-10-batches-bin/test_batch.bin/{row}": label for row, label in enumerate([3, 9, 0])},
        split="test",
        constants={"RECORDS": 3},
        count=3,
        record_file="cifar-10-batches-bin/test_batch.bin",
        bad_label=("cifar-10-batches-bin/test_batch.bin", records([3, 10, 0], 1)),
        wanted="cifar-10-batches-bin/test_batch.bin",
        container="tar",
    ),
    "cifar100": Format(
        "cifar100",
        {
            "cifar-100-binary/train.bin": records([3, 99, 0], 2),
            "cifar-100-binary/fine_label_names.txt": "\n".join(f"fine{n}" for n in range(100)).encode(),
            "cifar-100-binary/coarse_label_names.txt": "\n".join(f"coarse{n}" for n in range(20)).encode(),
        },
        tgz,
        {f"cifar-100-binary/train.bin/{row}": label for row, label in enumerate([3, 99, 0])},
        constants={"RECORDS": {"train": 3}},
        count=3,
        record_file="cifar-100-binary/train.bin",
        bad_label=("cifar-100-binary/train.bin", records([3, 100, 0], 2)),
        wanted="cifar-100-binary/fine_label_names.txt",
        container="tar",
    ),
    "stl10": Format(
        "stl10",
        {
            "stl10_binary/train_X.bin": RNG.integers(0, 256, 3 * 27648, np.uint8).tobytes(),
            "stl10_binary/train_y.bin": bytes([4, 10, 1]),
        },
        tgz,
        {f"stl10_binary/train_X.bin/{row}": label for row, label in enumerate([3, 9, 0])},
        constants={"COUNTS": {"train": 3}},
        count=3,
        record_file="stl10_binary/train_X.bin",
        bad_label=("stl10_binary/train_y.bin", bytes([4, 11, 1])),
        wanted="stl10_binary/train_y.bin",
        container="tar",
    ),
    "mnist": mnist("mnist"),
    "fashion_mnist": mnist("fashion_mnist"),
    "tiny_imagenet": Format(
        "tiny_imagenet",
        {
            f"{TINY}/wnids.txt": "\n".join(WNIDS).encode(),
            f"{TINY}/words.txt": b"n01443537\tgoldfish\nn01629819\tsalamander\n",
            f"{TINY}/train/n01443537/n01443537_boxes.txt": b"n01443537_0.JPEG\t0\t10\t63\t58\n",
            f"{TINY}/train/n01443537/images/n01443537_0.JPEG": picture("JPEG", (64, 64)),
            f"{TINY}/train/n01443537/images/n01443537_1.JPEG": picture("JPEG", (64, 64), "L"),
            f"{TINY}/train/n01629819/images/n01629819_0.JPEG": picture("JPEG", (64, 64)),
            f"{TINY}/val/images/val_0.JPEG": picture("JPEG", (64, 64)),
            f"{TINY}/val/images/val_1.JPEG": picture("JPEG", (64, 64)),
            f"{TINY}/val/val_annotations.txt": b"val_1.JPEG\tn01443537\t0\t0\nval_0.JPEG\tn01629819\t0\t0\n",
            f"{TINY}/test/images/test_0.JPEG": picture("JPEG", (64, 64)),
        },
        zipped,
        {f"{TINY}/val/images/val_0.JPEG": 1, f"{TINY}/val/images/val_1.JPEG": 0},
        split="test",
        count=2,
        bad_label=(f"{TINY}/val/val_annotations.txt", b"val_0.JPEG\tn02\t0\nval_1.JPEG\tn01443537\t0\n"),
        image=f"{TINY}/val/images/val_0.JPEG",
        wanted=f"{TINY}/val/val_annotations.txt",
        container="zip",
    ),
    "imagenette": Format(
        "imagenette",
        {
            f"imagenette2-160/train/{NETTE[2]}/a_1.JPEG": picture("JPEG"),
            f"imagenette2-160/train/{NETTE[7]}/b_1.JPEG": picture("JPEG"),
            f"imagenette2-160/val/{NETTE[2]}/c_1.JPEG": picture("JPEG"),
            "imagenette2-160/noisy_imagenette.csv": b"path\n",
        },
        tgz,
        {f"imagenette2-160/train/{NETTE[2]}/a_1.JPEG": 2, f"imagenette2-160/train/{NETTE[7]}/b_1.JPEG": 7},
        count=2,
        bad_label=("imagenette2-160/train/n02/c_1.JPEG", picture("JPEG")),
        image=f"imagenette2-160/train/{NETTE[7]}/b_1.JPEG",
        wanted=f"imagenette2-160/train/{NETTE[2]}/a_1.JPEG",
        container="tar",
    ),
    "imagenet": Format(
        "imagenet",
        {f"train/{wnid}/{wnid}_{wnid[-2:]}.JPEG": picture("JPEG") for wnid in [*TEN, "n01440764"]}
        | {f"val/{wnid}/x.JPEG": picture("JPEG") for wnid in TEN},
        unpacked,
        {f"{wnid}/{wnid}_{wnid[-2:]}.JPEG": number for number, wnid in enumerate(TEN)},
        options={"subset": "imagenet-10"},
        count=10,
        image=f"train/{TEN[3]}/{TEN[3]}_{TEN[3][-2:]}.JPEG",
        wanted=f"train/{TEN[3]}/{TEN[3]}_{TEN[3][-2:]}.JPEG",
    ),
    "folder": Format(
        "folder",
        {name: picture() for name in ("dog/1.png", "cat/2.png", "cat/old/3.png")} | {"readme.txt": b"hello"},
        unpacked,
        {"dog/1.png": 1, "cat/2.png": 0, "cat/old/3.png": 0},
        image="cat/2.png",
    ),
    "list": Format(
        "list",
        {"list.csv": b"path,label\na/1.png,dog\nb/2.png,cat\nb/3.png,\n"}
        | {name: picture() for name in ("a/1.png", "b/2.png", "b/3.png", "c/4.png")},
        listed,
        {"a/1.png": 1, "b/2.png": 0, "b/3.png": -1},
        image="b/2.png",
        wanted="a/1.png",
    ),
    "parquet": Format(
        "parquet",
        {"train-0/a:0": picture(), "train-0/b:1": picture(), "train-0/c:1": picture(), "train-1/d:0": picture()},
        parquet_files,
        {
            "data/train-0.parquet/0": 0,
            "data/train-0.parquet/1": 1,
            "data/train-0.parquet/2": 1,
            "data/train-1.parquet/0": 0,
        },
        bad_label=("train-1/e:2", picture()),
        image="train-0/b:1",
    ),
    "shards": Format(
        "shards",
        {
            "a/x/1.jpg": picture("JPEG"),
            "a/x/1.cls": b"5\n",
            "a/x/1.json": b"{}",
            "a/x/2.cls": b"0",
            "a/x/2.seg.png": picture(),
            "b/3.png": picture(),
        },
        sharded,
        {"a.tar/x/1.jpg": 5, "a.tar/x/2.seg.png": 0, "b.tar/3.png": -1},
        bad_label=("a/x/2.cls", b"-2"),
        image="a/x/1.jpg",
        container="tar",
    ),
}
