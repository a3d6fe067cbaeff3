"""Score the clusters of a run, against labels where there are any and without them; tell which image is in which."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from deepclust.core.command import Job, JobArguments, run_job
from deepclust.evaluation.options import NEAREST, ScoringOptions


class Arguments(JobArguments, ScoringOptions):  # type: ignore[misc]  # pydantic merges the configs
    """Features are ordered by scored split, and by backbone within a split."""

    clusters: Path
    """`clusters.safetensors` of the run."""
    seeds_log: Path
    """`seeds.json` of the run."""
    score: list[str]
    """Names of the scored splits."""
    features: list[Path]
    """`features.npy` of the scored splits."""
    neighbors: list[Path]
    """`half_whitened_neighbors.npy` of every backbone, among the images of all scored splits."""
    nearest: int = Field(NEAREST, ge=1)
    """How many of an image's neighbors clusters are judged by; never more than the default."""
    labels: list[Path] | None = None
    """`labels.npy` of the scored splits; none without labels."""
    classes: list[Path] | None = None
    """`classes.json` of the scored splits; none without labels."""
    manifests: list[Path] | None = None
    """`images.json` of the scored splits, which tell how many files were skipped."""
    probe: Path | None = None
    """Ceilings on the same features."""
    cost: Path | None = None
    """Provenance of the clusters: what they took."""
    splits: list[str]
    """Names of all splits that have clusters."""
    ids: list[Path] | None = None
    """`ids.csv` of these splits: which image is which."""
    assignments: Path | None = None
    """The table of images and their clusters to write, if `ids` are given."""
    output: Path
    """The `metrics.json` to write."""
    dataset: str
    """Name of the dataset."""
    backbones: list[str]
    """Names of the backbones."""
    trained_on: list[str]
    """What each of them saw in training, in a few words."""
    head: str
    """Name of the head."""
    k_by: Literal["experiment", "auto"] = "experiment"
    """Who chose the number of clusters."""
    protocol: str
    """`held-out`, `with-unlabeled`, `merged` or `train`: the splits that heads are fitted on, and scored on."""
    published_as: str | None = None
    """Name of the dataset in the literature."""


def main(arguments: Arguments, job: Job) -> None:
    from deepclust.core.files import read_json, write_json
    from deepclust.evaluation.assignments import write_assignments
    from deepclust.evaluation.inputs import per_split, read_class_names
    from deepclust.evaluation.scoring import gap, read_scored, score_run

    options = ScoringOptions(**{name: getattr(arguments, name) for name in ScoringOptions.model_fields})
    log = read_json(arguments.seeds_log)
    succeeded = [entry["seed"] for entry in log["seeds"] if entry["status"] == "ok"]
    splits, k = len(arguments.score), log["k"]
    classes = read_class_names(arguments.classes or [])
    scored = read_scored(
        arguments.clusters,
        succeeded,
        arguments.score,
        k,
        features=per_split(arguments.features, splits, "features"),
        neighbors=arguments.neighbors,
        labels=arguments.labels or [],
        classes=len(classes),
        nearest=arguments.nearest,
    )
    result = score_run(scored, log["seeds"], log["selected"], k, options, job.progress)
    probe = read_json(arguments.probe) if arguments.probe else {}
    cost = read_json(arguments.cost) if arguments.cost else {}
    # Seeds may have been computed by several processes; the provenance knows the last one.
    cost["seconds"] = sum(entry["seconds"] for entry in log["seeds"])
    run = {
        name: getattr(arguments, name) for name in ("dataset", "backbones", "trained_on", "head", "k_by", "protocol")
    }
    metrics = {
        "run": {**run, "k": k, "split": "+".join(arguments.score), "published_as": arguments.published_as},
        "classes": classes,
        **result,
        "skipped": sum(read_json(path).get("skipped", 0) for path in arguments.manifests or []),
        "selected": log["selected"],
        "criterion": log["criterion"],
        "probe": probe,
        "cost": {name: cost.get(name) for name in ("seconds", "peak_memory_mb", "device")}
        | {"packages": cost.get("packages", {})},
        "gap": gap(result["summary"]["acc"]["mean"], probe),
    }
    if arguments.assignments is not None:
        ids = dict(zip(arguments.splits, arguments.ids or [], strict=True))
        write_assignments(arguments.assignments, arguments.clusters, log["selected"], k, ids)
    write_json(arguments.output, metrics)

    job.options = options.model_dump() | metrics["run"]
    read = [
        arguments.clusters,
        arguments.seeds_log,
        *arguments.features,
        *arguments.neighbors,
        *(arguments.labels or []),
        *(arguments.classes or []),
        *(arguments.ids or []),
        *(arguments.manifests or []),
    ]
    read += [path for path in (arguments.probe, arguments.cost) if path is not None]
    job.inputs = {str(path): path for path in read}
    written = {"metrics": arguments.output, "assignments": arguments.assignments}
    job.outputs = {name: path for name, path in written.items() if path is not None}


if __name__ == "__main__":
    run_job("evaluate", Arguments, main)
