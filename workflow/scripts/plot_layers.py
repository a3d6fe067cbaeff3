"""Draw how well labels can be read off each stage of the networks."""

from pathlib import Path

from deepclust.core.command import Files, Job, JobArguments, run_job


class Input(Files):
    tables: list[Path]
    """`layers.csv` of each backbone, in a folder named after it, in one named after the dataset."""


class Output(Files):
    figure: Path
    """The figure (.png)."""


class Arguments(JobArguments):
    """Draw how well labels can be read off each stage of the networks."""

    input: Input
    output: Output


def main(arguments: Arguments, job: Job) -> None:
    from deepclust.reporting.layers import layer_figure, read_layers
    from deepclust.reporting.style import save_figure

    tables = {f"{path.parent.name} on {path.parent.parent.name}": read_layers(path) for path in arguments.input.tables}
    save_figure(layer_figure(tables), arguments.output.figure)


if __name__ == "__main__":
    run_job("plot_layers", Arguments, main)
