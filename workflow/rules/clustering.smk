# Clustering heads on features, all seeds of a run in one job. No label is an input here or anywhere before.


rule choose_k:
    input:
        features=split_files("train", FEATURES),
    output:
        choice=CHOSEN_K,
        provenance="results/clustering/{dataset}/{backbones}/k/{protocol}.provenance.json",
    log:
        "logs/choose_k/{dataset}/{backbones}/{protocol}.log",
    conda:
        "../../envs/clustering.yaml"
    threads: 16
    params:
        *code("choose_k"),
        options=choose_k_options,
        command=command("choose_k"),
    message:
        "Choose the number of clusters in {wildcards.dataset} by {wildcards.backbones}"
    shell:
        "python {params.command} --progress {log}.progress --threads {threads} --provenance {output.provenance}"
        " --features {input.features} --output {output.choice} {params.options} > {log} 2>&1"


rule cluster:
    input:
        features=split_files("all", FEATURES),
        neighbors=cluster_neighbors,
        members=cluster_members,
        native=cluster_native,
        chosen_k=cluster_k,
    output:
        clusters=f"results/clustering/{RUN}/clusters.safetensors",
        seeds=f"results/clustering/{RUN}/seeds.json",
        provenance=f"results/clustering/{RUN}/clusters.provenance.json",
    log:
        f"logs/cluster/{RUN}.log",
    conda:
        "../../envs/clustering.yaml"
    threads: 16
    params:
        *code("cluster"),
        head_code=method_code("cluster", head_modules),
        options=cluster_options,
        command=command("cluster", head_modules),
        neighbors=neighbors_flag,
        members=members_flag,
        native=native_flag,
        k=k_flag,
    message:
        "Cluster {wildcards.dataset}, k = {wildcards.k}, with {wildcards.head} on {wildcards.backbones}"
    shell:
        "python {params.command} --progress {log}.progress --threads {threads} --provenance {output.provenance}"
        " --features {input.features} {params.neighbors} {params.members} {params.native} {params.k} --output {output.clusters} --log {output.seeds} {params.options} > {log} 2>&1"
