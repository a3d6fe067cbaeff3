"""CIFAR-10 from its archive and as a folder of PNGs: the same features, the same scores?

`python lab/same_from_pngs.py ARCHIVE FOLDER` writes the 60,000 PNGs and an experiment with the weights of
`weights/` into FOLDER, runs the workflow there on both, and compares what comes out.
"""

import csv
import hashlib
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
RECORD = 3073
SPLITS = {"train": [f"data_batch_{number}.bin" for number in range(1, 6)], "test": ["test_batch.bin"]}
EXPERIMENT = """
datasets:
  archive: {{loader: cifar10, source: {archive}, sha256: {sha256}}}
  pngs: {{loader: folder, path: pngs/train, test_path: pngs/test}}
backbones:
  shipped: {{method: pretrained, weights: {root}/weights/cifar10-simclr-resnet10_w32/model.json}}
heads:
  kmeans: {{method: kmeans}}
runs:
  - {{dataset: archive, backbones: [shipped], heads: [kmeans], k: 10}}
  - {{dataset: pngs, backbones: [shipped], heads: [kmeans], k: 10}}
"""


def write_pngs(archive: Path, folder: Path) -> None:
    """`folder/<split>/<class>/<number of the record>.png`."""
    with tarfile.open(archive) as tar:
        members = {Path(member.name).name: member for member in tar if member.isfile()}
        names = tar.extractfile(members["batches.meta.txt"]).read().decode().split()
        for split, files in SPLITS.items():
            for name in names:
                (folder / split / name).mkdir(parents=True)
            content = b"".join(tar.extractfile(members[file]).read() for file in files)
            records = np.frombuffer(content, np.uint8).reshape(-1, RECORD)
            for number, record in enumerate(records):
                pixels = record[1:].reshape(3, 32, 32).transpose(1, 2, 0)
                place = folder / split / names[record[0]] / f"{number:05d}.png"
                Image.fromarray(pixels).save(place, compress_level=1)


def compare_features(results: Path, split: str) -> None:
    """Print how far apart the features of the same images are."""
    with (results / "labels" / "pngs" / split / "ids.csv").open(newline="") as file:
        rows = {int(row["id"]): int(Path(row["path"]).stem) for row in csv.DictReader(file)}
    archive, pngs = (
        np.load(results / "features" / name / "shipped" / split / "features.npy") for name in ("archive", "pngs")
    )
    archive = archive[[rows[number] for number in range(len(rows))]]
    same = np.count_nonzero((archive == pngs).all(axis=1))
    largest = np.abs(archive.astype(np.float32) - pngs.astype(np.float32)).max()
    print(
        f"{split}: features of {same:,} of {len(pngs):,} images are the same to the bit, largest difference {largest:g}"
    )


if __name__ == "__main__":
    archive, folder = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
    if not (folder / "pngs").exists():
        write_pngs(archive, folder / "pngs")
    with archive.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    (folder / "both.yaml").write_text(EXPERIMENT.format(archive=archive, sha256=sha256, root=ROOT))
    command = [Path(sys.executable).with_name("snakemake"), "--snakefile", ROOT / "Snakefile", "--directory", folder]
    command += ["--cores", "1", "--configfile", folder / "both.yaml", "--", "results/leaderboard.csv"]
    subprocess.run(command, check=True)
    for split in SPLITS:
        compare_features(folder / "results", split)
    print((folder / "results" / "leaderboard.csv").read_text())
