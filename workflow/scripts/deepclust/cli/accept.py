"""Keep existing results under code that changed without changing the results that it computes.

A change of code, or of the command line of a rule, reruns every job that it reaches. If you know that a change is
harmless and results are expensive,

    deepclust accept --why "renamed a variable" results/backbones/simclr/model.json

records them as made by the new code: in Snakemake's metadata, and with your reason in their provenance. Without
targets, it takes all results of the experiment. A result is accepted only if code is the sole reason to make it again,
and only if nothing that it was made from has to be made again.

Give it the words that snakemake gets, `--sdm` included: other settings are other reasons to run again (after
--configfile, put -- before the targets).
"""

import argparse
import getpass
import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deepclust.cli.dry_run import dry_run
from deepclust.core.files import write_json
from deepclust.planning.reasons import is_code


def own_reason(dag: Any, job: Any) -> str | None:
    """Return why a job would run again even if nothing before it did: `code`, `other`, or None."""
    reason, change = dag.reason(job), dag.workflow.persistence.params_changed(job)
    others = (
        reason.missing_output,
        reason.incomplete_output,
        reason.updated_input,
        reason.input_changed,
        reason.software_stack_changed,
        reason.forced,
    )
    if any(others) or not job.output:
        return "other"
    if not change:
        return "code" if reason.code_changed else None
    return "code" if all(is_code(item) for item in change.only_old | change.only_new) else "other"


def acceptable_jobs(dag: Any) -> list[Any]:
    """Return the jobs to accept: only their code changed, and nothing before them has to run for another reason."""
    waiting = set(dag.needrun_jobs(exclude_finished=False))
    blocked = {job for job in waiting if own_reason(dag, job) == "other"}
    while True:
        more = {job for job in waiting - blocked if any(before in blocked for before in dag.dependencies[job])}
        if not more:
            return [job for job in waiting - blocked if own_reason(dag, job) == "code"]
        blocked |= more


def accept(dag: Any, job: Any, why: str) -> None:
    """Record the outputs of a job as made by the present code."""
    persistence = dag.workflow.persistence
    for output in job.output:
        key = persistence._get_key(output)
        record = persistence._read_record(key)
        record.params = persistence._params(job)
        record.code = persistence._code(job.rule)
        persistence._write_record(key, record)
    keep_seeds(job)
    for path in (Path(output) for output in job.output if str(output).endswith("provenance.json")):
        status = path.stat()
        provenance = json.loads(path.read_text(encoding="utf-8"))
        code = sorted(
            item
            for value in job.params
            if is_code(repr(value))
            for item in (value if isinstance(value, list) else [value])
        )
        provenance["accepted"].append(
            {"time": datetime.now(UTC).isoformat(timespec="seconds"), "by": getpass.getuser(), "why": why, "code": code}
        )
        write_json(path, provenance)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # nothing that reads it has to be made again


def keep_seeds(job: Any) -> None:
    """Record the seeds that a clustering keeps beside its result as fitted by the present code."""
    code = re.search(r"--code ([0-9a-f]+)", str(job.params.get("command")))
    folders = {folder for output in job.output for folder in Path(output).parent.glob(".seeds-*")}
    if code is not None and len(folders) == 1:  # one of several is of an attempt that did not end in this result
        folder = folders.pop()
        folder.rename(folder.with_name(f".seeds-{code[1]}-{folder.name.rpartition('-')[2]}"))


def main() -> int:
    """Run `deepclust accept`."""
    parser = argparse.ArgumentParser(
        "deepclust accept", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--why", required=True, help="why the change is harmless; goes into the provenance")
    own, words = parser.parse_known_args()
    with dry_run(words) as workflow:
        accepted = acceptable_jobs(workflow.dag)
        for job in accepted:
            accept(workflow.dag, job, own.why)
            print(f"accepted: {', '.join(str(output) for output in job.output)}")
    print(f"accepted the results of {len(accepted)} jobs; `snakemake -n` tells what still has to run, and why")
    return 0
