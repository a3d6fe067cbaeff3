# The experiment, its files and its jobs for the rules; and the hooks around a workflow.

import gc
import re
import sys
import time
from functools import partial
from pathlib import Path

sys.path.insert(0, str(HOME / "workflow" / "scripts"))

from deepclust.core.figures import figures
from deepclust.planning.ending import ending, stop_with

ending(figures)()  # before the paths of the rules are made from them

from snakemake.io import IOFile
from snakemake.settings.types import DeploymentMethod

from deepclust.core.files import write_text
from deepclust.planning.downloads import announcement, planned_downloads
from deepclust.planning.environment import place_errors, prefer_this_python
from deepclust.planning.frozen import freeze, thaw
from deepclust.planning.graph import JobGraph
from deepclust.planning.jobs import COMMAND, Jobs, other_parts, shown
from deepclust.planning.layout import RULES, SPLITS_READ_TOGETHER, WILDCARDS, file, log_of, rule_of
from deepclust.planning.parameters import Parameters
from deepclust.planning.plan import make_plan
from deepclust.planning.reasons import ReasonsInWords
from deepclust.planning.strict_yaml import check_file, experiment_text
from deepclust.planning.terminal import Watcher, closing_table, log_notes
from deepclust.slurm.checks import folder_errors, launcher_errors, profile_errors, submit_to_slurm

STARTED = time.time()
gc.set_threshold(100_000)  # planning makes millions of objects that stay; to look for others took a sixth of its time


def default_experiment():
    """Return `config.yaml` of the working directory, else the one beside the Snakefile."""
    here = Path("config.yaml")
    path = here if here.exists() else HOME / here
    stop_with(check_file(path))  # before Snakemake reads it, whose messages do not say where
    return str(path)


def given_experiment():
    """Tell whether somebody named an experiment: --configfile, or the `config` of a workflow that uses this one."""
    return workflow.modifier.skip_configfile if IS_MODULE else bool(workflow.overwrite_configfiles)


@ending
def planned_jobs(config):
    """Return the jobs of the experiment; a job that plans again goes by the frozen plan, not by the present files."""
    files = [] if PLANNED or IS_MODULE else [Path(file) for file in workflow.configfiles]
    parameters = Parameters(make_plan(PLANNED.config if PLANNED else dict(config), files))
    return Jobs(parameters, JobGraph(parameters), dict(PLANNED.code) if PLANNED else {})


prefer_this_python()
ReasonsInWords.install(workflow)
stop_with(place_errors(str(workflow.main_snakefile)))
PLANNED = ending(thaw)() if workflow.remote_exec or workflow.subprocess_exec else None


def image():
    """Return the container of all jobs, if they run in one: Snakemake refuses blanks even in a path it does not use."""
    if DeploymentMethod.APPTAINER not in workflow.deployment_settings.deployment_method:
        return None
    path = shown(HOME / "envs" / "deepclust.sif")
    if not re.fullmatch(r"[\w/.@%+=:,-]+", path):
        stop_with(
            [f"Snakemake cannot name {path} to Apptainer: run it in the folder of the clone, without --directory"]
        )
    return path


def inputs(rule, **flags):
    """Return the inputs of a rule, as a function for `unpack`; flags are Snakemake's (`ancient`), by an input's name."""

    @ending
    def files(wildcards):
        named = JOBS.graph.inputs(rule, dict(wildcards.items()))
        return {name: flags[name](value) if name in flags else value for name, value in named.items()}

    return files


def outputs(rule, **flags):
    """Return the outputs of a rule by name; flags are Snakemake's (`directory`, `report`), by an output's name."""
    return {name: flags[name](path) if name in flags else path for name, path in RULES[rule].outputs.items()}


def job(rule):
    """Return the parameters of a rule: its code, its options, its command line."""
    return {name: ending(value) if callable(value) else value for name, value in JOBS.params(rule).items()}


def parts(wildcards):
    """Return the records of the parts that features are put together from; none if one job makes them.

    Features that are there keep the parts they were made in, so that another number of parts makes nothing anew.
    """
    features = IOFile(file("extract_features", "features", **dict(wildcards.items())))
    if PLANNED is not None:
        return PLANNED.parts.get(features, [])
    made = workflow.persistence.input(features) if Path(features).exists() else None
    if made is None:
        number = workflow.resource_settings.overwrite_scatter.get("extract_features", 1)
        record = RULES["extract_part"].outputs["provenance"]
        made = gather.extract_features(record, **dict(wildcards.items())) if number > 1 else []
    records = [path for path in made if Path(path).parent.name == "parts"]
    return sorted(records, key=lambda path: int(Path(path).name.split("-")[0]))


def before_the_first_job():
    """End if results cannot be written or jobs do not fit the cluster; freeze the plan; say what comes."""
    jobs = list(workflow.dag.needrun_jobs())
    stop_with(folder_errors([Path("results"), Path("logs"), Path("resources")]))
    if any(rule_of(each) == "pretrain" for each in jobs):
        stop_with(launcher_errors(JOBS.parameters.config["launcher"]))
    if type(workflow.executor_settings).__module__ == "snakemake_executor_plugin_slurm":
        stop_with(submit_to_slurm(workflow.executor_settings, jobs, Path.cwd(), workflow.nodes))
    for each in jobs:
        each.params  # they are not made before they are asked for, and ask for the digests
    extracted = [each for each in jobs if rule_of(each) == "extract_features"]
    parts_of = {str(each.output.features): list(map(str, each.input.parts)) for each in extracted}
    freeze(JOBS.parameters.config, JOBS.digests, parts_of, Path(".snakemake") / "deepclust")
    wanted = workflow.resource_settings.overwrite_scatter.get("extract_features", 1)
    lines = announcement(*planned_downloads(jobs)) + other_parts(parts_of, wanted)
    print(*lines, sep="\n", end="\n" if lines else "", file=sys.stderr)
    Watcher(Path("logs")).start()


def after_the_last_job(failed=False):
    """Print the closing table, if this workflow made it; reasons of failed jobs, and warnings."""
    table, page = Path(RULES["leaderboard"].outputs["table"]), Path(RULES["report_page"].outputs["page"])
    if not failed and any(path.exists() and path.stat().st_mtime >= STARTED for path in (table, page)):
        print(closing_table(table, page, JOBS.graph.made_by("pixels")), file=sys.stderr)
    if notes := log_notes(Path("logs"), STARTED):
        print(*notes, sep="\n", file=sys.stderr)
