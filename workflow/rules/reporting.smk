# Figures, and the page that puts them together.

from deepclust.core.figures import figures
from deepclust.planning.captions import caption_file

CAPTIONS = Path(".snakemake/deepclust/captions").absolute()


rule project_map:
    input:
        unpack(inputs("project_map")),
    output:
        **outputs("project_map"),
    log:
        log_of("project_map"),
    conda:
        "../../envs/report.yaml"
    threads: 1
    params:
        **job("project_map"),
    message:
        "Map the features of {wildcards.dataset} from {wildcards.backbones}"
    shell:
        COMMAND


rule plot_run:
    input:
        unpack(inputs("plot_run")),
    output:
        **outputs(
            "plot_run",
            **{
                name: partial(
                    report,
                    caption=caption_file([name], CAPTIONS),
                    category=figure.facts.heading,
                    subcategory="{dataset}, k = {k}, {protocol}",
                    labels={"backbone": "{backbones}", "head": "{head}", "figure": figure.facts.title},
                )
                for name, figure in figures("run").items()
            },
        ),
    log:
        log_of("plot_run"),
    conda:
        "../../envs/report.yaml"
    threads: 1
    params:
        **job("plot_run"),
    message:
        "Draw {wildcards.head} on {wildcards.backbones}: {wildcards.dataset}, k = {wildcards.k}"
    shell:
        COMMAND


rule plot_setting:
    input:
        unpack(inputs("plot_setting")),
    output:
        **outputs(
            "plot_setting",
            figure=partial(
                report,
                caption=caption_file(figures("setting"), CAPTIONS),
                category=lambda wildcards: figures()[wildcards.figure].facts.heading,
                labels=lambda wildcards: {
                    "dataset": wildcards.dataset,
                    "backbone": wildcards.backbones,
                    "protocol": wildcards.protocol,
                    "figure": figures()[wildcards.figure].facts.title,
                },
            ),
        ),
    log:
        log_of("plot_setting"),
    wildcard_constraints:
        figure="|".join(figures("setting")) or "(?!)",
    localrule: True
    conda:
        "../../envs/report.yaml"
    params:
        **job("plot_setting"),
    message:
        "Draw {wildcards.figure} of {wildcards.dataset} by {wildcards.backbones}, {wildcards.protocol}"
    shell:
        COMMAND


rule plot_experiment:
    input:
        unpack(inputs("plot_experiment")),
    output:
        **outputs(
            "plot_experiment",
            figure=partial(
                report,
                caption=caption_file(figures("experiment"), CAPTIONS),
                category=lambda wildcards: figures()[wildcards.figure].facts.heading,
                labels=lambda wildcards: {
                    "what": figures()[wildcards.figure].facts.title,
                    "as": "figure",
                },
            ),
        ),
    log:
        log_of("plot_experiment"),
    wildcard_constraints:
        figure="|".join(figures("experiment")) or "(?!)",
    localrule: True
    conda:
        "../../envs/report.yaml"
    params:
        **job("plot_experiment"),
    message:
        "Draw {wildcards.figure} of the experiment"
    shell:
        COMMAND


rule list_runs:
    output:
        **outputs("list_runs"),
    log:
        log_of("list_runs"),
    localrule: True
    params:
        states=partial(JOBS.states, "list_runs"),
    message:
        "List the files of all runs: a thousand of them do not fit on a command line"
    run:
        for path, text in zip(output, JOBS.graph.lists()):
            write_text(Path(path), text)


rule write_experiment:
    output:
        **outputs(
            "write_experiment",
            experiment=partial(
                report,
                caption="../report/experiment.rst",
                category="Experiment",
                labels={"what": "All options with their defaults"},
            ),
        ),
    log:
        log_of("write_experiment"),
    localrule: True
    params:
        states=partial(JOBS.states, "write_experiment"),
    message:
        "Write down the experiment with all its defaults"
    run:
        write_text(Path(output.experiment), experiment_text(JOBS.parameters.config))


rule report_page:
    input:
        unpack(inputs("report_page")),
    output:
        **outputs(
            "report_page",
            page=partial(
                report,
                caption="../report/report_page.rst",
                category="Leaderboard",
                labels={"what": "All runs", "as": "page that stands alone"},
            ),
        ),
    log:
        log_of("report_page"),
    localrule: True
    conda:
        "../../envs/report.yaml"
    params:
        **job("report_page"),
    message:
        "Put everything on one page: results/report.html"
    shell:
        COMMAND
