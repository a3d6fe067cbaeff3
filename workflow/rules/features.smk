# One vector per image, and the nearest neighbors of every image.


scattergather:
    extract_features=1,


rule extract_part:
    input:
        unpack(inputs("extract_part")),
    output:
        **outputs(
            "extract_part",
            provenance=temp,
        ),
    log:
        log_of("extract_part"),
    conda:
        "../../envs/torch.yaml"
    threads: 16
    params:
        **job("extract_part"),
    message:
        "Features of {wildcards.dataset} ({wildcards.split}) from {wildcards.backbone}, part {wildcards.scatteritem}"
    shell:
        COMMAND


rule extract_features:
    input:
        unpack(inputs("extract_features")),
        parts=parts,
    output:
        **outputs("extract_features"),
    log:
        log_of("extract_features"),
    conda:
        "../../envs/torch.yaml"
    threads: 16
    params:
        **job("extract_features"),
    message:
        "Features of {wildcards.dataset} ({wildcards.split}) from {wildcards.backbone}"
    shell:
        COMMAND


rule find_neighbors:
    input:
        unpack(inputs("find_neighbors")),
    output:
        **outputs("find_neighbors"),
    log:
        log_of("find_neighbors"),
    wildcard_constraints:
        split=SPLITS_READ_TOGETHER,
        kind="neighbors|half_whitened_neighbors",
    conda:
        "../../envs/clustering.yaml"
    threads: 16
    params:
        **job("find_neighbors"),
    message:
        "Neighbors in {wildcards.dataset} ({wildcards.split}) by {wildcards.backbone}: {wildcards.kind}"
    shell:
        COMMAND
