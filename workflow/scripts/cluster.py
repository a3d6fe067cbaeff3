"""Cluster images by their features, once per seed."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from deepclust.core import registry
from deepclust.core.command import Job, JobArguments, run_job
from deepclust.core.errors import DeepclustError
from deepclust.core.files import read_json


class Files(JobArguments):
    """Cluster images by their features, once per seed. The options of the chosen head are flags as well.

    Files are ordered by split and, within a split, by backbone.
    """

    method: str
    """Clustering head, e.g. kmeans."""
    k: int | None = Field(None, ge=1)
    """Number of clusters."""
    chosen_k: Path | None = None
    """The result of `choose_k`, which has the number of clusters where `k` is not given."""
    seeds: list[int] = Field(min_length=1)
    """Seeds, each of which gives a clustering of its own."""
    train: list[str] = Field(min_length=1)
    """Splits to fit on."""
    splits: list[str] = Field(min_length=1)
    """Splits to assign; the training splits are among them."""
    backbones: list[str] = Field(min_length=1)
    """Names of the backbones that the features come from."""
    features: list[Path]
    """`features.npy` for every split in `splits` and every backbone."""
    neighbor_files: list[Path] | None = None
    """Neighbors (.npy) by every backbone, among the images of all splits in `train`, for heads that need them."""
    member_clusters: list[Path] | None = None
    """`clusters.safetensors` of every head in the option `members`, for heads that combine others."""
    native: Path | None = None
    """`native.safetensors` of the backbone, for the head that needs it."""
    output: Path
    """The `clusters.safetensors` to write."""
    log: Path
    """The `seeds.json` to write."""


def main(arguments: Files, job: Job) -> None:
    from deepclust.core.device import choose_device, device_name
    from deepclust.core.fingerprint import code_digest
    from deepclust.heads.kit.clustering import ClusteringJob, cluster

    module = registry.load("heads", arguments.method)
    options = module.Options(**{name: getattr(arguments, name) for name in module.Options.model_fields})
    run = ClusteringJob(
        method=arguments.method,
        options=options,
        k=number_of_clusters(arguments.k, arguments.chosen_k),
        seeds=arguments.seeds,
        backbones=arguments.backbones,
        train=arguments.train,
        features=by_split(arguments.features, arguments.splits, arguments.backbones),
        neighbors=by_backbone(arguments.neighbor_files or [], arguments.backbones),
        members=by_member(arguments.member_clusters or [], getattr(options, "members", [])),
        native=arguments.native,
    )
    job.device = device_name(choose_device())
    cluster(
        run,
        arguments.output,
        arguments.log,
        code=code_digest("cluster", [f"deepclust.heads.{arguments.method}"]),
        progress=job.progress,
    )
    job.options = {
        **{name: getattr(arguments, name) for name in ("method", "seeds", "train", "splits", "backbones")},
        "k": run.k,
        **options.model_dump(mode="json"),
    }
    for split, paths in run.features.items():
        job.inputs |= {f"features.{split}.{b}": path for b, path in zip(arguments.backbones, paths)}
    job.inputs |= {f"neighbors.{b}": path for b, path in zip(arguments.backbones, run.neighbors)}
    job.inputs |= {f"members.{name}": path for name, path in run.members.items()}
    if arguments.chosen_k is not None:
        job.inputs["chosen_k"] = arguments.chosen_k
    if run.native is not None:
        job.inputs["native"] = run.native
    job.outputs = {"clusters": arguments.output, "seeds": arguments.log}


def number_of_clusters(k: int | None, chosen: Path | None) -> int:
    """The number that is given, or the one that `choose_k` wrote.

    Raises:
        DeepclustError: there is neither.
    """
    if k is not None:
        return k
    if chosen is None:
        raise DeepclustError("cluster: give the number of clusters (--k), or the result of choose_k (--chosen_k)")
    return int(read_json(chosen)["k"])


def by_split(paths: Sequence[Path], splits: Sequence[str], backbones: Sequence[str]) -> dict[str, list[Path]]:
    """Features of every split, one file per backbone.

    Raises:
        DeepclustError: their number does not fit.
    """
    count = len(backbones)
    if len(paths) != len(splits) * count:
        raise DeepclustError(
            f"cluster: {len(paths)} files of features for {len(splits)} splits and {count} backbones: give one for each"
        )
    return {split: list(paths[i * count : (i + 1) * count]) for i, split in enumerate(splits)}


def by_backbone(paths: Sequence[Path], backbones: Sequence[str]) -> list[Path]:
    """Neighbors of every backbone; nothing where no files are given.

    Raises:
        DeepclustError: their number does not fit.
    """
    if paths and len(paths) != len(backbones):
        raise DeepclustError(f"cluster: {len(paths)} files of neighbors for {len(backbones)} backbones: give one each")
    return list(paths)


def by_member(paths: Sequence[Path], members: Sequence[str]) -> dict[str, Path]:
    """The file of every member.

    Raises:
        DeepclustError: their number does not fit.
    """
    if len(paths) != len(members):
        raise DeepclustError(f"cluster: {len(paths)} files of {len(members)} members: give one for each")
    return dict(zip(members, paths))


if __name__ == "__main__":
    run_job("cluster", Files, main, method=("heads", "method"))
