"""Prepare one split of a dataset: images in one folder, labels and names in another."""

import os
from pathlib import Path
from typing import Any

from deepclust.core import registry
from deepclust.core.command import Files, Job, JobArguments, run_job
from deepclust.core.errors import DeepclustError


class Input(Files):
    archives: list[Path] = []
    """Downloaded files, if the split needs some, in the order in which its loader names them."""


class Output(Files):
    """One folder with images and manifest, and another with labels, classes and ids."""

    images: Path
    """Pixels or encoded images (`images.bin`)."""
    manifest: Path | None = None
    """Their number, sizes and hash (`images.json`)."""
    labels: Path
    """Labels (`labels.npy`)."""
    classes: Path | None = None
    """Names of the classes (`classes.json`)."""
    ids: Path | None = None
    """Names of the images (`ids.csv`)."""


class Arguments(JobArguments):
    """Prepare one split of a dataset; the options of the chosen loader are flags as well."""

    input: Input = Input()
    output: Output
    options: Any
    """Options of the loader."""
    loader: str
    """Loader of the dataset, e.g. cifar10."""
    split: str
    """Split to prepare, e.g. train."""


def main(arguments: Arguments, job: Job) -> None:
    from deepclust.data.facts import OwnImageOptions
    from deepclust.data.held_out import check_held_out
    from deepclust.data.writing import write_split

    module, options, archives = (
        registry.load("data.loaders", arguments.loader),
        arguments.options,
        arguments.input.archives,
    )
    facts = module.FACTS.of(options)
    if arguments.split not in facts.splits:
        raise DeepclustError(f"{arguments.loader} has no split {arguments.split!r}, only {', '.join(facts.splits)}")
    needed = [archive.file for archive in facts.archives_of(arguments.split)]
    if len(archives) != len(needed):
        raise DeepclustError(
            f"{arguments.loader} reads {len(needed)} downloads, --input.archives names {len(archives)}"
            + (f": give the paths of {', '.join(needed)}" if needed else "")
        )
    if arguments.split == "test" and isinstance(options, OwnImageOptions):
        test, train = (module.read_split(options, split, archives) for split in ("test", "train"))
        keep, threads = options.on_overlap == "keep", arguments.threads or os.cpu_count() or 1
        check_held_out(test, train, keep=keep, threads=threads, progress=job.progress)
    write_split(
        module.read_split(options, arguments.split, archives),
        arguments.output.images.parent,
        arguments.output.labels.parent,
        progress=job.progress,
        count=facts.splits[arguments.split] if getattr(options, "on_error", "fail") == "fail" else None,
        threads=arguments.threads,
    )


if __name__ == "__main__":
    run_job("prepare", Arguments, main, method=("data.loaders", "loader"))
