# Figures, and the page that puts them together.


rule project_map:
    input:
        features=split_files("score", FEATURES),
    output:
        map="results/report/{dataset}/{backbones}/{protocol}/map.safetensors",
        provenance="results/report/{dataset}/{backbones}/{protocol}/map.provenance.json",
    log:
        "logs/project_map/{dataset}/{backbones}/{protocol}.log",
    message:
        "Map the features of {wildcards.dataset} from {wildcards.backbones}"
    conda:
        "../../envs/report.yaml"
    params:
        *code("project_map"),
        options=map_options,
        command=command("project_map"),
    threads: 4
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
            labels={"backbone": "{backbones}", "head": "{head}", "figure": "confusion"},
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
    message:
        "Draw {wildcards.head} on {wildcards.backbones}: {wildcards.dataset}, k = {wildcards.k}"
    conda:
        "../../envs/report.yaml"
    params:
        *code("plot_run"),
        options=figure_options,
        command=command("plot_run"),
    shell:
        "python {params.command} --progress {log}.progress --threads {threads} --provenance {output.provenance}"
        " --metrics {input.metrics} --clusters {input.clusters} --images {input.images} --labels {input.labels}"
        " --map {input.map} --confusion {output.confusion} --gallery {output.gallery} --map_figure {output.map_figure}"
        " {params.options} > {log} 2>&1"


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
    message:
        "Draw how pretraining went"
    conda:
        "../../envs/report.yaml"
    localrule: True
    params:
        *code("plot_training"),
        command=command("plot_training"),
    shell:
        "python {params.command} --progress {log}.progress --provenance {output.provenance}"
        " --logs {input.logs} --output {output.figure} > {log} 2>&1"


rule plot_leaderboard:
    input:
        metrics=run_files("results/evaluation/{run}/metrics.json"),
        published=PUBLISHED,
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
    message:
        "Draw all runs beside their ceilings and published results"
    conda:
        "../../envs/report.yaml"
    localrule: True
    params:
        *code("plot_leaderboard"),
        command=command("plot_leaderboard"),
    shell:
        "python {params.command} --progress {log}.progress --provenance {output.provenance}"
        " --metrics {input.metrics} --published {input.published} --output {output.figure} > {log} 2>&1"
