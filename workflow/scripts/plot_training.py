"""Draw how pretraining went."""

from pathlib import Path

from deepclust.core.command import Files, Job, JobArguments, run_job


class Input(Files):
    logs: list[Path]
    """`training.jsonl` of every pretrained backbone; the folder of each is the backbone's name."""


class Output(Files):
    figure: Path
    """The figure (.png)."""


class Arguments(JobArguments):
    """Draw how pretraining went."""

    input: Input
    output: Output


def main(arguments: Arguments, job: Job) -> None:
    from deepclust.reporting.style import save_figure
    from deepclust.reporting.training import read_log, training_figure

    logs = {path.parent.name: read_log(path) for path in arguments.input.logs}
    save_figure(training_figure(logs), arguments.output.figure)


if __name__ == "__main__":
    run_job("plot_training", Arguments, main)
