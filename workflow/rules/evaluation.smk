# Scores. The only rules, beside the figures, that read labels.


rule probe:
    input:
        train_features=split_files("train", FEATURES),
        train_labels=split_files("train", LABELS),
        score_features=split_files("score", FEATURES),
        score_labels=split_files("score", LABELS),
    output:
        probe="results/evaluation/{dataset}/{backbones}/probe/{protocol}.json",
        provenance="results/evaluation/{dataset}/{backbones}/probe/{protocol}.provenance.json",
    log:
        "logs/probe/{dataset}/{backbones}/{protocol}.log",
    conda:
        "../../envs/evaluation.yaml"
    threads: 16
    params:
        *code("probe"),
        options=probe_options,
        command=command("probe"),
    message:
        "Ceilings of {wildcards.backbones} on {wildcards.dataset}: k-NN and linear probe"
    shell:
        "python {params.command} --progress {log}.progress --threads {threads} --provenance {output.provenance}"
        " --features_train {input.train_features} --labels_train {input.train_labels}"
        " --features_score {input.score_features} --labels_score {input.score_labels}"
        " --output {output.probe} {params.options} > {log} 2>&1"


rule evaluate:
    input:
        clusters=f"results/clustering/{RUN}/clusters.safetensors",
        seeds=f"results/clustering/{RUN}/seeds.json",
        cost=ancient(f"results/clustering/{RUN}/clusters.provenance.json"),
        features=split_files("score", FEATURES),
        neighbors=joined_neighbors("score"),
        labels=split_files("score", LABELS),
        classes=split_files("score", CLASSES),
        probe="results/evaluation/{dataset}/{backbones}/probe/{protocol}.json",
    output:
        metrics=f"results/evaluation/{RUN}/metrics.json",
        provenance=f"results/evaluation/{RUN}/metrics.provenance.json",
    log:
        f"logs/evaluate/{RUN}.log",
    conda:
        "../../envs/evaluation.yaml"
    threads: 2
    params:
        *code("evaluate"),
        options=evaluate_options,
        command=command("evaluate"),
    message:
        "Score {wildcards.head} on {wildcards.backbones}: {wildcards.dataset}, k = {wildcards.k}"
    shell:
        "python {params.command} --progress {log}.progress --threads {threads} --provenance {output.provenance}"
        " --clusters {input.clusters} --seeds_log {input.seeds} --cost {input.cost} --probe {input.probe}"
        " --features {input.features} --neighbors {input.neighbors} --labels {input.labels} --classes {input.classes}"
        " --output {output.metrics} {params.options} > {log} 2>&1"


rule leaderboard:
    input:
        metrics=run_files(METRICS),
        metric_list="results/lists/metrics.txt",
    output:
        table=report(
            "results/leaderboard.csv",
            caption="../report/leaderboard.rst",
            category="Leaderboard",
            labels={"what": "All runs", "as": "table"},
        ),
        provenance="results/leaderboard.provenance.json",
    log:
        "logs/leaderboard.log",
    localrule: True
    conda:
        "../../envs/evaluation.yaml"
    params:
        *code("leaderboard"),
        command=command("leaderboard"),
    message:
        "Put all runs into one table"
    shell:
        "python {params.command} --progress {log}.progress --provenance {output.provenance}"
        " --metrics @{input.metric_list} --output {output.table} > {log} 2>&1"
