"""The space on the disk that planned jobs will take, as far as it is known before they ran."""

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deepclust.core.run_path import run_path
from deepclust.planning.downloads import announcement, planned_downloads, readable
from deepclust.planning.layout import backbone_model, rule_of
from deepclust.planning.plan import Run, splits_of

COPIES = 2  # of assignments


def disk_lines(experiment: Any, jobs: list[Any]) -> list[str]:
    """Return lines on downloads, prepared images, features, snapshots and assignments of jobs, and on free space.

    Args:
        experiment: its `Parameters`.
        jobs: those of Snakemake that would run.
    """
    files, hub = planned_downloads(jobs)
    lines = [
        *announcement(files, hub),
        *_told("prepared images", prepared(experiment, jobs), "splits of unknown size (encoded images)"),
        *_told(
            "features", features(experiment, jobs), "files whose size shows once their images and backbones are there"
        ),
        *snapshots(experiment, jobs),
        *_told(
            "assignments, if every head gives soft ones",
            assignments(experiment, jobs),
            "runs whose number of images or clusters is not known yet",
        ),
        f"{readable(shutil.disk_usage('.').free)} are free",
    ]
    return [f"  {line}" for line in lines]


def _told(what: str, sizes: Iterator[int | None], unknown: str) -> list[str]:
    """Return one line about files: the bytes of those whose size is known, and the number of others."""
    every = list(sizes)
    known = [size for size in every if size is not None]
    told = [readable(sum(known))] if known else []
    told += [f"{len(every) - len(known)} {unknown}"] if len(known) < len(every) else []
    return [f"{what}: {', and '.join(told)}"] if told else []


def split_size(experiment: Any, dataset: str, split: str) -> int | None:
    """Return the number of images of a split, if it is known before it is prepared."""
    size: int | None = splits_of(experiment.config["datasets"][dataset], experiment.plan.dataset_facts(dataset))[split]
    return size


def prepared(experiment: Any, jobs: list[Any]) -> Iterator[int | None]:
    """Yield the bytes of each prepared split; None if its images stay encoded, or if their number is not known."""
    for job in jobs:
        if rule_of(job) == "prepare":
            shape = experiment.plan.dataset_facts(job.wildcards.dataset).get("shape")
            images = split_size(experiment, job.wildcards.dataset, job.wildcards.split)
            yield math.prod(shape) * images if shape and images else None


def features(experiment: Any, jobs: list[Any]) -> Iterator[int | None]:
    """Yield the bytes of each file of features; None if images or the backbone are not there."""
    for job in jobs:
        if rule_of(job) == "extract_features":
            images = split_size(experiment, job.wildcards.dataset, job.wildcards.split)
            model = Path(backbone_model(job.wildcards.backbone))
            columns = json.loads(model.read_text())["feature_dim"] if model.exists() else None
            options = experiment.config["backbones"][job.wildcards.backbone]["features"]
            width = {"float16": 2, "float32": 4}[options["dtype"]]
            yield images * columns * width if images and columns else None


def snapshots(experiment: Any, jobs: list[Any]) -> list[str]:
    """Return lines on the number of copies of networks that trainings keep."""
    count = 0
    for job in jobs:
        if rule_of(job) == "pretrain":
            options = experiment.config["backbones"][job.wildcards.backbone]
            every, epochs = options.get("snapshot_every"), options["epochs"]
            count += 1 + math.ceil(epochs / every) if every else 0  # the first is that of the start
    return [f"snapshots: {count} copies of the trained networks"] if count else []


def assignments(experiment: Any, jobs: list[Any]) -> Iterator[int | None]:
    """Yield the bytes of each run's clusters: float16 for every image, cluster and seed, and the int32 of the best one.

    They are there twice: in `clusters.safetensors`, and in the seeds that are kept beside it so that more can be added.
    """
    for job in jobs:
        if rule_of(job) == "cluster":
            words = job.wildcards
            path = run_path(words.dataset, words.backbones, words.head, words.k, words.protocol)
            yield _run_bytes(experiment, experiment.run(path))


def _run_bytes(experiment: Any, run: Run) -> int | None:
    train, score = experiment.plan.run_splits(run.dataset, run.protocol)
    sizes = [split_size(experiment, run.dataset, split) for split in dict.fromkeys(train + score)]
    known = [size for size in sizes if size is not None]
    if len(known) < len(sizes) or not isinstance(run.k, int):
        return None
    return COPIES * sum(known) * len(run.seeds) * (2 * run.k + 4)
