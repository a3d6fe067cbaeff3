"""Put all runs into one table."""

from pathlib import Path

from deepclust.core.command import Files, Job, JobArguments, run_job


class Input(Files):
    metrics: list[Path]
    """`metrics.json` of every run."""


class Output(Files):
    table: Path
    """The table (CSV)."""


class Arguments(JobArguments):
    """Put all runs into one table."""

    input: Input
    output: Output


def main(arguments: Arguments, job: Job) -> None:
    import sys

    from deepclust.core.files import write_text
    from deepclust.evaluation.leaderboard import leaderboard, to_csv, version_warnings

    rows = leaderboard(arguments.input.metrics)
    for warning in version_warnings(rows):
        print(f"warning: {warning}", file=sys.stderr)
    write_text(arguments.output.table, to_csv(rows))


if __name__ == "__main__":
    run_job("leaderboard", Arguments, main)
