# Deep image clustering: dataset -> backbone -> features -> clustering heads -> scores -> report.
# Options are in config.yaml or experiments/*.yaml (docs/options.md); how results hang together is in docs/architecture.md.

from snakemake.utils import min_version

min_version("9.20")


include: "workflow/rules/common.smk"


if PLANNED is None and not workflow.overwrite_configfiles:

    configfile: default_experiment()


report: "workflow/report/workflow.rst"


EXPERIMENT = plan_experiment(config, workflow.configfiles)


# Only for --sdm apptainer: apptainer build envs/deepclust.sif envs/deepclust.def
container: image()


wildcard_constraints:
    dataset=NAME,
    split=SPLIT,
    backbone=NAME,
    backbones=f"{NAME}(\\+{NAME})*",
    head=NAME,
    k="[0-9]+|auto",
    protocol="|".join(PROTOCOLS),


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
        lost=lost_results,
    localrule: True
    message:
        "All results of the experiment"


check_profile()


onstart:
    check_submission()
    freeze_plan()
    announce_downloads()
    announce_parts()
    watch_jobs()


onsuccess:
    show_results()
    show_notes()


onerror:
    show_notes()
