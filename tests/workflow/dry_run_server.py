"""Dry runs of one working directory in one process: a JSON line in (config files), a JSON line out (jobs).

A dry run takes over a second as a command, a fraction of it here, and the rerun tests need hundreds.
"""

import contextlib
import io
import json
import logging
import sys
from pathlib import Path

from snakemake.api import SnakemakeApi
from snakemake.logging import logger
from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, Quietness, ResourceSettings


class Collector(logging.Handler):
    def __init__(self):
        super().__init__()
        self.jobs = []

    def emit(self, record):
        if getattr(record, "event", None) is not None and record.event.name == "JOB_INFO":
            job = {
                "rule": record.rule_name,
                "output": list(record.output or []),
                "input": list(record.input or []),
                "reason": record.reason,
            }
            self.jobs.append({**job, "wildcards": dict(record.wildcards or {})})


def dry_run(request):
    with SnakemakeApi(OutputSettings(dryrun=True, quiet={Quietness.ALL})) as api:
        workflow = api.workflow(
            resource_settings=ResourceSettings(cores=request.get("cores", 2)),
            config_settings=ConfigSettings(configfiles=[Path(path) for path in request["configfiles"]]),
            snakefile=Path(request["snakefile"]),
        )
        dag = workflow.dag(
            DAGSettings(forceall=request.get("forceall", False), targets=set(request.get("targets", [])))
        )
        collector = Collector()
        logger.handlers[:] = [collector]
        dag.execute_workflow(executor="dryrun")
        if request.get("code"):
            code = {str(job.output[0]): job.params.get("code", []) for job in workflow._workflow.dag.jobs if job.output}
            return [job | {"code": code[job["output"][0]]} for job in collector.jobs if job["output"]]
        return collector.jobs


for line in sys.stdin:
    answer = io.StringIO()
    try:
        with contextlib.redirect_stderr(answer), contextlib.redirect_stdout(answer):
            result = {"jobs": dry_run(json.loads(line))}
    except SystemExit as error:
        result = {"exit": error.code, "said": answer.getvalue()}
    print(json.dumps(result), flush=True)
