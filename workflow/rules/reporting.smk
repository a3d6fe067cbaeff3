# Figures, and the page that puts them together.


rule project_map:
    input:
        features=split_files("score", FEATURES),
    output:
        map="results/report/{dataset}/{backbones}/{protocol}/map.safetensors",
        provenance="results/report/{dataset}/{backbones}/{protocol}/map.provenance.json",
    log:
        "logs/project_map/{dataset}/{backbones}/{protocol}.log",
    conda:
        "../../envs/report.yaml"
    threads: 1
    params:
        *code("project_map"),
        options=map_options,
        command=command("project_map"),
    message:
        "Map the features of {wildcards.dataset} from {wildcards.backbones}"
    shell:
        "python {params.command} --progress {log}.progress --threads {threads} --provenance {output.provenance}"
        " --features {input.features} --output {output.map} {params.options} > {log} 2>&1"


rule plot_run:
    input:
        metrics=f"results/evaluation/{RUN}/metrics.json",
        clusters=f"results/clustering/{RUN}/clusters.safetensors",
        images=split_files("score", IMAGES),
        manifests=split_files("score", MANIFESTS),
        labels=split_files("score", LABELS),
        map="results/report/{dataset}/{backbones}/{protocol}/map.safetensors",
    output:
        confusion=report(
            f"results/report/{RUN}/confusion.png",
            caption="../report/confusion.rst",
            category="Runs",
            subcategory="{dataset}, k = {k}, {protocol}",
            labels={
                "backbone": "{backbones}",
                "head": "{head}",
                "figure": "confusion",
            },
        ),
        gallery=report(
            f"results/report/{RUN}/gallery.png",
            caption="../report/gallery.rst",
            category="Runs",
            subcategory="{dataset}, k = {k}, {protocol}",
            labels={"backbone": "{backbones}", "head": "{head}", "figure": "gallery"},
        ),
        map_figure=report(
            f"results/report/{RUN}/map.png",
            caption="../report/map.rst",
            category="Runs",
            subcategory="{dataset}, k = {k}, {protocol}",
            labels={"backbone": "{backbones}", "head": "{head}", "figure": "map"},
        ),
        provenance=f"results/report/{RUN}/figures.provenance.json",
    log:
        f"logs/plot_run/{RUN}.log",
    conda:
        "../../envs/report.yaml"
    threads: 1
    params:
        *code("plot_run"),
        options=figure_options,
        command=command("plot_run"),
    message:
        "Draw {wildcards.head} on {wildcards.backbones}: {wildcards.dataset}, k = {wildcards.k}"
    shell:
        "python {params.command} --progress {log}.progress --threads {threads} --provenance {output.provenance}"
        " --metrics {input.metrics} --clusters {input.clusters} --images {input.images} --labels {input.labels}"
        " --map {input.map} --confusion {output.confusion} --gallery {output.gallery} --map_figure {output.map_figure}"
        " {params.options} > {log} 2>&1"


rule plot_choice_of_k:
    input:
        choice=CHOSEN_K,
    output:
        figure=report(
            CHOICE_FIGURE,
            caption="../report/choice_of_k.rst",
            category="Number of clusters",
            labels={
                "dataset": "{dataset}",
                "backbone": "{backbones}",
                "protocol": "{protocol}",
            },
        ),
        provenance="results/report/{dataset}/{backbones}/{protocol}/k.provenance.json",
    log:
        "logs/plot_choice_of_k/{dataset}/{backbones}/{protocol}.log",
    localrule: True
    conda:
        "../../envs/report.yaml"
    params:
        *code("plot_choice_of_k"),
        command=command("plot_choice_of_k"),
    message:
        "Draw how the number of clusters of {wildcards.dataset} was chosen by {wildcards.backbones}"
    shell:
        "python {params.command} --progress {log}.progress --provenance {output.provenance}"
        " --choice {input.choice} --output {output.figure} > {log} 2>&1"


rule plot_training:
    input:
        logs=training_logs,
    output:
        figure=report(
            "results/report/training.png",
            caption="../report/training.rst",
            category="Pretraining",
            labels={"figure": "training curves"},
        ),
        provenance="results/report/training.provenance.json",
    log:
        "logs/plot_training.log",
    localrule: True
    conda:
        "../../envs/report.yaml"
    params:
        *code("plot_training"),
        command=command("plot_training"),
    message:
        "Draw how pretraining went"
    shell:
        "python {params.command} --progress {log}.progress --provenance {output.provenance}"
        " --logs {input.logs} --output {output.figure} > {log} 2>&1"


