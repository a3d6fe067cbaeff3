"""Features in several parts, by as many jobs, which together are the features of one job to the last bit.

Parts begin where one job would begin a batch, because features may differ in their last bits between batches of
different sizes.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deepclust.core.errors import DeepclustError
from deepclust.core.files import explain_disk_errors, read_json, remove_tree
from deepclust.features.partial import PartialArray


@dataclass(frozen=True)
class Part:
    """One of several parts of about the same size, counted from 1; its text is like `2-of-8`."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> "Part":
        """Read a part from its text.

        Raises:
            DeepclustError: `text` is not like `2-of-8`.
        """
        match = re.fullmatch(r"(\d+)-of-(\d+)", text)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise DeepclustError(f"--part {text}: give a part like 2-of-8")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.number}-of-{self.of}"

    def span(self, images: int, batch_size: int) -> range:
        """Return the numbers of its images; none if there are fewer batches than parts."""
        batches = -(-images // batch_size)
        first, last = (number * batches // self.of * batch_size for number in (self.number - 1, self.number))
        return range(min(first, images), min(last, images))


WHOLE = Part(1, 1)


def join_parts(records: Sequence[Path], images: int, output: Path) -> list[dict[str, Any]]:
    """Put the parts that jobs have written one after the other, into .npy [images, D] at `output`.

    Args:
        records: provenance of the jobs, in the order of the parts.

    Returns:
        The contents of the records.

    Raises:
        DeepclustError: a part is missing, or was made in another way than the others.
    """
    contents = [read_json(record) for record in records]
    paths = [Path(content["options"]["rows"]) for content in contents if content["options"]["rows"]]
    states = {path.parent for path in paths}
    if len(states) > 1:
        devices = ", ".join(sorted({content["device"] for content in contents}))
        raise DeepclustError(
            f"the parts of {output} were computed in different ways (on {devices}): ask for GPUs of one kind, or set "
            f"features.precision, and remove {', '.join(sorted(map(str, states)))}"
        )
    for path in paths:
        if not path.is_file():
            raise DeepclustError(f"{path} is gone: remove {records[0].parent} and run snakemake again")
    parts = [np.load(path, mmap_mode="r") for path in paths]
    if sum(map(len, parts)) != images:
        raise DeepclustError(f"the parts of {output} are not those of all {images} images: remove {records[0].parent}")
    folder = output.parent / ".joined"
    remove_tree(folder)
    with PartialArray(folder, images, str(parts[0].dtype), {}) as rows, explain_disk_errors(output):
        for part in parts:
            rows.append(part)
        rows.finish(output)
    return contents
