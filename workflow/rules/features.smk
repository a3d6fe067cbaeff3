# One vector per image, and the nearest neighbors of every image.


scattergather:
    extract_features=1,


rule extract_part:
    input:
        images="results/data/{dataset}/{split}/images.bin",
        manifest="results/data/{dataset}/{split}/images.json",
        model="results/backbones/{backbone}/model.json",
        weights="results/backbones/{backbone}/model.safetensors",
    output:
        provenance=temp(PART),
    log:
        "logs/extract_part/{dataset}/{backbone}/{split}/{scatteritem}.log",
    conda:
        "../../envs/torch.yaml"
    threads: 16
    params:
        *code("extract_part"),
        options=extract_options,
        command=command("extract_part"),
    message:
        "Features of {wildcards.dataset} ({wildcards.split}) from {wildcards.backbone}, part {wildcards.scatteritem}"
    shell:
        "python {params.command} --progress {log}.progress --threads {threads} --provenance {output.provenance}"
        " --images {input.images} --model {input.model} --part {wildcards.scatteritem}"
        " --output results/features/{wildcards.dataset}/{wildcards.backbone}/{wildcards.split}/features.npy"
        " {params.options} > {log} 2>&1"


rule extract_features:
    input:
        images="results/data/{dataset}/{split}/images.bin",
        manifest="results/data/{dataset}/{split}/images.json",
        model="results/backbones/{backbone}/model.json",
        weights="results/backbones/{backbone}/model.safetensors",
        parts=parts,
    output:
        features="results/features/{dataset}/{backbone}/{split}/features.npy",
        provenance="results/features/{dataset}/{backbone}/{split}/features.provenance.json",
    log:
        "logs/extract_features/{dataset}/{backbone}/{split}.log",
    conda:
        "../../envs/torch.yaml"
    threads: 16
    params:
        *code("extract_features"),
        options=extract_options,
        command=command("extract_features"),
        parts=parts_flag,
    message:
        "Features of {wildcards.dataset} ({wildcards.split}) from {wildcards.backbone}"
    shell:
        "python {params.command} --progress {log}.progress --threads {threads} --provenance {output.provenance}"
        " --images {input.images} --model {input.model} {params.parts} --output {output.features}"
        " {params.options} > {log} 2>&1"


rule find_neighbors:
    input:
        features=joined_features,
    output:
        neighbors="results/features/{dataset}/{backbone}/{split}/{kind}.npy",
        provenance="results/features/{dataset}/{backbone}/{split}/{kind}.provenance.json",
    log:
        "logs/find_neighbors/{dataset}/{backbone}/{split}/{kind}.log",
    wildcard_constraints:
        split=f"({SPLIT})(\\+({SPLIT}))*",
        kind="neighbors|half_whitened_neighbors",
    conda:
        "../../envs/clustering.yaml"
    threads: 16
    params:
        *code("find_neighbors"),
        options=neighbor_options,
        command=command("find_neighbors"),
    message:
        "Neighbors in {wildcards.dataset} ({wildcards.split}) by {wildcards.backbone}: {wildcards.kind}"
    shell:
        "python {params.command} --progress {log}.progress --threads {threads} --provenance {output.provenance}"
        " --features {input.features} --output {output.neighbors} {params.options} > {log} 2>&1"
