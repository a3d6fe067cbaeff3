"""Draw how well labels can be read off each stage of the networks."""

from pathlib import Path

from deepclust.core.command import Job, JobArguments, run_job


class Arguments(JobArguments):
    """Tables and figure."""

    tables: list[Path]
    """`layers.csv` of each backbone, in a folder named after it, in one named after the dataset."""
    output: Path
    """Figure to write."""


def main(arguments: Arguments, job: Job) -> None:
    from deepclust.reporting.layers import layer_figure, read_layers
    from deepclust.reporting.style import save_figure

    tables = {f"{path.parent.name} on {path.parent.parent.name}": read_layers(path) for path in arguments.tables}
    save_figure(layer_figure(tables), arguments.output)

    job.inputs = {str(path): path for path in arguments.tables}
    job.outputs = {"figure": arguments.output}


if __name__ == "__main__":
    run_job("plot_layers", Arguments, main)
