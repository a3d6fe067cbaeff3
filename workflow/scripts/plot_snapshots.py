"""Draw the scores of snapshots over the epochs of pretraining."""

from pathlib import Path

from deepclust.core.command import Job, JobArguments, run_job


class Arguments(JobArguments):
    """Scores and figure."""

    scores: list[Path]
    """`snapshots.json` of every dataset and backbone; the names of both are those of its folders."""
    output: Path
    """Figure to write."""


def main(arguments: Arguments, job: Job) -> None:
    from deepclust.core.files import read_json
    from deepclust.reporting.snapshots import snapshots_figure
    from deepclust.reporting.style import save_figure

    datasets = {path.parent.parent.name for path in arguments.scores}
    scores = {}
    for path in arguments.scores:
        name = path.parent.name if len(datasets) == 1 else f"{path.parent.name} on {path.parent.parent.name}"
        scores[name] = read_json(path)["epochs"]
    save_figure(snapshots_figure(scores), arguments.output)

    job.inputs = {str(path): path for path in arguments.scores}
    job.outputs = {"figure": arguments.output}


if __name__ == "__main__":
    run_job("plot_snapshots", Arguments, main)
