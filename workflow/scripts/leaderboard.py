"""Put the scores of all runs into one table."""

from pathlib import Path

from deepclust.core.command import Job, JobArguments, run_job


class Arguments(JobArguments):
    """What goes into the table."""

    metrics: list[Path]
    """`metrics.json` of every run."""
    output: Path
    """The CSV file to write."""


def main(arguments: Arguments, job: Job) -> None:
    import sys

    from deepclust.core.files import write_text
    from deepclust.evaluation.leaderboard import leaderboard, to_csv, version_warnings

    rows = leaderboard(arguments.metrics)
    for warning in version_warnings(rows):
        print(f"warning: {warning}", file=sys.stderr)
    write_text(arguments.output, to_csv(rows))

    job.inputs = {str(path): path for path in arguments.metrics}
    job.outputs = {"leaderboard": arguments.output}


if __name__ == "__main__":
    run_job("leaderboard", Arguments, main)
