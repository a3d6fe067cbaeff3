"""Cluster images by their features, once per seed."""

from pathlib import Path
from typing import Any

from pydantic import Field

from deepclust.core.command import Files, Job, JobArguments, run_job
from deepclust.core.errors import DeepclustError
from deepclust.core.files import read_json


class Input(Files):
    features: list[Path]
    """`features.npy` for every split in `splits` and, within a split, every backbone."""
    neighbors: list[Path] = []
    """Neighbors (.npy) by every backbone, among the images of all splits in `train`, for heads that need them."""
    members: list[Path] = []
    """`clusters.safetensors` of every head in the option `members`, for heads that combine others."""
    native: Path | None = None
    """`native.safetensors` of the backbone, for the head that needs it."""
    chosen_k: Path | None = None
    """The result of `choose_k`, which has the number of clusters if `k` is not given."""


class Output(Files):
    clusters: Path
    """Clusters and weights of every seed (`clusters.safetensors`)."""
    seeds: Path
    """The fate of every seed (`seeds.json`)."""


class Arguments(JobArguments):
    """Cluster images by their features, once per seed; the options of the chosen head are flags as well."""

    input: Input
    output: Output
    options: Any
    """Options of the head."""
    method: str
    """Clustering head, e.g. kmeans."""
    k: int | None = Field(None, ge=1)
    """Number of clusters."""
    seeds: list[int] = Field(min_length=1)
    """Seeds, each of which gives a clustering of its own."""
    train: list[str] = Field(min_length=1)
    """Names of the splits to fit on."""
    splits: list[str] = Field(min_length=1)
    """Splits to assign; the training splits are among them."""
    backbones: list[str] = Field(min_length=1)
    """Names of the backbones that the features come from."""


def main(arguments: Arguments, job: Job) -> None:
    from deepclust.core.device import choose_device, device_name
    from deepclust.core.files import by_split
    from deepclust.core.fingerprint import code_digest
    from deepclust.heads.kit.clustering import ClusteringJob, cluster

    files, names, members = arguments.input, arguments.backbones, getattr(arguments.options, "members", [])
    for found, wanted, kind in ((files.neighbors, names, "backbones"), (files.members, members, "members")):
        if (found and len(found) != len(wanted)) or (kind == "members" and len(found) != len(wanted)):
            raise DeepclustError(f"cluster: {len(found)} files for {len(wanted)} {kind}: give one for each")
    run = ClusteringJob(
        method=arguments.method,
        options=arguments.options,
        k=number_of_clusters(arguments.k, files.chosen_k),
        seeds=arguments.seeds,
        backbones=names,
        train=arguments.train,
        features=by_split(files.features, arguments.splits, len(names)),
        neighbors=files.neighbors,
        members=dict(zip(members, files.members, strict=True)),
        native=files.native,
    )
    job.device = device_name(choose_device())
    code = code_digest("cluster", [f"deepclust.heads.{arguments.method}"])
    cluster(run, arguments.output.clusters, arguments.output.seeds, code=code, progress=job.progress)
    job.options["k"] = run.k


def number_of_clusters(k: int | None, chosen: Path | None) -> int:
    """Return the number that is given, or the one that `choose_k` wrote.

    Raises:
        DeepclustError: there is neither.
    """
    if k is not None:
        return k
    if chosen is None:
        raise DeepclustError("cluster: give the number of clusters (--k), or the result of choose_k (--input.chosen_k)")
    return int(read_json(chosen)["k"])


if __name__ == "__main__":
    run_job("cluster", Arguments, main, method=("heads", "method"))
