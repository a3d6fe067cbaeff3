"""Draw the scores of snapshots over epochs."""

from pathlib import Path

from deepclust.core.command import Files, Job, JobArguments, run_job


class Input(Files):
    scores: list[Path]
    """`snapshots.json` of every dataset and backbone; the names of both are those of its folders."""


class Output(Files):
    figure: Path
    """The figure (.png)."""


class Arguments(JobArguments):
    """Draw the scores of snapshots over epochs."""

    input: Input
    output: Output


def main(arguments: Arguments, job: Job) -> None:
    from deepclust.core.files import read_json
    from deepclust.reporting.snapshots import snapshots_figure
    from deepclust.reporting.style import save_figure

    datasets = {path.parent.parent.name for path in arguments.input.scores}
    scores = {}
    for path in arguments.input.scores:
        name = path.parent.name if len(datasets) == 1 else f"{path.parent.name} on {path.parent.parent.name}"
        scores[name] = read_json(path)["epochs"]
    save_figure(snapshots_figure(scores), arguments.output.figure)


if __name__ == "__main__":
    run_job("plot_snapshots", Arguments, main)
