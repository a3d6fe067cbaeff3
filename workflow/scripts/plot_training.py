"""Draw how pretraining went."""

from pathlib import Path

from deepclust.core.command import Job, JobArguments, run_job


class Arguments(JobArguments):
    """Logs and figure."""

    logs: list[Path]
    """`training.jsonl` of every pretrained backbone; the folder of each is the backbone's name."""
    output: Path
    """Figure to write."""


def main(arguments: Arguments, job: Job) -> None:
    from deepclust.reporting.style import save_figure
    from deepclust.reporting.training import read_log, training_figure

    logs = {path.parent.name: read_log(path) for path in arguments.logs}
    save_figure(training_figure(logs), arguments.output)

    job.inputs = {str(path): path for path in arguments.logs}
    job.outputs = {"figure": arguments.output}


if __name__ == "__main__":
    run_job("plot_training", Arguments, main)
