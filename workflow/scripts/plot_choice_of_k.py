"""Draw how the number of clusters was chosen."""

from pathlib import Path

from deepclust.core.command import Files, Job, JobArguments, run_job


class Input(Files):
    choice: Path
    """The result of `choose_k`."""


class Output(Files):
    figure: Path
    """The figure (.png)."""


class Arguments(JobArguments):
    """Draw how the number of clusters was chosen."""

    input: Input
    output: Output


def main(arguments: Arguments, job: Job) -> None:
    from deepclust.reporting.choice_of_k import choice_figure, read_choice
    from deepclust.reporting.style import save_figure

    save_figure(choice_figure(read_choice(arguments.input.choice)), arguments.output.figure)


if __name__ == "__main__":
    run_job("plot_choice_of_k", Arguments, main)
