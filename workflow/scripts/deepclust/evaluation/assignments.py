"""Which image is in which cluster, as a table for people."""

import csv
from collections.abc import Iterator
from pathlib import Path

from deepclust.common.errors import DeepclustError
from deepclust.common.files import atomic_path
from deepclust.evaluation.inputs import check_lengths

COLUMNS = ("split", "id", "path", "cluster", "probability")
BLOCK = 65_536  # rows of probabilities in memory at a time


def write_assignments(output: Path, clusters: Path, seed: int | None, ids: dict[str, Path]) -> None:
    """Write one line per image: its split, number and name, its cluster, and how probable that is.

    Args:
        clusters: `clusters.safetensors` of a run.
        seed: whose clusters; None, where every seed failed: a table without lines.
        ids: `ids.csv` of every split: the images' numbers and names.

    Raises:
        DeepclustError: the clusters are damaged, or are not those of these images.
    """
    with atomic_path(output) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for split, path in ids.items() if seed is not None else ():
            writer.writerows(_lines(clusters, f"seed{seed}", split, path))


def _lines(clusters: Path, seed: str, split: str, ids: Path) -> Iterator[tuple[object, ...]]:
    from safetensors import SafetensorError, safe_open

    with ids.open(encoding="utf-8", newline="") as table:
        _, *images = csv.reader(table)
    try:
        with safe_open(clusters, framework="numpy") as file:
            assigned = file.get_tensor(f"{seed}/assignments/{split}")
            check_lengths({f"{clusters}, {split}": len(assigned), str(ids): len(images)})
            soft = f"{seed}/probabilities/{split}"
            shares = file.get_slice(soft) if soft in file.keys() else None  # noqa: SIM118  # no dict
            for start in range(0, len(images), BLOCK):
                stop = min(start + BLOCK, len(images))
                block = None if shares is None else shares[start:stop]
                for row, (image, path) in enumerate(images[start:stop]):
                    cluster = int(assigned[start + row])
                    yield split, image, path, cluster, "" if block is None else f"{block[row, cluster]:.4f}"
    except SafetensorError as error:
        raise DeepclustError(f"{clusters}: {error}: delete it and cluster again") from error
