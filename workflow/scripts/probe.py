"""Measure the ceilings: how well k-NN and a linear classifier read labels off the features that are clustered."""

from pathlib import Path

from deepclust.core.command import Job, JobArguments, run_job
from deepclust.evaluation.options import ProbeOptions


class Arguments(JobArguments, ProbeOptions):  # type: ignore[misc]  # pydantic merges the configs
    """Files are ordered by split, and by backbone within a split."""

    features_train: list[Path]
    """`features.npy` of the training splits."""
    labels_train: list[Path]
    """`labels.npy` of the training splits."""
    features_score: list[Path]
    """`features.npy` of the scored splits."""
    labels_score: list[Path]
    """`labels.npy` of the scored splits."""
    output: Path
    """The JSON file to write."""


def main(arguments: Arguments, job: Job) -> None:
    import time

    from deepclust.core.files import write_json
    from deepclust.evaluation.inputs import per_split
    from deepclust.evaluation.probes import Split, probe

    def splits(features: list[Path], labels: list[Path]) -> list[Split]:
        grouped = per_split(features, len(labels), "features")
        return [Split(tuple(files), path) for files, path in zip(grouped, labels)]

    started = time.perf_counter()
    options = ProbeOptions(**{name: getattr(arguments, name) for name in ProbeOptions.model_fields})
    train = splits(arguments.features_train, arguments.labels_train)
    score = splits(arguments.features_score, arguments.labels_score)
    result = probe(train, score, options, job.progress)
    write_json(arguments.output, {**result, "seconds": round(time.perf_counter() - started, 3)})

    job.options = options.model_dump()
    files = dict.fromkeys(
        [*arguments.features_train, *arguments.labels_train, *arguments.features_score, *arguments.labels_score]
    )
    job.inputs = {str(path): path for path in files}
    job.outputs = {"probe": arguments.output}


if __name__ == "__main__":
    run_job("probe", Arguments, main)
