# Clustering heads on features, all seeds of a run in one job. No label is an input here or anywhere before.


rule choose_k:
    input:
        unpack(inputs("choose_k")),
    output:
        **outputs("choose_k"),
    log:
        log_of("choose_k"),
    conda:
        "../../envs/clustering.yaml"
    threads: 16
    params:
        **job("choose_k"),
    message:
        "Choose the number of clusters in {wildcards.dataset} by {wildcards.backbones}"
    shell:
        COMMAND


rule cluster:
    input:
        unpack(inputs("cluster")),
    output:
        **outputs("cluster"),
    log:
        log_of("cluster"),
    conda:
        "../../envs/clustering.yaml"
    threads: 16
    params:
        **job("cluster"),
    message:
        "Cluster {wildcards.dataset}, k = {wildcards.k}, with {wildcards.head} on {wildcards.backbones}"
    shell:
        COMMAND
