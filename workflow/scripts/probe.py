"""Measure the ceilings of clustering on features: k-NN and a linear probe."""

from pathlib import Path

from deepclust.core.command import Files, Job, JobArguments, run_job
from deepclust.evaluation.options import ProbeOptions


class Input(Files):
    """Files ordered by split, and by backbone within a split."""

    train_features: list[Path]
    """`features.npy` of the training splits."""
    train_labels: list[Path]
    """`labels.npy` of the training splits."""
    score_features: list[Path]
    """`features.npy` of the scored splits."""
    score_labels: list[Path]
    """`labels.npy` of the scored splits."""


class Output(Files):
    probe: Path
    """The scores (.json)."""


class Arguments(JobArguments):
    """Measure the ceilings of clustering on features: k-NN and a linear probe."""

    input: Input
    output: Output
    options: ProbeOptions


def main(arguments: Arguments, job: Job) -> None:
    import time

    from deepclust.core.files import by_split, write_json
    from deepclust.evaluation.probes import Split, probe

    def splits(features: list[Path], labels: list[Path]) -> list[Split]:
        grouped = by_split(features, list(map(str, labels)))
        return [Split(tuple(files), path) for files, path in zip(grouped.values(), labels)]

    started, files = time.perf_counter(), arguments.input
    train = splits(files.train_features, files.train_labels)
    score = splits(files.score_features, files.score_labels)
    result = probe(train, score, arguments.options, job.progress)
    write_json(arguments.output.probe, {**result, "seconds": round(time.perf_counter() - started, 3)})


if __name__ == "__main__":
    run_job("probe", Arguments, main)
