# Deep image clustering: dataset -> backbone -> features -> clustering heads -> scores -> report.
# Options are in config.yaml or experiments/*.yaml (docs/options.md); how results hang together is in docs/architecture.md.

from pathlib import Path

from snakemake.utils import min_version

min_version("9.20")

HOME = Path(str(workflow.current_basedir))  # another workflow that uses this one as a module has a basedir of its own
IS_MODULE = not workflow.modifier.is_main_snakefile()


include: "workflow/rules/common.smk"


if PLANNED is None and not given_experiment():

    configfile: default_experiment()


report: "workflow/report/workflow.rst"


JOBS = planned_jobs(config)


# Only for --sdm apptainer: apptainer build envs/deepclust.sif envs/deepclust.def
container: image()


wildcard_constraints:
    **WILDCARDS,


include: "workflow/rules/data.smk"
include: "workflow/rules/backbones.smk"
include: "workflow/rules/features.smk"
include: "workflow/rules/clustering.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/reporting.smk"


rule all:
    default_target: True
    input:
        rules.report_page.output,
        lost=ending(lambda wildcards: JOBS.graph.lost()),
    localrule: True
    message:
        "All results of the experiment"


if not IS_MODULE:
    stop_with(profile_errors(workflow.resource_settings, [rule.name for rule in workflow.rules], ["extract_features"]))


onstart:
    before_the_first_job()


onsuccess:
    after_the_last_job()


onerror:
    after_the_last_job(failed=True)
