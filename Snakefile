# Deep image clustering: dataset -> backbone -> features -> clustering heads -> scores -> report.
# Options are in config.yaml or experiments/*.yaml (docs/options.md); how results hang together is in docs/architecture.md.

from snakemake.utils import min_version

min_version("9.20")


include: "workflow/rules/common.smk"


if PLANNED is None and not workflow.overwrite_configfiles:

    configfile: default_experiment()


report: "workflow/report/workflow.rst"


JOBS = planned_jobs(config, workflow.configfiles)


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


stop_with(profile_errors(workflow.resource_settings, [rule.name for rule in workflow.rules], ["extract_features"]))


onstart:
    before_the_first_job()


onsuccess:
    after_the_last_job()


onerror:
    after_the_last_job(failed=True)
