"""A dry run of Snakemake, for the commands here that look at its plan."""

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from snakemake.api import SnakemakeApi
from snakemake.cli import parse_args, parse_config
from snakemake.exceptions import ApiError, CliException, RuleException, WorkflowError
from snakemake.logging import logger
from snakemake.settings.types import (
    ConfigSettings,
    DAGSettings,
    DeploymentMethod,
    DeploymentSettings,
    OutputSettings,
    Quietness,
    ResourceSettings,
)

from deepclust.cli.clone import snakefile
from deepclust.core.errors import did_you_mean
from deepclust.planning.schema import Schema
from deepclust.planning.strict_yaml import check_file


@contextmanager
def dry_run(words: Sequence[str]) -> Iterator[Any]:
    """Yield Snakemake's workflow object, planned as by `snakemake -n WORDS`, in its working directory.

    If Snakemake refuses the words, the command ends with Snakemake's message and status 1.
    """
    warnings.simplefilter("ignore", RuntimeWarning)  # Snakemake leaves coroutines behind that ask for sizes of files
    with SnakemakeApi(OutputSettings(dryrun=True, quiet={Quietness.ALL})) as api:
        try:
            workflow = _planned(api, words)
        except (ApiError, CliException, OSError, RuleException, ValueError, WorkflowError) as error:
            sys.exit(str(error))
        yield workflow


def _check(arguments: Any) -> None:
    """End with one line for each mistake in the experiment's files and `--config`.

    Snakemake's messages do not say where a mistake is.
    """
    lines = [line for file in arguments.configfile for line in check_file(file)]
    keys = Schema().root["properties"]
    for entry in arguments.config or []:
        key, given, _ = entry.partition("=")
        if not given:
            lines.append(f"--config {entry}: must be written KEY=VALUE")
        elif key not in keys:
            lines.append(f"--config {entry}: unknown key{did_you_mean(key, keys)}")
    if lines:
        sys.exit("\n".join(lines))


def _planned(api: SnakemakeApi, words: Sequence[str]) -> Any:
    _, arguments = parse_args(words)
    _check(arguments)
    older = {DeploymentMethod.CONDA: arguments.use_conda, DeploymentMethod.APPTAINER: arguments.use_apptainer}
    deployment = {*arguments.software_deployment_method, *(method for method, used in older.items() if used)}
    workflow = api.workflow(
        resource_settings=ResourceSettings(
            cores=1,
            max_threads=arguments.max_threads,
            resources=arguments.resources,
            overwrite_threads=arguments.set_threads,
            overwrite_resources=arguments.set_resources,
            overwrite_resource_scopes=arguments.set_resource_scopes,
            overwrite_scatter=arguments.set_scatter,
            default_resources=arguments.default_resources,
        ),
        config_settings=ConfigSettings(
            config=parse_config(arguments.config),
            configfiles=[path.resolve() for path in arguments.configfile],
            config_args=arguments.config,
            replace_workflow_config=arguments.replace_workflow_config,
        ),
        deployment_settings=DeploymentSettings(deployment_method=deployment),
        snakefile=arguments.snakefile or snakefile(),
        workdir=arguments.directory,
    )
    planned = workflow.dag(
        DAGSettings(
            targets=arguments.targets,
            batch=arguments.batch,
            forcetargets=arguments.force,
            forceall=arguments.forceall,
            forcerun=arguments.forcerun,
            until=arguments.until,
            omit_from=arguments.omit_from,
            force_incomplete=arguments.rerun_incomplete,
            allowed_rules=arguments.allowed_rules,
            rerun_triggers=arguments.rerun_triggers,
        )
    )
    logger.handlers.clear()  # these commands spare people Snakemake's own messages
    planned.execute_workflow(executor="dryrun")
    return workflow._workflow
