"""Score the clusters of a run, with labels if there are any and without them; list the images and their clusters."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from deepclust.core.command import Files, Job, JobArguments, run_job
from deepclust.evaluation.options import NEAREST, ScoringOptions


class Input(Files):
    """Files of several splits, in the order of the splits, and by backbone within a split."""

    clusters: Path
    """`clusters.safetensors` of the run."""
    seeds: Path
    """`seeds.json` of the run."""
    cost: Path | None = None
    """Provenance of the clusters, with their time and memory."""
    features: list[Path]
    """`features.npy` of the scored splits."""
    neighbors: list[Path]
    """`half_whitened_neighbors.npy` of every backbone, among the images of all scored splits."""
    labels: list[Path] = []
    """`labels.npy` of the scored splits; none without labels."""
    classes: list[Path] = []
    """`classes.json` of the scored splits; none without labels."""
    ids: list[Path] = []
    """`ids.csv` of all splits that have clusters, with the names of the images."""
    manifests: list[Path] = []
    """`images.json` of the scored splits, which tell how many files were skipped."""
    probe: Path | None = None
    """Ceilings on the same features."""


class Output(Files):
    metrics: Path
    """Scores of all seeds, and the facts of the run (`metrics.json`)."""
    assignments: Path | None = None
    """The table of images and their clusters, if `ids` are given (`assignments.csv`)."""


class Arguments(JobArguments):
    """Score the clusters of a run."""

    input: Input
    output: Output
    options: ScoringOptions
    score: list[str]
    """Names of the scored splits."""
    splits: list[str]
    """Names of all splits that have clusters."""
    nearest: int = Field(NEAREST, ge=1)
    """Number of an image's neighbors by which clusters are judged; never more than the default."""
    dataset: str
    """Name of the dataset."""
    backbones: list[str]
    """Names of the backbones."""
    trained_on: list[str]
    """The images that each of them saw in training, in a few words."""
    head: str
    """Name of the head."""
    k_by: Literal["experiment", "auto"] = "experiment"
    """The one who chose the number of clusters."""
    protocol: str
    """`held-out`, `with-unlabeled`, `merged` or `train`: the splits that heads are fitted on, and scored on."""
    published_as: str | None = None
    """Name of the dataset in the literature."""


def main(arguments: Arguments, job: Job) -> None:
    from deepclust.core.files import by_split, read_json, write_json
    from deepclust.evaluation.assignment_table import write_assignments
    from deepclust.evaluation.inputs import read_class_names
    from deepclust.evaluation.scoring import gap, read_scored, score_run

    files = arguments.input
    log = read_json(files.seeds)
    k, classes = log["k"], read_class_names(files.classes)
    scored = read_scored(
        files.clusters,
        [entry["seed"] for entry in log["seeds"] if entry["status"] == "ok"],
        arguments.score,
        k,
        features=list(by_split(files.features, arguments.score).values()),
        neighbors=files.neighbors,
        labels=files.labels,
        classes=len(classes),
        nearest=arguments.nearest,
    )
    result = score_run(scored, log["seeds"], log["selected"], k, arguments.options, job.progress)
    probe = read_json(files.probe) if files.probe else {}
    cost = read_json(files.cost) if files.cost else {}
    # Seeds may have been computed by several processes; the provenance knows the last one.
    cost["seconds"] = sum(entry["seconds"] for entry in log["seeds"])
    told = {"dataset", "backbones", "trained_on", "head", "k_by", "protocol", "published_as"}
    metrics = {
        "run": {**arguments.model_dump(include=told), "k": k, "split": "+".join(arguments.score)},
        "classes": classes,
        **result,
        "skipped": sum(read_json(path).get("skipped", 0) for path in files.manifests),
        "selected": log["selected"],
        "criterion": log["criterion"],
        "probe": probe,
        "cost": {name: cost.get(name) for name in ("seconds", "peak_memory_mb", "device")}
        | {"packages": cost.get("packages", {})},
        "gap": gap(result["summary"]["acc"]["mean"], probe),
    }
    if arguments.output.assignments is not None:
        ids = dict(zip(arguments.splits, files.ids, strict=True))
        write_assignments(arguments.output.assignments, files.clusters, log["selected"], k, ids)
    write_json(arguments.output.metrics, metrics)
    job.options["k"] = k


if __name__ == "__main__":
    run_job("evaluate", Arguments, main)
