"""Draw how the number of clusters was chosen."""

from pathlib import Path

from deepclust.core.command import Job, JobArguments, run_job


class Arguments(JobArguments):
    """Result of `choose_k`, and figure."""

    choice: Path
    """What `choose_k` wrote."""
    output: Path
    """Figure to write."""


def main(arguments: Arguments, job: Job) -> None:
    from deepclust.reporting.choice_of_k import choice_figure, read_choice
    from deepclust.reporting.style import save_figure

    save_figure(choice_figure(read_choice(arguments.choice)), arguments.output)

    job.inputs = {"choice": arguments.choice}
    job.outputs = {"figure": arguments.output}


if __name__ == "__main__":
    run_job("plot_choice_of_k", Arguments, main)
