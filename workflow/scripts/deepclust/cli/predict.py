"""Clusters of images by a run: a table of path, cluster, probability, and why a file was skipped.

    deepclust predict results/clustering/mine/dinov2/turtle/k10-held-out photos/ -o new.csv

RUN is the folder of a run or the clusters.safetensors in it, IMAGES a folder, a list or one image. Images are read by
the run's own backbones, in the way that the run read its own.
"""

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from deepclust.api.prediction import ImageCluster

COLUMNS = ("path", "cluster", "probability", "skipped")


def main() -> int:
    """Run `deepclust predict`."""
    parser = argparse.ArgumentParser(
        "deepclust predict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a run, or its clusters.safetensors")
    parser.add_argument("images", type=Path, metavar="IMAGES", help="a folder, a list (see docs/datasets.md), an image")
    parser.add_argument("-o", "--output", type=Path, help="the table to write (.csv); without it, to the terminal")
    words = parser.parse_args()
    from deepclust.api.prediction import predict_images
    from deepclust.core.files import atomic_path

    found = predict_images(words.run, words.images)
    if words.output is None:
        write_table(found, sys.stdout)
    else:
        with atomic_path(words.output) as path, path.open("w", encoding="utf-8", newline="") as file:
            write_table(found, file)
    skipped = sum(bool(image.skipped) for image in found)
    print(f"{len(found) - skipped:,} images, {skipped:,} files skipped", file=sys.stderr)
    return 0


def write_table(found: Sequence["ImageCluster"], file: TextIO) -> None:
    """Write one row per image, and per file that was skipped."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for image in found:
        probability = "" if image.probability is None else f"{image.probability:.4f}"
        writer.writerow([image.path, "" if image.cluster is None else image.cluster, probability, image.skipped])
