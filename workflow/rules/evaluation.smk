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


rule score_snapshots:
    input:
        unpack(snapshot_inputs),
        snapshots="results/backbones/{backbone}/snapshots",
    output:
        scores="results/evaluation/{dataset}/{backbone}/snapshots.json",
        provenance="results/evaluation/{dataset}/{backbone}/snapshots.provenance.json",
    log:
        "logs/score_snapshots/{dataset}/{backbone}.log",
    conda:
        "../../envs/snapshots.yaml"
    threads: 16
    params:
        *code("score_snapshots"),
        options=snapshot_options,
        command=command("score_snapshots"),
    message:
        "Score the snapshots of {wildcards.backbone} on {wildcards.dataset}"
    shell:
        "python {params.command} --progress {log}.progress --threads {threads} --provenance {output.provenance}"
        " --snapshots {input.snapshots} --images_train {input.images_train} --labels_train {input.labels_train}"
        " --images_score {input.images_score} --labels_score {input.labels_score} --classes {input.classes}"
        " --output {output.scores} {params.options} > {log} 2>&1"


rule probe_layers:
    input:
        model="results/backbones/{backbone}/model.json",
        weights="results/backbones/{backbone}/model.safetensors",
        train_images=held_out_files("train", IMAGES),
        train_manifests=held_out_files("train", MANIFESTS),
        train_labels=held_out_files("train", LABELS),
        score_images=held_out_files("score", IMAGES),
        score_manifests=held_out_files("score", MANIFESTS),
        score_labels=held_out_files("score", LABELS),
    output:
        table="results/evaluation/{dataset}/{backbone}/layers.csv",
        provenance="results/evaluation/{dataset}/{backbone}/layers.provenance.json",
    log:
        "logs/probe_layers/{dataset}/{backbone}.log",
    conda:
        "../../envs/torch.yaml"
    threads: 16
    params:
        *code("probe_layers"),
        options=layer_probe_options,
        command=command("probe_layers"),
        score=score_flags,
    message:
        "Linear probes behind the stages of {wildcards.backbone} on {wildcards.dataset}"
    shell:
        "python {params.command} --progress {log}.progress --threads {threads} --provenance {output.provenance}"
        " --model {input.model} --images_train {input.train_images} --labels_train {input.train_labels} {params.score}"
        " --output {output.table} {params.options} > {log} 2>&1"


rule evaluate:
    input:
        clusters=f"results/clustering/{RUN}/clusters.safetensors",
        seeds=f"results/clustering/{RUN}/seeds.json",
        cost=ancient(f"results/clustering/{RUN}/clusters.provenance.json"),
        features=split_files("score", FEATURES),
        neighbors=joined_neighbors("score", HALF_WHITENED),
        labels=split_files("score", LABELS),
        classes=split_files("score", CLASSES),
        ids=split_files("all", IDS),
        manifests=split_files("score", MANIFESTS),
        probe="results/evaluation/{dataset}/{backbones}/probe/{protocol}.json",
    output:
        metrics=f"results/evaluation/{RUN}/metrics.json",
        assignments=f"results/evaluation/{RUN}/assignments.csv",
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
        " --ids {input.ids} --manifests {input.manifests} --assignments {output.assignments} --output {output.metrics} {params.options} > {log} 2>&1"


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
