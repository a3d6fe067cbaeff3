"""Prepare one split of a dataset: images in one folder, labels and names in another."""

import os
from pathlib import Path

from pydantic import Field

from deepclust.core import registry
from deepclust.core.command import Job, JobArguments, run_job
from deepclust.core.errors import DeepclustError


class Files(JobArguments):
    """Prepare one split of a dataset. The options of the chosen loader are flags as well."""

    loader: str
    """Loader of the dataset, e.g. cifar10."""
    split: str
    """Split to prepare, e.g. train."""
    archives: list[Path] = Field(default_factory=list)
    """Downloaded files, where the split needs some, in the order in which its loader names them."""
    images: Path
    """Images to write (`images.bin`; the manifest goes beside it)."""
    labels: Path
    """Labels to write (`labels.npy`; names of classes and images go beside it)."""


def main(arguments: Files, job: Job) -> None:
    from deepclust.data.facts import OwnImageOptions
    from deepclust.data.held_out import check_held_out
    from deepclust.data.writing import write_split

    module = registry.load("data.loaders", arguments.loader)
    options = module.Options(**{name: getattr(arguments, name) for name in module.Options.model_fields})
    facts = module.FACTS.of(options)
    if arguments.split not in facts.splits:
        raise DeepclustError(f"{arguments.loader} has no split {arguments.split!r}, only {', '.join(facts.splits)}")
    needed = [archive.file for archive in facts.archives_of(arguments.split)]
    if len(arguments.archives) != len(needed):
        raise DeepclustError(
            f"{arguments.loader} reads {len(needed)} downloads, --archives names {len(arguments.archives)}"
            + (f": give the paths of {', '.join(needed)}" if needed else "")
        )
    if arguments.split == "test" and isinstance(options, OwnImageOptions):
        test, train = (module.read_split(options, split, arguments.archives) for split in ("test", "train"))
        keep, threads = options.on_overlap == "keep", arguments.threads or os.cpu_count() or 1
        check_held_out(test, train, keep=keep, threads=threads, progress=job.progress)
    write_split(
        module.read_split(options, arguments.split, arguments.archives),
        arguments.images.parent,
        arguments.labels.parent,
        progress=job.progress,
        count=facts.splits[arguments.split] if getattr(options, "on_error", "fail") == "fail" else None,
        threads=arguments.threads,
    )

    job.options = {"loader": arguments.loader, "split": arguments.split, **options.model_dump(mode="json")}
    job.inputs = dict(zip(needed, arguments.archives))
    job.outputs = {
        "images": arguments.images.with_suffix(".json"),
        "labels": arguments.labels,
        "classes": arguments.labels.with_name("classes.json"),
        "ids": arguments.labels.with_name("ids.csv"),
    }


if __name__ == "__main__":
    run_job("prepare", Files, main, method=("data.loaders", "loader"))
