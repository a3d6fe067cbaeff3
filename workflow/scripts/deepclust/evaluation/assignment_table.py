"""Table of the images and their clusters, for people."""

import csv
from collections.abc import Iterator
from pathlib import Path

from deepclust.core.files import atomic_path
from deepclust.evaluation.assignments import read_assignments
from deepclust.evaluation.inputs import check_lengths

COLUMNS = ("split", "id", "path", "cluster", "probability")
BLOCK = 65_536  # rows of probabilities in memory at a time


def write_assignments(output: Path, clusters: Path, seed: int | None, k: int, ids: dict[str, Path]) -> None:
    """Write one line per image: its split, number and name, its cluster, and how probable that is.

    Args:
        clusters: `clusters.safetensors` of a run.
        seed: the seed of these clusters; None (every seed failed): a table without lines.
        k: number of clusters.
        ids: `ids.csv` of every split: the images' numbers and names.

    Raises:
        DeepclustError: the clusters are damaged, or are not those of these images.
    """
    with atomic_path(output) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        if seed is not None:
            for split, path in ids.items():
                writer.writerows(_lines(clusters, seed, k, split, path))


def _lines(clusters: Path, seed: int, k: int, split: str, ids: Path) -> Iterator[tuple[object, ...]]:
    from safetensors import safe_open

    ((assigned,),) = read_assignments(clusters, [seed], [split], k)
    with safe_open(clusters, framework="numpy") as tensors, ids.open(encoding="utf-8", newline="") as table:
        check_lengths({f"{clusters}, {split}": len(assigned), str(ids): sum(1 for _ in csv.DictReader(table))})
        table.seek(0)
        images = csv.DictReader(table)
        soft = f"seed{seed}/probabilities/{split}"
        shares = tensors.get_slice(soft) if soft in tensors.keys() else None  # noqa: SIM118  # no dict
        for start in range(0, len(assigned), BLOCK):
            block = assigned[start : start + BLOCK].tolist()
            probabilities = None if shares is None else shares[start : start + len(block)]
            for row, (cluster, image) in enumerate(zip(block, images)):
                probability = "" if probabilities is None else f"{probabilities[row, cluster]:.4f}"
                yield split, image["id"], image["path"], cluster, probability
