# Clustering heads on features, all seeds of a run in one job. No label is an input here or anywhere before.


rule cluster:
    input:
        features=split_files("all", FEATURES),
        neighbors=cluster_neighbors,
        members=cluster_members,
        native=cluster_native,
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
    message:
        "Cluster {wildcards.dataset} into {wildcards.k} with {wildcards.head} on {wildcards.backbones}"
    shell:
        "python {params.command} --progress {log}.progress --threads {threads} --provenance {output.provenance}"
        " --features {input.features} {params.neighbors} {params.members} {params.native} --output {output.clusters} --log {output.seeds} {params.options} > {log} 2>&1"
