"""Download one file and check it."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from deepclust.core.command import Files, Job, JobArguments, run_job
from deepclust.core.errors import DeepclustError


class Output(Files):
    archive: Path
    """The file; until it is whole, its bytes stay in `<archive>.part`, from where a later attempt continues."""


class Arguments(JobArguments):
    """Download one file from the first of several sources that has it."""

    output: Output
    sources: Annotated[list[str], Field(min_length=1)]
    """Addresses (https, http, file) or paths, in the order in which they are tried."""
    sha256: str | None = Field(None, pattern="^([0-9a-f]{64}|any)$")
    """Expected SHA-256 of the file; `any` accepts whatever arrives."""
    md5: str | None = Field(None, pattern="^[0-9a-f]{32}$")
    """Expected MD5; only looked at if no SHA-256 is given."""
    pin: Path | None = Field(None, exclude=True)
    """File that holds the SHA-256 of the first download if no checksum is given. The first download writes it, and
    every later one must have it."""


def main(arguments: Arguments, job: Job) -> None:
    from deepclust.data.checksums import Checksum, read_checksum, record_checksum
    from deepclust.data.downloading import download

    file, pinned = arguments.output.archive, False
    if arguments.sha256 == "any":
        checksum = None
    elif arguments.sha256 is not None:
        checksum = Checksum("sha256", arguments.sha256)
    elif arguments.md5 is not None:
        checksum = Checksum("md5", arguments.md5)
    elif arguments.pin is not None:
        checksum, pinned = read_checksum(arguments.pin), True
    else:
        raise DeepclustError("give the checksum of the file (--sha256 or --md5), or --sha256 any to do without")
    try:
        source = download(arguments.sources, file, checksum, job.progress)
    except DeepclustError as error:
        note = (
            f" (the first download's, in {arguments.pin}: delete it to accept another)" if pinned and checksum else ""
        )
        raise DeepclustError(f"{error}{note}") from error
    print(f"{file} from {source}")
    if pinned and checksum is None and arguments.pin is not None:
        value = record_checksum(arguments.pin, file)
        print(f"no checksum of it has been published: {value} is required from now on ({arguments.pin})")
    job.options["used"] = source


if __name__ == "__main__":
    run_job("download", Arguments, main)
