# Figures, and the page that puts them together.


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
            confusion=partial(
                report,
                caption="../report/confusion.rst",
                category="Runs",
                subcategory="{dataset}, k = {k}, {protocol}",
                labels={
                    "backbone": "{backbones}",
                    "head": "{head}",
                    "figure": "confusion",
                },
            ),
            gallery=partial(
                report,
                caption="../report/gallery.rst",
                category="Runs",
                subcategory="{dataset}, k = {k}, {protocol}",
                labels={"backbone": "{backbones}", "head": "{head}", "figure": "gallery"},
            ),
            map_figure=partial(
                report,
                caption="../report/map.rst",
                category="Runs",
                subcategory="{dataset}, k = {k}, {protocol}",
                labels={"backbone": "{backbones}", "head": "{head}", "figure": "map"},
            ),
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


rule plot_choice_of_k:
    input:
        unpack(inputs("plot_choice_of_k")),
    output:
        **outputs(
            "plot_choice_of_k",
            figure=partial(
                report,
                caption="../report/choice_of_k.rst",
                category="Number of clusters",
                labels={
                    "dataset": "{dataset}",
                    "backbone": "{backbones}",
                    "protocol": "{protocol}",
                },
            ),
        ),
    log:
        log_of("plot_choice_of_k"),
    localrule: True
    conda:
        "../../envs/report.yaml"
    params:
        **job("plot_choice_of_k"),
    message:
        "Draw how the number of clusters of {wildcards.dataset} was chosen by {wildcards.backbones}"
    shell:
        COMMAND


rule plot_training:
    input:
        unpack(inputs("plot_training")),
    output:
        **outputs(
            "plot_training",
            figure=partial(
                report,
                caption="../report/training.rst",
                category="Pretraining",
                labels={"figure": "training curves"},
            ),
        ),
    log:
        log_of("plot_training"),
    localrule: True
    conda:
        "../../envs/report.yaml"
    params:
        **job("plot_training"),
    message:
        "Draw how pretraining went"
    shell:
        COMMAND


rule plot_snapshots:
    input:
        unpack(inputs("plot_snapshots")),
    output:
        **outputs(
            "plot_snapshots",
            figure=partial(
                report,
                caption="../report/snapshots.rst",
                category="Pretraining",
                labels={"figure": "scores over epochs"},
            ),
        ),
    log:
        log_of("plot_snapshots"),
    localrule: True
    conda:
        "../../envs/report.yaml"
    params:
        **job("plot_snapshots"),
    message:
        "Draw the scores of snapshots over epochs"
    shell:
        COMMAND


rule plot_layers:
    input:
        unpack(inputs("plot_layers")),
    output:
        **outputs(
            "plot_layers",
            figure=partial(
                report,
                caption="../report/layers.rst",
                category="Pretraining",
                labels={"figure": "linear probe per layer"},
            ),
        ),
    log:
        log_of("plot_layers"),
    localrule: True
    conda:
        "../../envs/report.yaml"
    params:
        **job("plot_layers"),
    message:
        "Draw how well each stage of the networks can be read"
    shell:
        COMMAND


rule plot_leaderboard:
    input:
        unpack(inputs("plot_leaderboard")),
    output:
        **outputs(
            "plot_leaderboard",
            figure=partial(
                report,
                caption="../report/leaderboard_figure.rst",
                category="Leaderboard",
                labels={"what": "All runs", "as": "figure"},
            ),
        ),
    log:
        log_of("plot_leaderboard"),
    localrule: True
    conda:
        "../../envs/report.yaml"
    params:
        **job("plot_leaderboard"),
    message:
        "Draw all runs beside their ceilings and published results"
    shell:
        COMMAND


rule list_runs:
    output:
        **outputs("list_runs"),
    log:
        log_of("list_runs"),
    localrule: True
    params:
        lists=lambda wildcards: JOBS.graph.lists(),
    message:
        "List the files of all runs: a thousand of them do not fit on a command line"
    run:
        for path, text in zip(output, params.lists):
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
        text=experiment_text(JOBS.parameters.config),
    message:
        "Write down the experiment with all its defaults"
    run:
        write_text(Path(output.experiment), params.text)


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