rule plot_snapshots:
    input:
        scores=snapshot_scores,
    output:
        figure=report(
            "results/report/snapshots.png",
            caption="../report/snapshots.rst",
            category="Pretraining",
            labels={"figure": "scores over epochs"},
        ),
        provenance="results/report/snapshots.provenance.json",
    log:
        "logs/plot_snapshots.log",
    localrule: True
    conda:
        "../../envs/report.yaml"
    params:
        *code("plot_snapshots"),
        command=command("plot_snapshots"),
    message:
        "Draw the scores of snapshots over epochs"
    shell:
        "python {params.command} --progress {log}.progress --provenance {output.provenance}"
        " --scores {input.scores} --output {output.figure} > {log} 2>&1"


rule plot_layers:
    input:
        tables=layer_tables,
    output:
        figure=report(
            "results/report/layers.png",
            caption="../report/layers.rst",
            category="Pretraining",
            labels={"figure": "linear probe per layer"},
        ),
        provenance="results/report/layers.provenance.json",
    log:
        "logs/plot_layers.log",
    localrule: True
    conda:
        "../../envs/report.yaml"
    params:
        *code("plot_layers"),
        command=command("plot_layers"),
    message:
        "Draw how well each stage of the networks can be read"
    shell:
        "python {params.command} --progress {log}.progress --provenance {output.provenance}"
        " --tables {input.tables} --output {output.figure} > {log} 2>&1"


rule plot_leaderboard:
    input:
        metrics=run_files(METRICS),
        metric_list="results/lists/metrics.txt",
    output:
        figure=report(
            "results/report/leaderboard.png",
            caption="../report/leaderboard_figure.rst",
            category="Leaderboard",
            labels={"what": "All runs", "as": "figure"},
        ),
        provenance="results/report/leaderboard.provenance.json",
    log:
        "logs/plot_leaderboard.log",
    localrule: True
    conda:
        "../../envs/report.yaml"
    params:
        *code("plot_leaderboard"),
        asset_contents=contents(PUBLISHED),
        assets=flags(published=PUBLISHED),
        command=command("plot_leaderboard"),
    message:
        "Draw all runs beside their ceilings and published results"
    shell:
        "python {params.command} --progress {log}.progress --provenance {output.provenance}"
        " --metrics @{input.metric_list} {params.assets} --output {output.figure} > {log} 2>&1"


rule list_runs:
    output:
        metrics="results/lists/metrics.txt",
        records="results/lists/records.txt",
        figures="results/lists/figures.txt",
        jobs="results/lists/jobs.txt",
    log:
        "logs/list_runs.log",
    localrule: True
    params:
        lists=run_lists,
    message:
        "List the files of all runs: a thousand of them do not fit on a command line"
    run:
        write_files(output, params.lists)


rule write_experiment:
    output:
        experiment=report(
            "results/experiment.yaml",
            caption="../report/experiment.rst",
            category="Experiment",
            labels={"what": "All options with their defaults"},
        ),
    log:
        "logs/write_experiment.log",
    localrule: True
    params:
        text=experiment_yaml,
    message:
        "Write down the experiment with all its defaults"
    run:
        write_files(output, [params.text])


rule report_page:
    input:
        metrics=run_files(METRICS),
        records=run_files(RECORDS),
        figures=run_files(*FIGURES),
        metric_list="results/lists/metrics.txt",
        record_list="results/lists/records.txt",
        figure_list="results/lists/figures.txt",
        job_list="results/lists/jobs.txt",
        leaderboard="results/leaderboard.csv",
        leaderboard_figure="results/report/leaderboard.png",
        training=training_figure,
        snapshots=snapshots_figure,
        layers=layer_figure,
        choices=choices_of_k(CHOSEN_K),
        choice_figures=choices_of_k(CHOICE_FIGURE),
        experiment="results/experiment.yaml",
    output:
        page=report(
            "results/report.html",
            caption="../report/report_page.rst",
            category="Leaderboard",
            labels={"what": "All runs", "as": "page that stands alone"},
        ),
        provenance="results/report.provenance.json",
    log:
        "logs/report_page.log",
    localrule: True
    conda:
        "../../envs/report.yaml"
    params:
        *code("report_page"),
        asset_contents=contents(PUBLISHED, PAGE_TEMPLATE, PAGE_STYLE),
        assets=flags(published=PUBLISHED, template=PAGE_TEMPLATE, style=PAGE_STYLE),
        options=page_options,
        command=command("report_page"),
        training=training_flag,
        snapshots=snapshots_flag,
        layers=layer_flag,
        choices=choices_flag,
    message:
        "Put everything on one page: results/report.html"
    shell:
        "python {params.command} --progress {log}.progress --provenance {output.provenance}"
        " --metrics @{input.metric_list} --records @{input.record_list} --figures @{input.figure_list}"
        " --jobs @{input.job_list}"
        " --leaderboard {input.leaderboard} --leaderboard_figure {input.leaderboard_figure} {params.training}"
        " {params.snapshots} {params.layers} {params.choices} {params.assets} --config {input.experiment}"
        " --output {output.page} {params.options} > {log} 2>&1"
